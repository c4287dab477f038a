"""What goes out to the provider: the form's parts, the headers, and the key among them."""

import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from requests import PreparedRequest, Request

from cutwork.errors import InvalidInput
from cutwork.settings import Settings


def parts(
    fields: Mapping[str, str],
    image: tuple[str, bytes] | None,
    image_url: str | None,
    callback_url: str | None,
) -> list[tuple[str, Any]]:
    """The form's parts, as requests takes them.

    Raises:
        InvalidInput: there is neither or both of ``image`` and ``image_url``.
    """
    if (image is None) == (image_url is None):
        got = "neither" if image is None else "both"
        raise InvalidInput("image", got, "must be given as a file or as an address")
    texts = {**fields, "sync": "0", "image_url": image_url, "callback_url": callback_url}
    made: list[tuple[str, Any]] = [
        (name, (None, text)) for name, text in texts.items() if text is not None
    ]
    if image is not None:
        name, content = image
        kind = mimetypes.guess_type(name, strict=False)[0] or "application/octet-stream"
        made.append(("image_file", (name, content, kind)))
    return made


def request(settings: Settings, method: str, path: str, key: str, **body: Any) -> Request:
    """A request to ``path`` below API_URL that carries ``key``, whatever the environment says."""
    headers = {
        "User-Agent": user_agent(),
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }

    def sign(prepared: PreparedRequest) -> PreparedRequest:
        bearer = settings.api_auth == "bearer"
        name, value = ("Authorization", f"Bearer {key}") if bearer else ("X-API-KEY", key)
        prepared.headers[name] = value
        return prepared

    return Request(method, settings.api_url + path, headers, auth=sign, **body)


def sendable(key: str) -> bool:
    """Whether a header can carry the key as it is."""
    return key.isascii() and key.isprintable() and key == key.strip()


def secrets(key: str, callback_url: str | None) -> tuple[str, ...]:
    """What no message may repeat; the callback's token by itself, however its URL is spelt."""
    told = (key, quote(key, safe=""))
    return told if callback_url is None else (*told, callback_url, callback_url.rpartition("/")[2])


@cache
def user_agent() -> str:
    """Who we say that we are."""
    return f"cutwork/{version('cutwork')}"
