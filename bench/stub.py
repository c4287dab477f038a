"""A provider that does nothing, fast: ``python -m bench.stub --port P --delay S --takes S``.

It answers a create after ``delay`` seconds. ``takes`` seconds after a create's first byte its task
is done, and the form's callback address, if it has one, is told. The result is a tiny picture.
``GET /bench`` and ``GET /bench/creates`` tell what it saw, by this machine's monotonic clock.
"""

import asyncio
import io
import json
import re
import time
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import click
from PIL import Image

from .calling import Caller
from .processes import HERE, Crew, Program, free_port, say_ready

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_FIELD = rb'name="%s"(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]*)\r\n'
_CALLBACK, _SOURCE = (re.compile(_FIELD % name) for name in (b"callback_url", b"image_url"))


@dataclass(frozen=True)
class Stub:
    """A stub that runs, as the benchmark sees it."""

    url: str
    program: Program

    @classmethod
    def start(cls, crew: Crew, *, delay: float, takes: float = 0.0) -> "Stub":
        port = free_port()
        words = ["bench.stub", "--port", str(port), "--delay", str(delay), "--takes", str(takes)]
        return cls(f"http://{HERE}:{port}", crew.start("stub", words))

    def seen(self) -> dict[str, Any]:
        """How many creates were ``answered``, when the ``first`` came and the ``last`` was answered
        (monotonic seconds), and ``calls``, the callbacks by the status that answered them."""
        seen: dict[str, Any] = self._get("/bench")
        return seen

    def creates(self) -> dict[str, float]:
        """When the first byte of each create came, by its image_url."""
        return {source: came for came, source in self._get("/bench/creates")}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}") as reply:  # noqa: S310 - our own
            return json.load(reply)


class Provider:
    """The tasks of one stub."""

    def __init__(self, port: int, delay: float, takes: float) -> None:
        self.delay, self._takes = delay, takes
        self._base = f"http://{HERE}:{port}"
        self._done_at: dict[str, float] = {}
        self._creates: list[tuple[float, str]] = []
        self._callers: dict[str, Caller] = {}
        self._answered, self._last = 0, 0.0
        picture = io.BytesIO()
        Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(picture, "PNG")
        self._picture = picture.getvalue()

    def create(self, came: float, body: bytes) -> bytes:
        source, callback = _SOURCE.search(body), _CALLBACK.search(body)
        self._creates.append((came, source[1].decode() if source else ""))
        task_id = f"task-{len(self._creates)}"
        self._done_at[task_id] = came + self._takes
        if callback and self._takes:
            loop, url = asyncio.get_running_loop(), callback[1].decode()
            loop.call_at(came + self._takes, self._call, url, task_id)
        data = {"status": 200, "message": "success", "data": {"task_id": task_id}}
        return _reply(json.dumps(data).encode())

    def answer(self, path: str) -> bytes:
        if path.startswith("/files/"):
            return _reply(self._picture, "image/png")
        if path == "/bench":
            calls: dict[int, int] = {}
            for caller in self._callers.values():
                for status, count in caller.statuses.items():
                    calls[status] = calls.get(status, 0) + count
            first = self._creates[0][0] if self._creates else 0.0
            seen = {"answered": self._answered, "first": first, "last": self._last, "calls": calls}
            return _reply(json.dumps(seen).encode())
        if path == "/bench/creates":
            return _reply(json.dumps(self._creates).encode())
        return _reply(self._told(path.rpartition("/")[2]))

    def note_answer(self) -> None:
        self._answered += 1
        self._last = time.monotonic()

    def _call(self, url: str, task_id: str) -> None:
        parts = urlsplit(url)
        if parts.netloc not in self._callers:
            self._callers[parts.netloc] = Caller.of(url)
        self._callers[parts.netloc].call(parts.path, self._told(task_id))

    def _told(self, task_id: str) -> bytes:
        done = time.monotonic() >= self._done_at.get(task_id, 0.0)
        return json.dumps({"status": 200, "data": finished(self._base, task_id, done)}).encode()


def finished(base: str, task_id: str, done: bool = True) -> dict[str, Any]:
    """What the provider says about a task, in its own shape."""
    return {
        "completed_at": 1742670627,
        "created_at": 1742670626,
        "err_info": "",
        "foreground_rect": {"x": 0, "y": 0, "width": 8, "height": 8},
        "image": f"{base}/files/{task_id}.png?signature=none" if done else "",
        "image_height": 8,
        "image_width": 8,
        "output_type": 2,
        "processed_at": 1742670626,
        "progress": 100 if done else 20,
        "state": 1 if done else 4,
        "state_detail": "Complete" if done else "Processing",
        "task_id": task_id,
        "time_elapsed": 384.5,
        "type": "auto",
    }


def _reply(body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """HTTP as clients of this provider speak it: a length, no chunks, one request at a time."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._heard, self._came = b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._heard:
            self._came = time.monotonic()
        self._heard += data
        head, end, body = self._heard.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or len(body) < (int(length[1]) if length else 0):
            return
        self._heard = b""
        close = b"connection: close" in head.lower()
        method, path, _ = head.split(b" ", 2)
        if method != b"POST":
            self._answer(self._provider.answer(path.partition(b"?")[0].decode()), close)
            return
        reply, delay = self._provider.create(self._came, body), self._provider.delay
        asyncio.get_running_loop().call_at(self._came + delay, self._answer_create, reply, close)

    def _answer_create(self, reply: bytes, close: bool) -> None:
        self._provider.note_answer()
        self._answer(reply, close)

    def _answer(self, reply: bytes, close: bool) -> None:
        if close:
            reply = reply.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        if not self._transport.is_closing():
            self._transport.write(reply)
        if close:
            self._transport.close()


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--delay", type=float, required=True, help="Seconds until a create is answered.")
@click.option("--takes", type=float, default=0.0, help="Seconds until the callback; 0: none.")
def main(port: int, delay: float, takes: float) -> None:
    """Be a provider until told to stop."""
    asyncio.run(_serve(Provider(port, delay, takes), port))


async def _serve(provider: Provider, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(provider), HERE, port, backlog=4096)
    say_ready()
    await server.serve_forever()


if __name__ == "__main__":
    main()
