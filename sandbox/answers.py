"""What may be said to a request, as values: most are no proper answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An ordinary answer."""

    status: int
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, status: int, body: Any, *headers: tuple[str, str]) -> "Reply":
        return cls(status, json.dumps(body).encode(), headers=headers)


@dataclass(frozen=True)
class Redirect:
    """302 to another address."""

    location: str


@dataclass(frozen=True)
class Reset:
    """The connection is reset, without a byte."""


@dataclass(frozen=True)
class Silence:
    """Nothing comes for so many seconds, then the connection closes."""

    seconds: float


@dataclass(frozen=True)
class Truncated:
    """The headers promise all of the reply, half of it comes."""

    reply: Reply


@dataclass(frozen=True)
class Trickle:
    """The reply's body takes so many seconds."""

    reply: Reply
    seconds: float


@dataclass(frozen=True)
class Flood:
    """So many bytes of nothing, with or without a Content-Length."""

    size: int
    announced: bool


Answer = Reply | Redirect | Reset | Silence | Truncated | Trickle | Flood


@dataclass
class Request:
    """A request whose body is not read yet; ``base_url`` is the address the client used."""

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    base_url: str
    _read: Callable[[int], bytes] = field(repr=False)
    _unread: int = 0

    @property
    def length(self) -> int | None:
        """The announced size of the body; None when it is not said, or not plainly."""
        said = self.headers.get_all("Content-Length", ["0"] if self.method != "POST" else [])
        if "Transfer-Encoding" in self.headers or len(said) != 1:
            return None
        return int(said[0]) if said[0].isascii() and said[0].isdigit() else None

    def body(self) -> bytes:
        """The whole body; short when the client hung up."""
        content = self._read(self.length or 0)
        self._unread = 0
        return content
