"""Fetch a result from the provider's link, which somebody else chose, within limits.

Where a link may lead: by https to a host of ``Settings.allowed_hosts`` (without a port that means
443). By plain http to a host that is listed with its port, such as ``cdn.internal:80``; and to
every listed host when API_URL itself is http, as the sandbox's is. No redirect is followed. A host
that is a name must have public addresses only; see ``addresses``.

The query of a link is a signature: whoever has it has the picture. It appears in no exception.
"""

import secrets
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from cutwork import wire
from cutwork.addresses import Guard, Refused
from cutwork.errors import FetchFailed, StorageError
from cutwork.pictures import Defect, inspect_result
from cutwork.settings import Settings
from cutwork.sources import shown, url_fault

PIECE = 1 << 16
_HEADERS = {"User-Agent": "cutwork", "Accept": "image/*", "Accept-Encoding": "identity"}
DEAD = (403, 404, 410)
# With these codes the same link cannot help any more; with the others it may, until it dies.
PERMANENT = frozenset({"host_refused", "link_dead", "too_large"})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result on this machine's disk; sides in pixels."""

    path: Path
    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Fault:
    code: str
    reason: str
    remedy: str = ""


def fetch(url: str, *, settings: Settings, into: Path) -> Fetched:
    """Download a result into a new file of the directory ``into``; the caller removes it.

    ``result_timeout`` bounds the whole of it, however slowly the server sends; only the lookup of
    the host's name ends by the resolver's own limits.

    Raises:
        FetchFailed: the link did not give a whole png, jpg or webp; nothing is left in ``into``.
        StorageError: ``into`` cannot be written; nothing is left there either.
    """
    path = into / f"cutwork-{secrets.token_hex(8)}.part"
    # Faults are values until here, so that no exception of requests is the context of this one.
    match _refusal(url, settings) or _download(url, settings, path):
        case Fetched() as fetched:
            return fetched
        case _Fault(code, reason, remedy):
            permanent = code in PERMANENT
            raise FetchFailed(shown(url), code, reason, permanent=permanent, remedy=remedy)


def _refusal(url: str, settings: Settings) -> _Fault | None:
    if fault := url_fault(url):
        return _Fault("host_refused", f"the link {fault[0]}")
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else f"{parts.hostname}"
    usual = 443 if parts.scheme == "https" else 80
    port = parts.port or usual
    names = {f"{host}:{port}"}
    if port == usual and (usual == 443 or settings.api_url.lower().startswith("http:")):
        names.add(host)
    if names & settings.allowed_hosts:
        return None
    remedy = f"if you trust it, add {min(names, key=len)} to CUTWORK_RESULT_HOSTS"
    return _Fault("host_refused", "the link leads to a host that is not allowed", remedy)


def _download(url: str, settings: Settings, path: Path) -> Fetched | _Fault:
    outcome: Fetched | _Fault | None = None
    try:
        with _disk(path), path.open("xb") as file:
            sink = _Sink(path, file)
            outcome = _receive(url, settings, sink)
        outcome = outcome or _inspected(sink)
        return outcome
    finally:
        if not isinstance(outcome, Fetched):
            path.unlink(missing_ok=True)


class _Sink:
    """The file that grows, and its size."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.size = path, 0
        self._file = file

    def take(self, piece: bytes) -> None:
        self.size += len(piece)
        with _disk(self.path):
            self._file.write(piece)


def _receive(url: str, settings: Settings, sink: _Sink) -> _Fault | None:
    parts = urlsplit(url)
    bare = parts._replace(query="", fragment="").geturl()
    guard, seconds = Guard(settings.result_networks), settings.result_timeout
    trust = wire.trust() if parts.scheme == "https" else None
    with (
        _kept(trust, settings.result_networks).borrow(wire.SURELY_ALIVE) as adapter,
        wire.exchange(seconds, query=parts.query, admit=guard.admit) as exchange,
    ):
        try:
            request = requests.Request("GET", bare, _HEADERS).prepare()
            sent = adapter.send(request, stream=True, timeout=(settings.connect_timeout, seconds))
            with closing(sent) as response:
                fault = _check_head(response, settings) or _copy(response, settings, sink)
        except Refused as refused:
            return _astray(refused)
        except (requests.RequestException, HTTPError, OSError) as error:
            fault = _network_fault(error, sink)
        return _Fault("too_slow", f"it took longer than {seconds:g} s") if exchange.over else fault


@cache
def _kept(trust: ssl.SSLContext | None, _admitted: tuple[str, ...]) -> wire.Kept:
    """Connections that were kept lead where addresses were admitted when they were made."""
    return wire.Kept(trust)


def _check_head(response: requests.Response, settings: Settings) -> _Fault | None:
    status, length = response.status_code, response.headers.get("Content-Length", "")
    if status in DEAD:
        return _Fault("link_dead", f"the server answered {status}")
    if 300 <= status < 400:
        return _Fault("host_refused", f"the server answered {status}, a redirect")
    if status != 200:
        return _Fault("unreachable", f"the server answered {status}")
    if length.isdecimal() and len(length) < 20 and int(length) > settings.result_max_bytes:
        return _too_large(settings)
    return None


def _copy(response: requests.Response, settings: Settings, sink: _Sink) -> _Fault | None:
    # As it was sent, never decoded: a small file that unpacks without end is then just no picture.
    for piece in response.raw.stream(PIECE, decode_content=False):
        if sink.size + len(piece) > settings.result_max_bytes:
            return _too_large(settings)
        sink.take(piece)
    return None


def _inspected(sink: _Sink) -> Fetched | _Fault:
    with _disk(sink.path):
        shape = inspect_result(sink.path)
    if isinstance(shape, Defect):
        return _Fault(shape.code, shape.reason)
    return Fetched(sink.path, shape.format, shape.width, shape.height)


def _network_fault(error: Exception, sink: _Sink) -> _Fault:
    if isinstance(error, requests.ReadTimeout | ReadTimeoutError):
        return _Fault("too_slow", "the server stopped sending")
    if sink.size or not isinstance(error, requests.RequestException):
        return _Fault("truncated", f"the connection broke after {sink.size} bytes")
    # A class says it all, such as gaierror or SSLError; texts may hold anything.
    cause = getattr(error.args[0], "reason", None) if error.args else None
    cause = getattr(cause, "__cause__", None) or cause or error
    return _Fault("unreachable", f"no connection ({type(cause).__name__})")


def _astray(refused: Refused) -> _Fault:
    remedy = f"if that is yours, put its network, such as {refused.network}, into"
    remedy += " CUTWORK_RESULT_NETWORKS"
    return _Fault("host_refused", f"no link may lead there: {refused}", remedy)


def _too_large(settings: Settings) -> _Fault:
    remedy = "raise CUTWORK_RESULT_MAX_BYTES if this can be right"
    return _Fault("too_large", f"it has more than {settings.result_max_bytes} bytes", remedy)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = error.strerror or "it cannot be written"
        raise StorageError(path.as_uri(), cause, "give it space and permission") from None
