"""Reading a request's body without trusting its sender or its server."""

from collections.abc import Mapping
from typing import Any

from cutwork.reading import parse

_PIECE = 65536
_SILENCE = 5.0


class Refused(Exception):
    """The body is not read; ``status`` is the answer."""

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(status)


def read(environ: Mapping[str, Any], limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes, on any WSGI server. Nothing is read without a size.

    A length is believed only as far as bytes come. A body without one is read where the server
    says that it ends (``wsgi.input_terminated``); but a server may take a broken one for complete
    (granian does) or for empty, so it has to prove its end: JSON does, a form does not.

    Raises:
        Refused: 400, 411, 413 or 415.
    """
    if environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in ("", "identity"):
        raise Refused("415 Unsupported Media Type")
    declared = environ.get("CONTENT_LENGTH") or ""
    if declared:
        size = _size(declared, limit)
        body = _take(environ, size)
        if len(body) < size:
            raise Refused("400 Bad Request")
        return body
    chunked = bool(environ.get("HTTP_TRANSFER_ENCODING"))
    ends = bool(environ.get("wsgi.input_terminated"))
    body = _take(environ, limit + 1) if ends else b""
    if len(body) > limit:
        raise Refused("413 Content Too Large")
    if (chunked or body) and not isinstance(parse(body), dict | list):
        raise Refused("411 Length Required")
    return body


def _size(declared: str, limit: int) -> int:
    if not (declared.isascii() and declared.isdigit()):
        raise Refused("400 Bad Request")
    digits = declared.lstrip("0") or "0"
    if len(digits) > 12 or int(digits) > limit:
        raise Refused("413 Content Too Large")
    return int(digits)


def _take(environ: Mapping[str, Any], size: int) -> bytes:
    pieces: list[bytes] = []
    # gunicorn waits for ever for a sender that has died; granian too, and has no way to stop it.
    if connection := environ.get("gunicorn.socket"):
        connection.settimeout(_SILENCE)
    try:
        while size > 0 and (piece := environ["wsgi.input"].read(min(size, _PIECE))):
            pieces.append(piece)
            size -= len(piece)
    except Exception:  # noqa: BLE001 - each server has errors of its own for a broken body
        raise Refused("400 Bad Request") from None
    return b"".join(pieces)
