"""requests' transport with a total time limit, that knows whether any byte has left this machine.

A time-out of requests starts again with every byte; the sockets here end at the deadline of the
exchange that they serve. Nothing retries, follows a redirect, keeps a cookie, or uses a proxy.
"""

import math
import os
import socket
import ssl
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any

from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.util import Retry

# So many seconds after a reply, the end of its connection would have come too.
_SETTLED = 0.02
# A connection that nobody wanted for so many seconds was one of a crowd, and is closed.
_FORGOTTEN = 60.0
# Servers keep an idle connection for seconds at least: one that idled for less carries a request as
# surely as a new one. The death of an older one would look like "maybe sent".
SURELY_ALIVE = 1.0
# Few give up in less than five; for what may be sent again.
LIKELY_ALIVE = 4.0
# Bytes; more than that are not copied to save a system call.
_TOGETHER = 65536

Admit = Callable[[str, Sequence[str]], None]


@dataclass(slots=True)
class Wire:
    """One exchange: when it is over, and whether the server can have seen any of the request."""

    deadline: float
    idle: float = math.inf
    query: str = ""
    admit: Admit | None = None
    began: bool = False

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.deadline

    def left(self) -> float:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the time for this request is over")
        return seconds


# requests has no way to hand anything to the connection that it will use.
_wire: ContextVar[Wire] = ContextVar("_wire")


@contextmanager
def exchange(
    seconds: float, *, idle: float = math.inf, query: str = "", admit: Admit | None = None
) -> Iterator[Wire]:
    """``seconds`` for all that an :class:`Adapter` does in the block, the connecting included.

    A connection that was unused for more than ``idle`` seconds is not used for it: there is a new
    one then.
    ``query`` is added to the address on its way to the socket, so that it is in no log line and no
    exception of requests or urllib3. ``admit`` is called with a host and all its addresses, and
    raises if none of them may be connected to; what it raises comes out as it is.
    """
    wire = Wire(time.monotonic() + seconds, idle, query, admit)
    before = _wire.set(wire)
    try:
        yield wire
    finally:
        _wire.reset(before)


class Adapter(HTTPAdapter):
    """requests' transport without its helpfulness; for use inside :func:`exchange` only."""

    def __init__(self, trust: ssl.SSLContext | None) -> None:
        self._trust = trust
        # urllib3's default would send a POST again after a TLS error in the reply: paid twice.
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=Retry(0, read=False))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._trust, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, conn: Any, *_: Any) -> None:
        """Nothing to add: the context knows whom to trust."""


class Kept:
    """Adapters that threads borrow, each for one exchange, and their connections with them.

    The one that was used last is lent first, so that its connection is likely to be alive, but not
    at once: a server that closes a connection without having said so does it right after its reply,
    and what was sent meanwhile is lost. A forked child begins anew: it must not speak on its
    parent's connections.
    """

    def __init__(self, trust: ssl.SSLContext | None) -> None:
        self._trust, self._pid = trust, os.getpid()
        self._lending = threading.Lock()
        self._idle: list[tuple[float, Adapter]] = []

    @contextmanager
    def borrow(self) -> Iterator[Adapter]:
        """An adapter for this thread alone."""
        if self._pid != os.getpid():
            self._pid, self._lending, self._idle = os.getpid(), threading.Lock(), []
        adapter = self._settled() or Adapter(self._trust)
        try:
            yield adapter
        except BaseException:
            adapter.close()
            raise
        with self._lending:
            self._idle.append((time.monotonic(), adapter))

    def close(self) -> None:
        with self._lending:
            idle, self._idle = self._idle, []
        for _, adapter in idle:
            adapter.close()

    def _settled(self) -> Adapter | None:
        now = time.monotonic()
        with self._lending:
            count = bisect_left(self._idle, now - _FORGOTTEN, key=itemgetter(0))
            forgotten, self._idle[:count] = self._idle[:count], []
            count = bisect_right(self._idle, now - _SETTLED, key=itemgetter(0))
            adapter = self._idle.pop(count - 1)[1] if count else None
        for _, unneeded in forgotten:
            unneeded.close()
        return adapter


@cache  # reading the roots takes longer than a small download
def trust() -> ssl.SSLContext:
    """The machine's roots (a company's own among them) and those that requests brings along."""
    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    context.sslsocket_class = _TLSSocket
    return context


class _Socket(socket.socket):
    """Ends at the exchange's deadline, where a plain time-out starts again with every byte."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_wire.get().left())
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        self._begin()
        return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self._begin()
        super().sendall(*args, **kwargs)

    def _begin(self) -> None:
        wire = _wire.get()
        self.settimeout(wire.left())
        wire.began = True


class _TLSSocket(_Socket, ssl.SSLSocket):
    pass


class _Connection(HTTPConnection):
    """Sends a request's head and a small body at once: each send is a system call and a packet."""

    _held: list[bytes] | None = None
    _heard_at = -math.inf

    @property
    def is_connected(self) -> bool:
        """Whether the pool may use it as it is; if not, it connects anew."""
        idled = time.monotonic() - self._heard_at
        return idled <= _wire.get().idle and super().is_connected

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._heard_at = time.monotonic()
        return response

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._held = []
        try:
            super().request(*args, **kwargs)
        finally:
            held, self._held = self._held, None
        if held:
            super().send(b"".join(held))

    def send(self, data: Any) -> None:
        if self._held is not None and len(data) <= _TOGETHER:
            self._held.append(data)
            return
        if self._held:
            super().send(b"".join(self._held))
            self._held.clear()
        super().send(data)

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        query = _wire.get().query
        super().putrequest(method, f"{url}?{query}" if query else url, *args, **kwargs)

    def _new_conn(self) -> socket.socket:
        try:
            return self._connect_any()
        # Not a bare OSError: urllib3 takes a reset while connecting for a reply in waiting.
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(self, "no connection") from error

    # The one place where a name becomes an address: it is asked once, and what was looked at is
    # what is connected to. A second question could have another answer.
    def _connect_any(self) -> socket.socket:
        failure = OSError("the name has no address")
        found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        if admit := _wire.get().admit:
            admit(self._dns_host, [str(address[0]) for *_, address in found])
        for family, kind, protocol, _, address in found:
            try:
                return self._connect_to(_Socket(family, kind, protocol), address)
            except OSError as error:
                failure = error
        raise failure

    def _connect_to(self, candidate: socket.socket, address: Any) -> socket.socket:
        try:
            candidate.settimeout(self._patience())
            candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            candidate.connect(address)
            # For TLS, whose handshake is one operation to it.
            candidate.settimeout(self._patience())
        except BaseException:
            candidate.close()
            raise
        return candidate

    def _patience(self) -> float:
        left = _wire.get().left()
        return min(left, self.timeout or left)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection
