"""Callback addresses: one for each attempt, signed, expiring; and what arrives at them.

The provider does not sign its callbacks, so the address is the proof: its last segment names the
job and the attempt, and only we could have minted it. Who has the address may speak for the
provider about this attempt; it is a secret and belongs in no log.
"""

import math
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from hmac import HMAC, compare_digest
from hmac import new as new_hmac
from urllib.parse import parse_qsl
from uuid import UUID

from cutwork.errors import InvalidSetting
from cutwork.reading import parse
from cutwork.settings import Settings

PATH = "/callbacks/"

_VERSION = 1
_LABEL = b"cutwork callback\0"
_PAYLOAD = struct.Struct(">B16sII")  # version, job, attempt, expiry in Unix seconds
# 25 bytes and 20 of HMAC fill 60 characters to the last bit, so a token has one spelling only.
_MAC_LENGTH = 20
_TOKEN = re.compile(r"[A-Za-z0-9_-]{60}")
_MAX_FIELDS = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """What a token proves: its bearer was told about this attempt of this job."""

    job_id: UUID
    attempt: int


def mint(secret: str, job_id: UUID, attempt: int, expires: int) -> str:
    """The token of one attempt: 60 characters of base64url, void at ``expires`` (Unix seconds)."""
    payload = _PAYLOAD.pack(_VERSION, job_id.bytes, attempt, expires)
    return urlsafe_b64encode(payload + _mac(secret, payload)).decode("ascii")


def url(settings: Settings, job_id: UUID, attempt: int, *, now: float) -> str | None:
    """Where the provider is to report on this attempt; None when it cannot reach us.

    Raises:
        InvalidSetting: there is a public URL but no secret to sign with.
    """
    if not settings.public_url:
        return None
    if not settings.callback_secrets:
        raise InvalidSetting(
            "CUTWORK_CALLBACK_SECRETS",
            "",
            "must be set when CUTWORK_PUBLIC_URL is",
            "put 32 random characters there, the same on every host",
        )
    expires = math.ceil(now + settings.callback_ttl)
    token = mint(settings.callback_secrets[0], job_id, attempt, expires)
    return f"{settings.public_url}{PATH}{token}"


def verify(secrets: Sequence[str], token: str, *, now: float) -> Claim | None:
    """Read a token that one of ``secrets`` signed; None if it is forged, misspelt or expired."""
    if not _TOKEN.fullmatch(token):
        return None
    raw = urlsafe_b64decode(token)
    payload, mac = raw[: _PAYLOAD.size], raw[_PAYLOAD.size :]
    if not any(compare_digest(_mac(secret, payload), mac) for secret in secrets):
        return None
    version, job, attempt, expires = _PAYLOAD.unpack(payload)
    if version != _VERSION or now >= expires:
        return None
    return Claim(UUID(bytes=job), attempt)


def read(body: bytes, content_type: str, query: str) -> object | None:
    """Decode a callback for :meth:`cutwork.report.Report.read`; None if it cannot be understood.

    JSON is known by its first character, whatever ``content_type`` says; then come multipart and
    URL-encoded forms. An empty body leaves the ``query`` (without its question mark). A name that
    occurs twice, a number that is none, or text in a broken encoding void the whole.
    """
    if not body.strip():
        return _form(query)
    boundary = _BOUNDARY.match(content_type)
    if boundary and body.lstrip().startswith(b"--"):
        return _multipart(body, boundary["quoted"] or boundary["bare"])
    text = _text(body, content_type)
    if text is None:
        return None
    text = text.removeprefix("\ufeff").strip()
    if not text:
        return _form(query)
    return parse(text) if text[0] in "{[" else _form(text)


_BOUNDARY = re.compile(
    r'^\s*multipart/form-data\s*;.*?boundary=(?:"(?P<quoted>[^"]{1,70})"|(?P<bare>[^\s;"]{1,70}))',
    re.IGNORECASE,
)
# A stranger names the codec, and Python has some that do more than read characters.
_CHARSET = re.compile(
    r'charset\s*=\s*"?(big5|gb18030|gb2312|gbk|iso-8859-1|latin-1|us-ascii|utf-16(?:be|le)?)\b',
    re.IGNORECASE,
)
_PART_NAME = re.compile(rb'^content-disposition:[^\r\n]*?[;\s]name="?([^";\r\n]+)', re.I | re.M)


def _mac(secret: str, payload: bytes) -> bytes:
    mac = _keyed(secret).copy()
    mac.update(payload)
    return mac.digest()[:_MAC_LENGTH]


@cache  # keying it anew is a tenth of what a forged callback costs
def _keyed(secret: str) -> HMAC:
    return new_hmac(secret.encode(), _LABEL, sha256)


def _text(body: bytes, content_type: str) -> str | None:
    named = _CHARSET.search(content_type)
    charset = named[1] if named else "utf-8"
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        charset = "utf-16"
    try:
        return body.decode(charset)
    except UnicodeDecodeError:
        return None


def _form(text: str) -> Mapping[str, str] | None:
    try:
        fields = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        return None
    return _once(fields)


def _multipart(body: bytes, boundary: str) -> Mapping[str, str] | None:
    pieces = body.split(b"--" + boundary.encode("latin-1", "replace"), _MAX_FIELDS)
    if not pieces[-1].startswith(b"--"):
        return None
    fields = []
    for part in pieces[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = _PART_NAME.search(head)
        if name is None or not value.endswith(b"\r\n"):
            return None
        try:
            fields.append((name[1].decode(), value[:-2].decode()))
        except UnicodeDecodeError:
            return None
    return _once(fields)


def _once(fields: list[tuple[str, str]]) -> Mapping[str, str] | None:
    """The fields by name; None if there are none, or if one name has two values."""
    named = dict(fields)
    return named if 0 < len(named) == len(fields) else None
