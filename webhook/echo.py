"""Answers the doctor's probes: what arrived of them, and a proof that this is our webhook."""

import time
from collections.abc import Sequence
from typing import Any

from cutwork import probe

from . import body

_KEY = f"HTTP_{probe.HEADER.upper().replace('-', '_')}"


def echo(
    environ: dict[str, Any], secrets: Sequence[str], path: str, query: str, limit: int
) -> bytes | None:
    """The answer to a probe; None for whatever is none. No SQL, and forged ones cost an HMAC."""
    token = environ.get(_KEY) or path.rpartition("/")[2]
    now = time.time()
    secret = probe.signer(secrets, token, now=now)
    if secret is None:
        return None
    try:
        seen = probe.fingerprint(body.read(environ, limit))
    except body.Refused as refused:
        seen = refused.status
    method = str(environ.get("REQUEST_METHOD"))[:10]
    return probe.answer(secret, token, probe.Seen(now, method, path, query, seen))
