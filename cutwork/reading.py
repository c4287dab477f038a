"""A stranger's words, taken strictly: JSON that means one thing, whole numbers, harmless text."""

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

LINE_LENGTH = 300

_INT32 = 2**31
_NUMBER = re.compile(r"[+-]?[0-9]{1,10}(?:\.[0-9]{0,20})?")
# A few plain words, as nearly all texts are: nothing in them has to be looked for.
_WORDS = re.compile(r"[A-Za-z]{1,39}(?: [A-Za-z]{1,39}){0,9}")
_OPAQUE = re.compile(r"[A-Za-z0-9_-]{40,}")
_URL = re.compile(r":(?://|\\/\\/|%2f%2f)|%3a%2f%2f", re.IGNORECASE)
_QUERY = re.compile(r"[?#]|%3f|%23", re.IGNORECASE)
_USER = re.compile(r"://[^/\s@]*@")


def parse(text: str | bytes) -> object | None:
    """Decode JSON that means one thing only, or None.

    Refused: duplicate names, NaN and infinities, integers of more than 20 digits, nesting deeper
    than the interpreter's stack, invalid UTF-8.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        decoded: object = _decode(text)
    except (ValueError, RecursionError):
        return None
    return decoded


def plain(text: str, *, hide: Iterable[str] = ()) -> str:
    """A stranger's text, fit for a log line: one line, at most 300 characters, without secrets.

    Removed: control and formatting characters, the texts in ``hide`` (in any case, even if broken
    by spaces or escapes), queries and credentials of URLs, and words as long as a token.
    """
    text = text[:4000]
    if _WORDS.fullmatch(text):
        line = text
    else:
        if not text.isprintable():
            text = "".join(map(_printable, text))
        line = " ".join(_OPAQUE.sub("…", _without_query(word)) for word in text.split())
    for secret in hide:
        if 0 < len(secret) <= len(line):  # a text that is shorter cannot hold it
            line = _spellings(secret).sub("…", line)
    return line if len(line) <= LINE_LENGTH else f"{line[: LINE_LENGTH - 1]}…"


def number(value: object) -> int | float | None:
    """A number, written as one or as its digits; None for anything else."""
    # Stripped once, because float() strips less than strip(): not the separators \x1c to \x1f.
    if isinstance(value, str) and _NUMBER.fullmatch(text := value.strip()):
        return float(text)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def whole(value: object) -> int | None:
    """A 32-bit integer, however it was written (7, 7.0, "7"); None for anything else."""
    told = value if type(value) is int else number(value)
    if told is None or not -_INT32 <= told < _INT32:
        return None
    return int(told) if told == int(told) else None


@lru_cache(maxsize=64)  # to make the pattern costs a millisecond
def _spellings(secret: str) -> re.Pattern[str]:
    return re.compile(r"[\s\\]*".join(map(re.escape, secret)), re.IGNORECASE)


def _printable(character: str) -> str:
    kind = unicodedata.category(character)
    if character.isspace() or kind == "Cc":
        return " "
    return "" if kind.startswith("C") else character


def _without_query(word: str) -> str:
    word = _USER.sub("://", word)
    mark = _QUERY.search(word)
    if mark is None:
        return word
    rest = word[mark.end() :].lower()
    return word[: mark.start()] if "=" in rest or "%3d" in rest or _URL.search(word) else word


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _short_int(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError("too many digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("out of range")
    return value


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


_decode = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_short_int,
    parse_float=_finite,
    parse_constant=_refuse,
).decode
