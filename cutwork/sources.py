"""Where a picture comes from: a URL that the provider fetches, or a file that we send.

Only the form is checked here; whether a file holds a picture is for ``pictures`` to say.
"""

import inspect
import io
import os
import re
import stat
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any, Protocol
from urllib.parse import urlsplit

from cutwork.errors import InvalidInput


class BinaryFile(Protocol):
    """A file that was opened in binary mode, and whatever is read like one."""

    def read(self, size: int, /) -> bytes: ...


# What image_file may be; bytes stand for the picture itself, text for a path.
Source = str | os.PathLike[str] | bytes | BinaryFile

MAX_URL = 512  # characters

# What nearly all addresses look like, and about which no two parsers disagree.
_USUAL = re.compile(r"https?://([a-z0-9.-]+)(?:[/?#][!-\[\]-~]*)?")
_VISIBLE = re.compile(r"[!-\[\]-~]*")
_NETLOC = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?))(?::\d*)?", re.I)
_HOW = "pass a path, the bytes, or a file opened with 'rb'"


def check_url(url: object) -> None:
    """Raise InvalidInput unless the provider may be given this address."""
    if not isinstance(url, str):
        raise InvalidInput("image_url", type(url).__name__, "must be text")
    if len(url) > MAX_URL:
        raise InvalidInput(
            "image_url",
            f"{len(url)} characters",
            f"must have at most {MAX_URL} characters",
            "use a shorter address, or send the picture as image_file",
        )
    if fault := url_fault(url):
        rule, remedy = fault
        raise InvalidInput("image_url", shown(url), rule, remedy)


def url_fault(url: str) -> tuple[str, str] | None:
    """The rule that an http(s) URL breaks and its remedy; None for a good one.

    Stricter than the URL parsers, which disagree about the host of a URL with a backslash, a
    control character or a second ``@``.
    """
    if (usual := _USUAL.fullmatch(url)) and _is_host(usual[1]):
        return None
    if not _VISIBLE.fullmatch(url):
        return "must be ASCII without spaces, control characters or backslashes", "percent-encode"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "must have a valid host and port", "check the part between // and the next /"
    if parts.scheme not in ("http", "https"):
        return "must start with http:// or https://", "send a local file as image_file"
    if "@" in parts.netloc:
        return "must not carry a user name or password", "use a signed link, or image_file"
    if not _is_host(parts.netloc) or port == 0:
        return "must have a valid host and port", "check the part between // and the next /"
    return None


def shown(url: str) -> str:
    """The URL as a person may see it: no user, no query, no fragment, nothing unprintable."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    bare = re.sub(r"^(https?://)?.*@", r"\1", bare, flags=re.IGNORECASE | re.DOTALL)
    printable = "".join(char if "!" <= char <= "~" else "?" for char in bare)
    return printable if len(printable) <= 200 else f"{printable[:197]}..."


def check_file(source: object) -> None:
    """Raise InvalidInput unless this is a readable file's path, bytes, or a binary file."""
    if isinstance(source, bytes):
        return
    if isinstance(source, str | os.PathLike):
        _check_path(source)
    elif callable(getattr(source, "read", None)):
        _check_stream(source)
    else:
        raise InvalidInput(
            "image_file", type(source).__name__, "must be a path, bytes or a binary file", _HOW
        )


def read_file(source: Source, limit: int) -> bytes:
    """The picture's bytes, from a file object's current position on; at most ``limit`` + 1 of them.

    One byte more than the limit tells the caller that there was too much. Bytes come back as they
    are, whatever their number.

    Raises:
        InvalidInput: the file cannot be read, or does not give bytes.
    """
    if isinstance(source, bytes):
        return source
    try:
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as file:
                return _drain(file, limit)
        return _drain(source, limit)
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:
        raise InvalidInput("image_file", source, f"cannot be read ({_cause(error)})") from None


def _drain(stream: BinaryFile, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while size <= limit:
        piece: Any = stream.read(limit + 1 - size)
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise InvalidInput("image_file", type(piece).__name__, "must give bytes", _HOW)
        if not piece:
            break
        pieces.append(bytes(piece))
        size += len(pieces[-1])
    return b"".join(pieces)


@lru_cache  # many URLs, few hosts
def _is_host(netloc: str) -> bool:
    match = _NETLOC.fullmatch(netloc)
    if match is None:
        return False
    address, name = match.groups()
    if name:
        return len(name) <= 253 and all(len(label) <= 63 for label in name.split("."))
    try:
        IPv6Address(address)
    except ValueError:
        return False
    return True


def _check_path(path: str | os.PathLike[str]) -> None:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            with open(path, "rb"):
                return
    except FileNotFoundError:
        rule, remedy = "must name a file that exists", "pass an address on the web as image_url"
    except (OSError, ValueError) as error:
        rule, remedy = f"must name a readable file ({_cause(error)})", ""
    else:
        what = "a directory" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        rule, remedy = f"must name a regular file, not {what}", _HOW
    raise InvalidInput("image_file", os.fspath(path), rule, remedy)


def _check_stream(stream: Any) -> None:
    rule = ""
    if isinstance(stream, io.TextIOBase):
        rule = "must be opened in binary mode"
    elif inspect.iscoroutinefunction(stream.read):
        rule = "must be a plain file, its read() is a coroutine"
    elif getattr(stream, "closed", False) is True:
        rule = "must be open"
    elif callable(readable := getattr(stream, "readable", None)) and readable() is False:
        rule = "must be open for reading"
    if rule:
        raise InvalidInput("image_file", stream, rule, _HOW)


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
