"""Callbacks from the stub: POSTs over connections that are kept, a few at a time."""

import asyncio
import re
from collections import deque
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Caller:
    """``call(path, body)`` to one address, so many at once; the rest waits its turn."""

    def __init__(self, host: str, port: int, at_once: int = 64) -> None:
        self._where, self._at_once = (host, port), at_once
        self._waiting: deque[bytes] = deque()
        self._free: list[_Line] = []
        self._lines = 0
        self.statuses: dict[int, int] = {}

    @classmethod
    def of(cls, url: str) -> "Caller":
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or 80)

    def call(self, path: str, body: bytes) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._where[0]}\r\nContent-Type: application/json\r\n"
        )
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        if self._free:
            self._free.pop().send(request)
            return
        self._waiting.append(request)
        if self._lines < self._at_once:
            self._lines += 1
            task = asyncio.ensure_future(self._connect())
            task.add_done_callback(lambda done: done.exception())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Line(self), *self._where)
        except OSError:
            self._lines -= 1

    def is_free(self, line: "_Line") -> None:
        if self._waiting:
            line.send(self._waiting.popleft())
        else:
            self._free.append(line)

    def was_answered(self, status: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def is_lost(self, line: "_Line", unanswered: bytes) -> None:
        """A server may close a connection that was idle; what had no answer is said again."""
        self._lines -= 1
        if line in self._free:
            self._free.remove(line)
        if unanswered:
            path, body = unanswered.split(b" ", 2)[1], unanswered.partition(b"\r\n\r\n")[2]
            self.call(path.decode(), body)


class _Line(asyncio.Protocol):
    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._sent, self._heard = b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of TCP
        self._transport = transport
        self._caller.is_free(self)

    def send(self, request: bytes) -> None:
        self._sent = request
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, end, body = self._heard.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or len(body) < (int(length[1]) if length else 0):
            return
        self._sent, self._heard = b"", b""
        self._caller.was_answered(int(head[9:12]))
        if b"connection: close" in head.lower():
            self._transport.close()
        else:
            self._caller.is_free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._caller.is_lost(self, self._sent)
