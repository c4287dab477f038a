"""Read a submit's form: multipart or urlencoded, and check it as the provider would."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from urllib.parse import parse_qsl, urlsplit

import multipart  # type: ignore[import-untyped]  # one module, without py.typed

from .limits import MAX_BYTES, MAX_URL

KINDS = ("", "person", "object", "stamp")
FORMATS = ("png", "jpg")
SMALL = 64 * 1024


@dataclass(frozen=True)
class Submission:
    """A form that the provider accepts.

    ``kind`` is the field ``type``, ``""`` to detect. ``source`` is 16 hex digits that name the
    picture that was sent, or its address: the first of its SHA-256.
    """

    image: bytes = field(default=b"", repr=False)
    image_url: str = ""
    sync: bool = False
    kind: str = ""
    output_type: int = 2
    crop: bool = False
    format: str = "png"
    bg_color: str = "ffffff"
    callback_url: str = field(default="", repr=False)
    source: str = ""


@dataclass(frozen=True)
class Refused:
    """A form that the provider does not accept."""

    status: int
    message: str


def read_form(content_type: str, body: bytes) -> Submission | Refused:
    """Take a request's body apart and check every field, as the provider's document has them."""
    kind, options = multipart.parse_options_header(content_type)
    try:
        match kind:
            case "multipart/form-data":
                fields = _multipart_fields(options.get("boundary", ""), body)
            case "application/x-www-form-urlencoded":
                fields = _urlencoded_fields(body)
            case _:
                return Refused(400, "image is required")
    except ValueError:
        return Refused(400, "the form cannot be read")
    return _check(fields)


def _multipart_fields(boundary: str, body: bytes) -> dict[str, bytes]:
    parser = multipart.MultipartParser(
        BytesIO(body),
        boundary,
        len(body),
        spool_limit=len(body),
        memory_limit=len(body),
        part_limit=32,
    )
    fields: dict[str, bytes] = {}
    for part in parser:
        fields.setdefault(part.name or "", part.raw)
        part.close()
    return fields


def _urlencoded_fields(body: bytes) -> dict[str, bytes]:
    pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=32)
    fields: dict[str, bytes] = {}
    for name, value in pairs:
        fields.setdefault(name, value.encode())
    return fields


def _check(fields: Mapping[str, bytes]) -> Submission | Refused:
    image = fields.get("image_file", b"")
    try:
        texts = {
            name: value[:SMALL].decode().strip()
            for name, value in fields.items()
            if name != "image_file"
        }
    except UnicodeDecodeError:
        return Refused(400, "a text field is not UTF-8")
    if len(image) > MAX_BYTES:
        return Refused(413, "the image is larger than 15 MB")
    if problem := _problem(image, texts):
        return Refused(400, problem)
    return Submission(
        image=image,
        image_url=texts.get("image_url", ""),
        sync=texts.get("sync") == "1",
        kind=texts.get("type", ""),
        output_type=int(texts.get("output_type") or 2),
        crop=texts.get("crop") == "1",
        format=texts.get("format") or "png",
        bg_color=(texts.get("bg_color") or "ffffff").removeprefix("#").lower(),
        callback_url=texts.get("callback_url", ""),
        source=sha256(image or texts["image_url"].encode()).hexdigest()[:16],
    )


def _problem(image: bytes, texts: Mapping[str, str]) -> str:
    url = texts.get("image_url", "")
    allowed = {
        "sync": ("", "0", "1"),
        "type": KINDS,
        "output_type": ("", "1", "2", "3"),
        "crop": ("", "0", "1"),
        "format": ("", *FORMATS),
    }
    if not image and not url:
        return "image is required"
    if image and url:
        return "only one of image_file and image_url may be given"
    if len(url) > MAX_URL:
        return f"image_url is longer than {MAX_URL} characters"
    if url and not _is_http(url):
        return "image_url is not an http address"
    for name, values in allowed.items():
        if texts.get(name, "") not in values:
            return f"{name} is invalid"
    if not re.fullmatch(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})?", texts.get("bg_color", "")):
        return "bg_color is invalid"
    if texts.get("callback_url") and not _is_http(texts["callback_url"]):
        return "callback_url is not an http address"
    return ""


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
