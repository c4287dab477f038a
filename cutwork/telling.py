"""Tell a URL that a job is over: one POST, signed by the Standard Webhooks scheme.

    webhook-id          the same at each try, so that a subscriber can pass over what it has heard
    webhook-timestamp   seconds since 1970 of this try
    webhook-signature   ``v1,`` and the base64 HMAC-SHA256 of id, timestamp and body; one for each
                        secret, so that a secret can be exchanged without a gap

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import hmac
import json
import time
from base64 import b64decode, b64encode
from contextlib import closing
from functools import cache
from hashlib import sha256
from urllib.parse import urlsplit

from requests import Request, RequestException
from urllib3.exceptions import HTTPError

from cutwork import wire
from cutwork.addresses import Guard, Refused
from cutwork.form import user_agent
from cutwork.job import Job
from cutwork.notices import Notice, Told
from cutwork.reply import Reply, why
from cutwork.settings import Settings

# "I do not want this": the scheme asks senders to stop then.
_GONE, _BUSY = 410, 429
_NO_SECRET = "CUTWORK_NOTIFY_SECRETS is not set, so nothing can be signed"  # noqa: S105


def message(notice: Notice, job: Job) -> bytes:
    """The body: ``type`` is what happened, ``timestamp`` when, ``data`` the job in short."""
    told = job.to_json()
    names = ("id", "owner", "idempotency_key", "meta", "image", "mask", "error", "decided_by")
    data = {name: told[name] for name in names} | {"state": notice.state}
    body = {"type": f"job.{notice.state}", "timestamp": notice.created_at.isoformat(), "data": data}
    return json.dumps(body, separators=(",", ":")).encode()


def signatures(secrets: tuple[str, ...], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    keys = (b64decode(secret.removeprefix("whsec_")) for secret in secrets)
    macs = (hmac.new(key, signed, sha256).digest() for key in keys)
    return " ".join(f"v1,{b64encode(mac).decode()}" for mac in macs)


def post(notice: Notice, body: bytes, settings: Settings) -> Told:
    """Tell it now, within ``notify_timeout``; no redirect is followed, and no answer is kept."""
    if not settings.notify_secrets:
        return Told(_NO_SECRET)
    parts = urlsplit(notice.target)
    bare = parts._replace(query="", fragment="").geturl()
    networks, seconds = settings.notify_networks, settings.notify_timeout
    # The app may have the address from a user of its own, so it is nobody's list of hosts.
    guard = Guard(networks, listed=False)
    with (
        _kept(parts.scheme, networks).borrow() as adapter,
        wire.exchange(
            seconds, idle=wire.LIKELY_ALIVE, query=parts.query, admit=guard.admit
        ) as exchange,
    ):
        try:
            request = Request("POST", bare, _headers(notice, body, settings), data=body).prepare()
            timeout = (settings.connect_timeout, seconds)
            with closing(adapter.send(request, stream=True, timeout=timeout)) as response:
                return _understood(Reply.read(response, hide=list(filter(None, [parts.query]))))
        except Refused as refused:
            return _forbidden(refused)
        except (RequestException, HTTPError, OSError, ValueError) as error:
            late = f"no answer within {seconds:g} s" if exchange.over else why(error)
            return Told(late, silent=True)


@cache
def _kept(scheme: str, _admitted: tuple[str, ...]) -> wire.Kept:
    """Connections that were kept lead where addresses were admitted when they were made."""
    return wire.Kept(wire.trust() if scheme == "https" else None)


def _headers(notice: Notice, body: bytes, settings: Settings) -> dict[str, str]:
    message_id, timestamp = f"msg_{notice.id.hex}", int(time.time())
    return {
        "User-Agent": user_agent(),
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures(settings.notify_secrets, message_id, timestamp, body),
    }


def _understood(reply: Reply) -> Told:
    """Any 2xx says that it was heard; whatever else, that it is to be told again."""
    status = reply.http_status or 0
    if reply.fine:
        return Told()
    fault = f"it answered {status}"
    if status == _GONE:
        return Told(f"{fault}: it wants to hear no more", final=True)
    silent = status >= 500 or status == _BUSY
    return Told(fault, retry_after=reply.retry_after, silent=silent)


def _forbidden(refused: Refused) -> Told:
    remedy = f"if that is yours, put its network, such as {refused.network}, into"
    return Told(f"nobody may be told there: {refused}: {remedy} CUTWORK_NOTIFY_NETWORKS")
