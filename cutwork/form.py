"""What goes out to the provider: the form's parts, the headers, and the key among them."""

import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from requests import PreparedRequest, Request
from urllib3 import encode_multipart_formdata

from cutwork.settings import Settings


def submission(
    settings: Settings,
    key: str,
    fields: Mapping[str, str],
    *,
    image: tuple[str, bytes] | None,
    image_url: str | None,
    callback_url: str | None,
) -> PreparedRequest:
    """A POST that creates a task; ``image`` is (file name, content).

    Raises:
        RequestException: API_URL is no address.
    """
    texts = {**fields, "sync": "0", "image_url": image_url, "callback_url": callback_url}
    parts: list[tuple[str, Any]] = [
        (name, text) for name, text in texts.items() if text is not None
    ]
    if image is not None:
        name, content = image
        kind = mimetypes.guess_type(name, strict=False)[0] or "application/octet-stream"
        parts.append(("image_file", (name, content, kind)))
    made = _signed(_blank_form(settings.api_url + settings.submit_path).copy(), settings, key)
    made.body, made.headers["Content-Type"] = encode_multipart_formdata(parts)
    made.headers["Content-Length"] = str(len(made.body))
    return made


def question(settings: Settings, key: str, task_id: str) -> PreparedRequest:
    """A GET that asks about a task.

    Raises:
        RequestException: API_URL is no address.
    """
    path = settings.query_path.replace("{task_id}", quote(task_id, safe=""))
    return _signed(_blank("GET", settings.api_url + path), settings, key)


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


def _blank(method: str, url: str) -> PreparedRequest:
    headers = {
        "User-Agent": user_agent(),
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }
    # The auth that adds nothing keeps requests from making one of what is in the address.
    return Request(method, url, headers, auth=lambda prepared: prepared).prepare()


@cache  # preparing an address and headers is a tenth of the price of a submit
def _blank_form(url: str) -> PreparedRequest:
    return _blank("POST", url)


def _signed(request: PreparedRequest, settings: Settings, key: str) -> PreparedRequest:
    bearer = settings.api_auth == "bearer"
    name, value = ("Authorization", f"Bearer {key}") if bearer else ("X-API-KEY", key)
    request.headers[name] = value
    return request
