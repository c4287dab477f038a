"""Settings that are fine each, but not together, or that go against common sense."""

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from cutwork.finding import Finding, finding
from cutwork.settings import SEEN_RESULT_HOST, Settings

# Seconds: the provider's hard limit, and what most tasks take.
_LONGEST_TASK, _USUAL_TASK = 30.0, 3.0
_INSIDE = (".internal", ".local", ".localhost", ".home.arpa", ".lan")
_FILES = {"DATABASE_URL": ("sqlite",), "BROKER_URL": ("filesystem",), "STORAGE_URL": ("file",)}


def contradictions(settings: Settings) -> Iterator[Finding]:
    """What the settings say against each other."""
    yield from _secrets(settings)
    yield from _urls(settings)
    yield from _places(settings)
    yield from _checks(settings)
    yield from _callbacks(settings)
    yield from _money(settings)
    yield from _leases(settings)
    yield from _throughput(settings)
    yield from _retention(settings)


def _secrets(settings: Settings) -> Iterator[Finding]:
    if not settings.api_tokens:
        yield finding("no_token")
    if settings.public_url and not settings.callback_secrets:
        yield finding("no_secret")
    if settings.callback_secrets and not settings.public_url:
        yield finding("no_public_url")
    if set(settings.api_tokens) & set(settings.callback_secrets):
        yield finding("key_is_secret")


def _urls(settings: Settings) -> Iterator[Finding]:
    public, provider = settings.public_url, settings.api_url
    if public and not is_loopback(public) and public.startswith("http:"):
        yield finding("url_plain")
    if public and is_loopback(public) and not is_loopback(provider):
        yield finding("url_loopback")
    elif public and _is_inside(public) and not _is_inside(provider):
        yield finding("url_private")
    if is_loopback(provider):
        return
    if provider.startswith("http:"):
        yield finding("api_plain")
    if provider != Settings().api_url and settings.result_hosts == (SEEN_RESULT_HOST,):
        yield finding("hosts_default")


def _places(settings: Settings) -> Iterator[Finding]:
    """What one process or one machine has, and others need."""
    urls = {
        "DATABASE_URL": settings.database,
        "BROKER_URL": settings.broker,
        "STORAGE_URL": settings.storage,
    }
    for name, url in urls.items():
        if _scheme(url) == "memory" or url.rstrip("/") in ("sqlite:", "sqlite:///:memory:"):
            yield finding("memory", name=name)
    far = next((name for name, url in urls.items() if _is_far(url)), None)
    for name, schemes in _FILES.items():
        if far and _scheme(urls[name]) in schemes:
            yield finding("one_machine", here=name, there=far)


def _checks(settings: Settings) -> Iterator[Finding]:
    usual = "check_after" if settings.public_url else "poll_after"
    latest = max((usual, "check_latest"), key=lambda name: getattr(settings, name))
    first: float = getattr(settings, latest)
    for name in ("result_ttl", "wait_timeout"):
        if (over := getattr(settings, name)) <= first:
            yield finding(
                "too_late", early=name.upper(), over=over, late=latest.upper(), first=first
            )
    if settings.check_earliest > settings.check_latest:
        yield finding("check_order")
    if settings.check_max_interval >= settings.result_ttl:
        yield finding("interval_long")


def _callbacks(settings: Settings) -> Iterator[Finding]:
    if not settings.public_url:
        return
    if settings.callback_ttl < settings.wait_timeout:
        yield finding("callback_ttl_wait")
    if settings.callback_ttl < settings.submit_timeout + settings.uncertain_grace:
        yield finding("callback_ttl_grace")
    if settings.on_uncertain == "resubmit" and settings.uncertain_grace < _LONGEST_TASK:
        yield finding("grace_short", grace=settings.uncertain_grace)


def _money(settings: Settings) -> Iterator[Finding]:
    resubmits, most = settings.on_uncertain == "resubmit", settings.max_paid_attempts
    if resubmits and most == 1:
        yield finding("paid_once")
    if 0 < settings.daily_budget < most:
        yield finding("budget_low", budget=settings.daily_budget, most=most)
    window, grace = settings.guard_window, settings.uncertain_grace
    if resubmits and settings.public_url and window < grace:
        yield finding("guard_short", window=window, grace=grace)
    if settings.breaker_pause > settings.breaker_longest:
        yield finding("breaker_order")


def _leases(settings: Settings) -> Iterator[Finding]:
    for name in ("submit_timeout", "query_timeout", "result_timeout"):
        if settings.connect_timeout > getattr(settings, name):
            yield finding("connect_long", name=name.upper())
    if 2 * settings.permit_ttl > settings.result_ttl:
        yield finding("permit_long")
    lease = 2 * settings.result_timeout + settings.lease_margin
    if lease >= settings.result_ttl:
        yield finding("lease_long", lease=lease)


def _throughput(settings: Settings) -> Iterator[Finding]:
    lanes = settings.submit_lane + settings.check_lane + settings.store_lane
    if settings.concurrency < lanes:
        yield finding("lanes_wide", threads=settings.concurrency, lanes=lanes)
    busy = settings.rate * _USUAL_TASK
    if settings.max_in_flight < busy:
        yield finding("in_flight_low", most=settings.max_in_flight, busy=busy)
    starts = settings.rate * len(settings.keys)
    if settings.submit_lane < starts:
        yield finding("submit_lane_low", lane=settings.submit_lane, rate=starts)


def _retention(settings: Settings) -> Iterator[Finding]:
    for name in ("keep_inputs", "keep_results"):
        if settings.keep_jobs and getattr(settings, name) >= settings.keep_jobs:
            yield finding("keep_longer", name=name.upper())


def is_loopback(url: str) -> bool:
    """Whether the URL leads to the machine that follows it."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_inside(url: str) -> bool:
    """Whether only a private network knows the host: by its address, or by a name without a dot."""
    host = urlsplit(url).hostname or ""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host.rstrip(".") or host.endswith(_INSIDE)


def _scheme(url: str) -> str:
    return url.partition(":")[0].partition("+")[0]


def _is_far(url: str) -> bool:
    """Whether a server on another machine is named; a bucket is nobody's machine."""
    if _scheme(url) in ("s3", "gs", "az", "file"):
        return False
    try:
        return bool(urlsplit(url).hostname) and not is_loopback(url)
    except ValueError:  # whoever opens it says what is wrong with it
        return False
