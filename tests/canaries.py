"""Texts that occur nowhere else, and the search for them, however they are written down."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from secrets import token_hex
from urllib.parse import quote

# Too short to be told from chance, once the ends that depend on the neighbours are cut off.
SHORTEST = 12


def canary(name: str) -> str:
    """A new secret; its characters survive neither a URL nor JSON nor a regular expression."""
    return f"{name}+{token_hex(12)}/z"


def forms(text: str) -> Iterator[bytes]:
    """As it is, in a URL, in JSON, as Python shows it, and in base64 wherever it begins."""
    for spelt in {
        text,
        quote(text),
        quote(text, safe=""),
        repr(text)[1:-1],
        text.replace("/", r"\/"),
    }:
        yield spelt.lower().encode()
    for shift in range(3):
        whole = b64encode(b"-" * shift + text.encode())
        inner = whole[4 if shift else 0 : -4]  # the ends hold bits of what stands beside it
        for coded in sorted({inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}):
            assert len(coded) >= SHORTEST, f"{text!r} is too short to look for"
            yield coded.lower()


def leaks(secrets: Mapping[str, str], places: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """(secret, place), by their names, wherever a secret stands in any of its forms."""
    found = set()
    patterns = {
        name: re.compile(b"|".join(map(re.escape, sorted(set(forms(text))))))
        for name, text in secrets.items()
    }
    for place, content in places.items():
        lowered = content.lower()
        found |= {(name, place) for name, one in patterns.items() if one.search(lowered)}
    return found
