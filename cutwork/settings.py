"""The settings: one frozen object, built from a mapping by one function, described by one table.

Nothing here reads the environment at import. ``Settings.load(os.environ)`` is called at the edges
(a worker's start, a request's first use, the command line); tests pass a mapping of their own.
The table in ``docs/settings.md`` and the list in ``cutwork doctor`` come from the fields below.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cutwork.errors import InvalidSetting
from cutwork.spans import span

PREFIX = "CUTWORK_"

# The reseller's document names no host for results; this one was seen in replies.
SEEN_RESULT_HOST = "wxtechsz.oss-cn-shenzhen.aliyuncs.com"


def _setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    read: Callable[[str], Any] = str,
    secret: bool = False,
) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={"doc": doc, "unit": unit, "read": read, "secret": secret},
    )


def _utf8(text: str) -> str:
    # The environment gives bytes that are none as surrogates, which nothing can be made of later.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be in UTF-8") from None
    return text


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[str], Any]:
    def read(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"must be {kind}") from None
        if not low <= value <= high:
            raise ValueError(f"must be from {low:.12g} to {high:.12g}")
        return value

    return read


def _seconds(low: float = 0, high: float = 30 * 86400) -> Callable[[str], Any]:
    return _number(low, high)


def _count(low: int, high: int = 1_000_000_000) -> Callable[[str], Any]:
    return _number(low, high, whole=True)


def _secret(text: str) -> str:
    if len(text.strip()) < 16:
        raise ValueError("must have at least 16 characters")
    return text.strip()


def _kept(text: str) -> float:
    return span(text, most=100 * 366 * 86400)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _hosts(text: str) -> tuple[str, ...]:
    hosts = _words(text)
    for host in hosts:
        if "/" in host or "*" in host or "@" in host:
            raise ValueError("must be exact host names, host or host:port, without a pattern")
    return tuple(host.lower() for host in hosts)


def _networks(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(word)) for word in _words(text))
    except ValueError:
        raise ValueError("must be networks such as 10.20.0.0/16 or fd00:1::/32") from None


def _secrets(text: str) -> tuple[str, ...]:
    secrets = _words(text)
    if any(len(secret) < 16 for secret in secrets):
        raise ValueError("must be secrets of at least 16 characters each")
    return secrets


def standard_secret(drawn: bytes) -> str:
    """The bytes as a secret of the Standard Webhooks scheme."""
    return f"whsec_{b64encode(drawn).decode()}"


def _signing_secrets(text: str) -> tuple[str, ...]:
    secrets = _words(text)
    if not all(secret.startswith("whsec_") and 24 <= _decoded(secret) <= 64 for secret in secrets):
        raise ValueError("must be whsec_ and the base64 of 24 to 64 random bytes each")
    return secrets


def _decoded(secret: str) -> int:
    """How many bytes it stands for; none if it is no base64."""
    try:
        return len(b64decode(secret.removeprefix("whsec_"), validate=True))
    except ValueError:
        return 0


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            near = get_close_matches(text, choices, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"must be one of {', '.join(choices)}{hint}")
        return text

    return read


def _http_url(text: str) -> str:
    try:
        url = urlsplit(text)
        extra = url.query or url.fragment or url.username is not None
        usable = url.scheme in ("http", "https") and url.hostname and not extra
        _ = url.port
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ValueError("must be an http(s) URL without a query, a user or a space")
    return text.rstrip("/")


def _optional_http_url(text: str) -> str:
    return _http_url(text) if text else ""


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be a path that starts with /")
    return text


def _query_path(text: str) -> str:
    if "{task_id}" not in text:
        raise ValueError("must contain {task_id}")
    return _path(text)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an operator can choose: each field is the variable of its name after ``CUTWORK_``."""

    home: Path = _setting(
        Path(".cutwork"), "Where the embedded defaults live: database, broker, storage.", read=Path
    )
    database_url: str = _setting(
        "", "The app's own database, as a SQLAlchemy URL. Empty: SQLite under HOME.", secret=True
    )
    broker_url: str = _setting(
        "",
        "The broker, as a kombu URL (amqp://, redis://). Empty: files under HOME, for one machine.",
        secret=True,
    )
    storage_url: str = _setting(
        "",
        "Where pictures are kept: file://, s3://, gs://, az://. Empty: files under HOME.",
        secret=True,
    )
    api_url: str = _setting("https://api.gpt.ge", "The provider's API.", read=_http_url)
    api_tokens: tuple[str, ...] = _setting(
        (), "API keys, comma-separated; each has its own rate.", read=_words, secret=True
    )
    api_auth: str = _setting(
        "bearer",
        "How the key is sent: `bearer` (Authorization) or `x-api-key`.",
        read=_one_of("bearer", "x-api-key"),
    )
    submit_path: str = _setting(
        "/task/pic/segmentation", "Path of the create call below API_URL.", read=_path
    )
    query_path: str = _setting(
        "/task/{task_id}", "Path of the query call below API_URL.", read=_query_path
    )
    submit_timeout: float = _setting(
        60.0, "Total time of one submit, upload included.", unit="s", read=_seconds(1, 600)
    )
    query_timeout: float = _setting(
        15.0, "Total time of one query.", unit="s", read=_seconds(1, 600)
    )
    connect_timeout: float = _setting(
        5.0, "Time to connect to the provider.", unit="s", read=_seconds(0.1, 60)
    )
    public_url: str = _setting(
        "",
        "Base of our webhook as the provider sees it. Empty: no callbacks, jobs are asked about.",
        read=_optional_http_url,
    )
    callback_secrets: tuple[str, ...] = _setting(
        (),
        "Secrets of callback URLs, comma-separated; the first signs, all verify.",
        read=_secrets,
        secret=True,
    )
    callback_trust: str = _setting(
        "payload",
        "`payload`: a consistent callback completes a job. `confirm`: it only makes us ask now.",
        read=_one_of("payload", "confirm"),
    )
    callback_ttl: float = _setting(
        86400.0, "How long a callback URL is valid.", unit="s", read=_seconds(60)
    )
    callback_max_body: int = _setting(
        65536, "Largest callback body.", unit="bytes", read=_count(1024, 16 * 1024 * 1024)
    )
    result_hosts: tuple[str, ...] = _setting(
        (SEEN_RESULT_HOST,),
        "Exact hosts results may be fetched from (host or host:port); API_URL's host always may.",
        read=_hosts,
    )
    result_networks: tuple[str, ...] = _setting(
        (),
        "Networks besides the public internet (CIDR) that a result host's name may lead to.",
        read=_networks,
    )
    result_max_bytes: int = _setting(
        64 * 1024 * 1024, "Largest result file.", unit="bytes", read=_count(1024)
    )
    result_timeout: float = _setting(
        120.0, "Total time of one download.", unit="s", read=_seconds(1, 3600)
    )
    result_ttl: float = _setting(
        3600.0, "How long the provider's link to a result lives.", unit="s", read=_seconds(1)
    )
    rate: float = _setting(
        2.0,
        "Requests per second and key, submits and queries together.",
        unit="1/s",
        read=_number(0.01, 100_000),
    )
    max_in_flight: int = _setting(
        32, "Jobs that may be with the provider at once, per key.", read=_count(1)
    )
    daily_budget: int = _setting(
        0,
        "Submits in a day (UTC) that were or may have been charged, over all keys; then jobs wait."
        " 0: no limit.",
        read=_count(0),
    )
    breaker_failures: int = _setting(
        5,
        "So many failed requests within BREAKER_WINDOW stop a key, if they are BREAKER_SHARE.",
        read=_count(1),
    )
    breaker_share: float = _setting(
        0.5, "Share of failed requests, since the first of them, that stops a key.",
        read=_number(0.01, 1),
    )  # fmt: skip
    breaker_window: float = _setting(
        60.0, "How long failures are counted together.", unit="s", read=_seconds(1)
    )
    breaker_pause: float = _setting(
        30.0,
        "How long a stopped key rests before one job tries it; twice as long each time.",
        unit="s",
        read=_seconds(0.1),
    )
    breaker_longest: float = _setting(
        900.0, "Longest rest of a stopped key.", unit="s", read=_seconds(0.1)
    )
    breaker_ramp: float = _setting(
        30.0, "How long the rate takes to grow back afterwards.", unit="s", read=_seconds(0.1)
    )
    check_after: float = _setting(
        10.0,
        "First question about a job whose callback has not come, until it is learned.",
        unit="s",
        read=_seconds(0.1),
    )
    poll_after: float = _setting(
        2.0,
        "First question about a job when no callback can come, until it is learned.",
        unit="s",
        read=_seconds(0.1),
    )
    check_earliest: float = _setting(
        1.0, "Earliest first question that may be learned.", unit="s", read=_seconds(0.1)
    )
    check_latest: float = _setting(
        30.0, "Latest first question that may be learned.", unit="s", read=_seconds(0.1)
    )
    check_max_interval: float = _setting(
        60.0, "Longest time between two questions about one job.", unit="s", read=_seconds(0.1)
    )
    wait_timeout: float = _setting(
        3600.0,
        "A job the provider says nothing final about is held after this.",
        unit="s",
        read=_seconds(1),
    )
    on_uncertain: str = _setting(
        "resubmit",
        "A submit of unknown outcome: `resubmit` (may pay twice, counted), `hold` or `fail`.",
        read=_one_of("resubmit", "hold", "fail"),
    )
    uncertain_grace: float = _setting(
        120.0,
        "How long a callback may prove an uncertain submit before the policy applies.",
        unit="s",
        read=_seconds(0),
    )
    max_paid_attempts: int = _setting(
        2, "Submits per job that may have been charged, the first included.", read=_count(1, 100)
    )
    guard_share: float = _setting(
        0.2,
        "Share of uncertain submits within GUARD_WINDOW above which nothing is paid for twice.",
        read=_number(0, 1),
    )
    guard_count: int = _setting(
        20, "The same as a number: more uncertain submits than this.", read=_count(1)
    )
    guard_window: float = _setting(
        600.0, "How far back uncertain submits are counted.", unit="s", read=_seconds(1)
    )
    permit_ttl: float = _setting(
        10.0,
        "A worker that gets a job later than this after its release puts it back.",
        unit="s",
        read=_seconds(0.5, 3600),
    )
    lease_margin: float = _setting(
        10.0,
        "A worker's lease outlives the longest call that it may make by this much.",
        unit="s",
        read=_seconds(0.5, 600),
    )
    submit_lane: int = _setting(6, "Submits released at once.", read=_count(1, 10_000))
    check_lane: int = _setting(3, "Checks released at once.", read=_count(1, 10_000))
    store_lane: int = _setting(3, "Downloads released at once.", read=_count(1, 10_000))
    notify_lane: int = _setting(3, "Notices told at once.", read=_count(1, 10_000))
    notify_secrets: tuple[str, ...] = _setting(
        (),
        "Standard Webhooks secrets (`whsec_…`), comma-separated; each signs what is told to a URL.",
        read=_signing_secrets,
        secret=True,
    )
    notify_for: float = _setting(
        86400.0, "How long it is tried to tell somebody.", unit="s", read=_seconds(60)
    )
    notify_timeout: float = _setting(
        10.0, "Total time of one try to tell a URL.", unit="s", read=_seconds(0.1, 600)
    )
    notify_networks: tuple[str, ...] = _setting(
        (),
        "Networks besides the public internet (CIDR) that a URL to be told may lead to.",
        read=_networks,
    )
    notify_queue: str = _setting("celery", "Queue of the app's Celery tasks that are told.")
    notify_broker_url: str = _setting(
        "", "Broker of the app's Celery tasks, as a kombu URL. Empty: BROKER_URL.", secret=True
    )
    concurrency: int = _setting(
        15,
        "Threads (or processes) of one worker; with fewer than the lanes together, one lane can"
        " keep the others waiting.",
        read=_count(1, 1000),
    )
    console_token: str = _setting(
        "",
        "What lets a person into the console, at least 16 characters. Empty: there is no console.",
        read=_secret,
        secret=True,
    )
    console_read_only: str = _setting(
        "no", "`yes`: the console shows everything and changes nothing.", read=_one_of("no", "yes")
    )
    keep_inputs: float = _setting(
        0.0,
        "Source pictures are deleted so long after their job is finished (30d, 12h). 0: never.",
        unit="s",
        read=_kept,
    )
    keep_results: float = _setting(0.0, "The same for results.", unit="s", read=_kept)
    keep_jobs: float = _setting(
        0.0, "The same for whole jobs: their rows and all their pictures.", unit="s", read=_kept
    )
    purge_every: float = _setting(
        600.0,
        "How often each reconciler looks for what is to be deleted.",
        unit="s",
        read=_seconds(1, 7 * 86400),
    )
    log_format: str = _setting(
        "text", "`text` for people, `json` for machines.", read=_one_of("text", "json")
    )
    log_level: str = _setting(
        "INFO",
        "Least severe line that is logged.",
        read=_one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    )

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "Settings":
        """Read every ``CUTWORK_`` variable; ``CUTWORK_X_FILE`` names a file that holds X.

        Raises:
            InvalidSetting: a value breaks its rule, or a name is unknown or set twice.
        """
        known = {item.name for item in fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or variable.startswith(f"{PREFIX}TEST_"):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name not in known and name.removesuffix("_file") in known:
                name = name.removesuffix("_file")
                if f"{PREFIX}{name.upper()}" in environ:
                    raise InvalidSetting(
                        variable,
                        "(hidden)",
                        f"is set together with {PREFIX}{name.upper()}",
                        "set one of the two",
                    )
                text = _read_secret(variable, text) if text else ""
            if name not in known:
                near = get_close_matches(name, known, 1)
                remedy = f"did you mean {PREFIX}{near[0].upper()}?" if near else "remove it"
                # It may be the misspelt name of a secret.
                raise InvalidSetting(variable, "(hidden)", "is not a setting", remedy)
            values[name] = text
        return cls.of(**values)

    @classmethod
    def of(cls, **texts: str) -> "Settings":
        """Build from texts, as the environment gives them; an empty text means the default."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            text = texts.get(item.name, "")
            if text == "":
                continue
            try:
                values[item.name] = item.metadata["read"](_utf8(text))
            except ValueError as rule:
                shown = "(hidden)" if item.metadata["secret"] else text
                raise InvalidSetting(f"{PREFIX}{item.name.upper()}", shown, str(rule)) from None
        return cls(**values)

    @property
    def database(self) -> str:
        """The database's URL, the embedded default included."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'cutwork.db'}"

    @property
    def broker(self) -> str:
        """The broker's URL, the embedded default included."""
        return self.broker_url or "filesystem://"

    @property
    def storage(self) -> str:
        """The storage's URL, the embedded default included."""
        return self.storage_url or (self.home.absolute() / "files").as_uri()

    @property
    def keys(self) -> dict[str, str]:
        """API keys by their public name: ``{key_id: token}``."""
        return {key_id(token): token for token in self.api_tokens}

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """``host`` or ``host:port`` that a result may come from."""
        return frozenset({*self.result_hosts, urlsplit(self.api_url).netloc.lower()})


@cache
def current() -> Settings:
    """The environment's settings, read at the first call in this process."""
    return Settings.load(os.environ)


def key_id(token: str) -> str:
    """A name for an API key that may be shown: the first 8 hex digits of its SHA-256."""
    return sha256(token.encode()).hexdigest()[:8]


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        # Not the path: somebody may have put the secret itself there.
        fault = f"must name a readable file ({error.strerror})"
        raise InvalidSetting(variable, "(hidden)", fault) from None
    except UnicodeDecodeError:
        raise InvalidSetting(variable, "(hidden)", "must name a file in UTF-8") from None
