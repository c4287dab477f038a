"""What goes back to the browser, with the headers that keep it from doing what it should not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

OK, SEE_OTHER, NOT_MODIFIED = "200 OK", "303 See Other", "304 Not Modified"
BAD_REQUEST, FORBIDDEN, NOT_FOUND = "400 Bad Request", "403 Forbidden", "404 Not Found"
NOT_ALLOWED, CONFLICT = "405 Method Not Allowed", "409 Conflict"
TOO_MANY, UNAVAILABLE = "429 Too Many Requests", "503 Service Unavailable"

HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_PIECE = 65536

# No script, style, font or frame but our own files, and nothing inline. `connect-src` is htmx's.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A picture that is opened by itself is a page too, in which nothing may run.
_PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; sandbox"

_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"),
)


@dataclass(frozen=True)
class Answer:
    """``body`` is bytes, or pieces of ``size`` bytes in all; ``cache`` is Cache-Control."""

    status: str = OK
    body: bytes | Iterable[bytes] = b""
    kind: str = HTML
    cache: str = "no-store"
    extra: tuple[tuple[str, str], ...] = ()
    size: int | None = None

    def headers(self) -> list[tuple[str, str]]:
        size = len(self.body) if isinstance(self.body, bytes) else self.size
        policy = _PICTURE_POLICY if self.kind.startswith("image/") else _POLICY
        told = [("Cache-Control", self.cache)]
        if self.status != NOT_MODIFIED:
            told.append(("Content-Type", self.kind))
            told += [("Content-Length", str(size))] if size is not None else []
        return [*told, ("Content-Security-Policy", policy), *_ALWAYS, *self.extra]


def see(place: str, *extra: tuple[str, str]) -> Answer:
    """Go to another of our pages, with GET."""
    return Answer(SEE_OTHER, kind=_TEXT, extra=(("Location", place), *extra))


def plain(status: str, *extra: tuple[str, str]) -> Answer:
    """A status in words, for whoever is not a person."""
    return Answer(status, f"{status[4:]}\n".encode(), _TEXT, extra=extra)


class Pieces:
    """A file in pieces; closed by the server, as WSGI wants it, however the sending ends."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._file.read(_PIECE):
            yield piece

    def close(self) -> None:
        self._file.close()
