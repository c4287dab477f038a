"""Fetch a result from the provider's link, which somebody else chose, within limits.

Where a link may lead: by https to a host of ``Settings.allowed_hosts`` (without a port that means
443). By plain http to a host that is listed with its port, such as ``cdn.internal:80``; and to
every listed host when API_URL itself is http, as the sandbox's is. No redirect is followed. A host
that is a name must have public addresses only; see ``addresses``.

The query of a link is a signature: whoever has it has the picture. It appears in no exception.
"""

import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from cutwork import wire
from cutwork.addresses import Guard, Refused
from cutwork.anatomy import Data
from cutwork.errors import FetchFailed, StorageError
from cutwork.pictures import Defect, inspect_result
from cutwork.settings import Settings
from cutwork.sources import shown, url_fault

PIECE = 1 << 16
# For each result on its way, of which STORE_LANE bounds the number.
IN_MEMORY = 1 << 20
_HEADERS = {"User-Agent": "cutwork", "Accept": "image/*", "Accept-Encoding": "identity"}
DEAD = (403, 404, 410)
# With these codes the same link cannot help any more; with the others it may, until it dies.
PERMANENT = frozenset({"host_refused", "link_dead", "too_large"})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result as it was sent; sides in pixels."""

    data: Data
    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Fault:
    code: str
    reason: str
    remedy: str = ""


def fetch(url: str, *, settings: Settings, into: Path) -> Fetched:
    """Download a result: a small one into memory, any other into the directory ``into``.

    The file there has no name: it goes away with ``data``, and with the process, however that ends.
    ``result_timeout`` bounds the whole of it, however slowly the server sends; only the lookup of
    the host's name ends by the resolver's own limits.

    Raises:
        FetchFailed: the link did not give a whole png, jpg or webp.
        StorageError: ``into`` cannot be written.
    """
    # Faults are values until here, so that no exception of requests is the context of this one.
    match _refusal(url, settings) or _download(url, settings, into):
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


def _download(url: str, settings: Settings, into: Path) -> Fetched | _Fault:
    with closing(_Sink(into)) as sink:
        if fault := _receive(url, settings, sink):
            return fault
        data = sink.data()
    shape = inspect_result(data)
    if isinstance(shape, Defect):
        return _Fault(shape.code, shape.reason)
    return Fetched(data, shape.format, shape.width, shape.height)


class _Sink:
    """What was received so far, in pieces that become a file when they are too many."""

    def __init__(self, into: Path) -> None:
        self.size = 0
        self._into, self._pieces = into, list[bytes]()
        self._file: BinaryIO | None = None

    def take(self, piece: bytes) -> None:
        self.size += len(piece)
        self._pieces.append(piece)
        if self.size > IN_MEMORY:
            with _disk(self._into):
                self._write()

    def data(self) -> Data:
        if self._file is None:
            return b"".join(self._pieces)
        with _disk(self._into):
            self._file.flush()
            return mmap(self._file.fileno(), 0, access=ACCESS_READ)

    def close(self) -> None:
        if self._file is not None:
            with _disk(self._into):
                self._file.close()

    def _write(self) -> None:
        if self._file is None:
            self._file = TemporaryFile(dir=self._into)  # noqa: SIM115 - closed by close
        self._file.writelines(self._pieces)
        self._pieces.clear()


def _receive(url: str, settings: Settings, sink: _Sink) -> _Fault | None:
    parts = urlsplit(url)
    bare = parts._replace(query="", fragment="").geturl()
    guard, seconds = Guard(settings.result_networks), settings.result_timeout
    trust = wire.trust() if parts.scheme == "https" else None
    with (
        _kept(trust, settings.result_networks).borrow() as adapter,
        wire.exchange(
            seconds, idle=wire.LIKELY_ALIVE, query=parts.query, admit=guard.admit
        ) as exchange,
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
