"""Settings that are fine each, but not together: each in a sentence, each with a remedy."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from cutwork.settings import Settings

OK, WARNING, FAULT = "ok", "warning", "fault"


@dataclass(frozen=True)
class Finding:
    """``level`` is ok, warning or fault; ``remedy`` is empty when there is nothing to do."""

    level: str
    about: str
    sentence: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def contradictions(settings: Settings) -> Iterator[Finding]:
    """What the settings say against each other, or against common sense."""
    yield from _tokens(settings)
    yield from _urls(settings)
    yield from _times(settings)
    for name, url in (("BROKER_URL", settings.broker), ("STORAGE_URL", settings.storage)):
        if urlsplit(url).scheme == "memory":
            fault = f"CUTWORK_{name} is memory://, which no other process sees"
            yield Finding(FAULT, "settings", fault, "unset it to use files under HOME")
    if settings.on_uncertain == "resubmit" and settings.max_paid_attempts == 1:
        fault = "ON_UNCERTAIN is resubmit, but MAX_PAID_ATTEMPTS of 1 forbids it: jobs are held"
        yield Finding(WARNING, "settings", fault, "allow 2, or say hold")


def _tokens(settings: Settings) -> Iterator[Finding]:
    if not settings.api_tokens:
        yield Finding(
            WARNING, "settings", "no API token is set: nothing is sent to the provider",
            "set CUTWORK_API_TOKENS, or use `cutwork up`, which then brings the sandbox",
        )  # fmt: skip
    if settings.public_url and not settings.callback_secrets:
        yield Finding(
            FAULT, "settings", "CUTWORK_PUBLIC_URL is set without CUTWORK_CALLBACK_SECRETS",
            "put 32 random characters there, the same on every host",
        )  # fmt: skip


def _urls(settings: Settings) -> Iterator[Finding]:
    public, provider = settings.public_url, settings.api_url
    if public and not _is_loopback(public) and public.startswith("http:"):
        fault = "CUTWORK_PUBLIC_URL is plain http: callback tokens can be read on the way"
        yield Finding(WARNING, "settings", fault, "use https")
    if public and _is_loopback(public) and not _is_loopback(provider):
        fault = "CUTWORK_PUBLIC_URL leads to this machine only, the provider cannot call it"
        yield Finding(FAULT, "settings", fault, "give a public address, or unset it to ask instead")
    if provider.startswith("http:") and not _is_loopback(provider):
        fault = "CUTWORK_API_URL is plain http: API keys can be read on the way"
        yield Finding(WARNING, "settings", fault, "use https")


def _times(settings: Settings) -> Iterator[Finding]:
    usual = "check_after" if settings.public_url else "poll_after"
    latest = max((usual, "check_latest"), key=lambda name: getattr(settings, name))
    first: float = getattr(settings, latest)
    for name in ("result_ttl", "wait_timeout"):
        if (over := getattr(settings, name)) <= first:
            fault = f"{name.upper()} ({over:g} s) is over before {latest.upper()} ({first:g} s)"
            yield Finding(FAULT, "settings", fault, f"lower CUTWORK_{latest.upper()}")
    if settings.check_earliest > settings.check_latest:
        fault = "CHECK_EARLIEST is later than CHECK_LATEST"
        yield Finding(FAULT, "settings", fault, "exchange them")
    if settings.public_url and settings.callback_ttl < settings.wait_timeout:
        fault = "CALLBACK_TTL is shorter than WAIT_TIMEOUT: late callbacks are turned away"
        yield Finding(WARNING, "settings", fault, "raise CUTWORK_CALLBACK_TTL")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
