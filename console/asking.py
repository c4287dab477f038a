"""A request as the pages see it: its path, query, form and cookies, taken without trust."""

from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
Fields = Mapping[str, list[str]]

MAX_BODY = 64 * 1024
_MAX_FIELDS = 500
_MAX_QUERY = 8 * 1024


class Unreadable(Exception):
    """The request cannot be taken; ``status`` is the answer."""

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(status)


@dataclass(frozen=True)
class Asked:
    """``form`` is empty unless it is a POST; ``address`` is who connected, perhaps a proxy."""

    method: str
    path: str
    query: Fields
    form: Fields
    cookies: Mapping[str, str]
    host: str
    origin: str | None
    site: str
    secure: bool
    htmx: bool
    etag: str
    address: str

    def one(self, name: str) -> str:
        """The last value of a field of the query, or an empty text."""
        return self.query.get(name, [""])[-1]

    def told(self, name: str) -> str:
        """The last value of a field of the form, or an empty text."""
        return self.form.get(name, [""])[-1]


def read(environ: Environ) -> Asked:
    """Read all of it but a body that is not a form's.

    Raises:
        Unreadable: 400, 411, 413 or 415.
    """
    method = str(environ.get("REQUEST_METHOD", ""))
    query = str(environ.get("QUERY_STRING", ""))
    if len(query) > _MAX_QUERY:
        raise Unreadable("414 URI Too Long")
    path = str(environ.get("PATH_INFO", ""))  # in Latin-1, as WSGI has it
    forwarded = str(environ.get("HTTP_X_FORWARDED_PROTO", "")).lower()
    return Asked(
        method=method,
        path=path.encode("latin-1", "replace").decode(errors="replace"),
        query=_fields(query),
        form=_fields(_body(environ)) if method == "POST" else {},
        cookies=_cookies(str(environ.get("HTTP_COOKIE", ""))),
        host=str(environ.get("HTTP_HOST", "")).lower(),
        origin=environ.get("HTTP_ORIGIN"),
        site=str(environ.get("HTTP_SEC_FETCH_SITE", "")),
        secure="https" in (environ.get("wsgi.url_scheme"), forwarded),
        htmx=environ.get("HTTP_HX_REQUEST") == "true",
        etag=str(environ.get("HTTP_IF_NONE_MATCH", "")),
        address=str(environ.get("REMOTE_ADDR", "")),
    )


def _fields(text: str) -> Fields:
    if "%00" in text or "\0" in text:  # PostgreSQL has no such text, and nobody types it
        raise Unreadable("400 Bad Request")
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="replace")
    except ValueError:
        raise Unreadable("400 Bad Request") from None


def _body(environ: Environ) -> str:
    kind = str(environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()
    if kind not in ("", "application/x-www-form-urlencoded"):
        raise Unreadable("415 Unsupported Media Type")
    declared = str(environ.get("CONTENT_LENGTH") or "")
    if not (declared.isascii() and declared.isdigit()):
        raise Unreadable("411 Length Required")
    if len(declared) > 9 or int(declared) > MAX_BODY:
        raise Unreadable("413 Content Too Large")
    left, pieces = int(declared), []
    try:
        while left > 0 and (piece := environ["wsgi.input"].read(left)):
            pieces.append(piece)
            left -= len(piece)
    except Exception:  # noqa: BLE001 - each server has errors of its own for a broken body
        raise Unreadable("400 Bad Request") from None
    if left:
        raise Unreadable("400 Bad Request")
    return b"".join(pieces).decode("utf-8", "replace")


def _cookies(text: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(text[:8192]).items()}
    except CookieError:
        return {}
