"""A callback that concerns no job, to find out whether one would arrive, and what arrives of it.

A probe looks like a callback on its way, to the last character of its token, but is signed for
another purpose: no probe is a callback, and no callback a probe. Whoever knows a callback secret
can make one; the webhook answers it with what it saw and a proof that it knows a secret as well.
Nothing of this needs the database.

The token also travels in a header, so that a webhook can tell what became of the path.
"""

import json
import re
import secrets as randomness
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest, digest
from typing import Any

HEADER = "X-Cutwork-Probe"

_KIND = 0x70  # where a callback's token has its version
# So each token begins, and no callback's does: the webhook looks at this before anything else.
FIRST = "c"
_LABEL, _ANSWER_LABEL = b"cutwork probe\0", b"cutwork probe answer\0"
_PAYLOAD = struct.Struct(">B20sI")  # kind, nonce, expiry in Unix seconds
_MAC_LENGTH = 20
_TOKEN = re.compile(r"[A-Za-z0-9_-]{60}")
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Seen:
    """A probe as the webhook saw it: ``at`` by its own clock, in Unix seconds.

    ``body`` is the SHA-256 in hex of what arrived, or the status with which it was refused.
    """

    at: float
    method: str
    path: str
    query: str
    body: str


def mint(secret: str, expires: int) -> str:
    """The token of a probe: 60 characters of base64url, as a callback's, void at ``expires``."""
    payload = _PAYLOAD.pack(_KIND, randomness.token_bytes(20), expires)
    return urlsafe_b64encode(payload + _mac(secret, payload)).decode("ascii")


def signer(secrets: Sequence[str], token: str, *, now: float) -> str | None:
    """The secret that signed this probe; None if it is none, forged, or over."""
    raw = _decoded(token)
    if raw is None or raw[0] != _KIND:
        return None
    payload, mac = raw[: _PAYLOAD.size], raw[_PAYLOAD.size :]
    found = [one for one in secrets if compare_digest(_mac(one, payload), mac)]
    _kind, _nonce, expires = _PAYLOAD.unpack(payload)
    return found[0] if found and now < expires else None


def answer(secret: str, token: str, seen: Seen) -> bytes:
    """What the webhook says to a probe: JSON, with the proof."""
    facts = {
        "probe": "cutwork",
        "at": seen.at,
        "method": seen.method,
        "path": seen.path[:_LONGEST],
        "query": seen.query[:_LONGEST],
        "body": seen.body,
    }
    return json.dumps(facts | {"proof": _proof(secret, token, facts)}).encode()


def read(secret: str, token: str, told: Mapping[str, Any]) -> Seen | None:
    """What the webhook saw; None if this is not the answer of one that knows the secret."""
    facts = {name: value for name, value in told.items() if name != "proof"}
    proof = str(told.get("proof")).encode(errors="replace")
    if not compare_digest(_proof(secret, token, facts).encode(), proof):
        return None
    return Seen(facts["at"], facts["method"], facts["path"], facts["query"], facts["body"])


def _decoded(token: str) -> bytes | None:
    if not _TOKEN.fullmatch(token):
        return None
    return urlsafe_b64decode(token)


def _mac(secret: str, payload: bytes) -> bytes:
    return digest(secret.encode(), _LABEL + payload, "sha256")[:_MAC_LENGTH]


def _proof(secret: str, token: str, facts: Mapping[str, Any]) -> str:
    said = json.dumps(facts, sort_keys=True).encode()
    return digest(secret.encode(), _ANSWER_LABEL + token.encode() + b"\0" + said, "sha256").hex()


def fingerprint(body: bytes) -> str:
    """What ``Seen.body`` says of a body that arrived."""
    return sha256(body).hexdigest()
