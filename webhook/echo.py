"""Answers the doctor's probes: what arrived of them, and a proof that this is our webhook."""

import time
from typing import Any

from cutwork import probe
from cutwork.settings import Settings

from . import body

_METHODS = ("GET", "POST")
_KEY = f"HTTP_{probe.HEADER.upper().replace('-', '_')}"


def echo(environ: dict[str, Any], settings: Settings, path: str, query: str) -> bytes | None:
    """The answer to a probe; None for whatever is none. No SQL, and forged ones cost an HMAC."""
    token = environ.get(_KEY) or path.rpartition("/")[2]
    if not token.startswith(probe.FIRST) or environ.get("REQUEST_METHOD") not in _METHODS:
        return None
    now = time.time()
    secret = probe.signer(settings.callback_secrets, token, now=now)
    if secret is None:
        return None
    try:
        seen = probe.fingerprint(body.read(environ, settings.callback_max_body))
    except body.Refused as refused:
        seen = refused.status
    method = str(environ.get("REQUEST_METHOD"))[:10]
    return probe.answer(secret, token, probe.Seen(now, method, path, query, seen))
