"""The way from the public URL to our webhook, tried with signed probes as a provider would go it.

It is seen from this host: where a network leads its own public address elsewhere, or nowhere, run
`cutwork doctor` outside of it as well.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from requests import Request, RequestException, Response
from urllib3.exceptions import HTTPError

from cutwork import callbacks, probe, wire
from cutwork.finding import Finding, finding
from cutwork.reading import parse, plain
from cutwork.reply import why
from cutwork.settings import Settings
from cutwork.skew import compare_webhook

_PATIENCE = 10.0
_LATE = 5.0
_LONGEST_ANSWER = 65536
# What a callback may look like: longer than the usual ones, with all that a filter may stumble on.
_LINK = "https://results.example/a-image.png?Expires=1&Signature=a%2Fb%2Bc%3D&x=%E5%9B%BE"
_BODY = {"status": 200, "data": {"state": 4, "progress": 50, "image": _LINK, "filler": "x" * 4096}}
_QUERY = "state=4&progress=50&image=https%3A%2F%2Fresults.example%2Fa.png%3FSignature%3Da%252Fb%2B"
_GATEWAY = (502, 503, 504, 521, 522, 523)
_BARRED = (401, 403, 406, 407, 429, 451)
_TOO_LARGE, _UNFIT = (411, 413), (400, 415)


@dataclass(frozen=True)
class _Answer:
    status: int
    kind: str
    location: str
    allow: str
    body: bytes
    seconds: float


@dataclass(frozen=True)
class _Sent:
    """A probe that was answered, and what the webhook says that it saw; None: not our webhook.

    ``at`` is the middle of the exchange by this host's clock, in Unix seconds.
    """

    token: str
    at: float
    answer: _Answer
    seen: probe.Seen | None


def reach(settings: Settings) -> Iterator[Finding]:
    """Findings about the public URL; nothing when there is none, or no secret to sign with."""
    if not (settings.public_url and settings.callback_secrets):
        return
    body = json.dumps(_BODY).encode()
    posted = _send(settings, "POST", body=body)
    if isinstance(posted, Finding):
        yield posted
    elif posted.seen is None:
        yield _stranger(settings, posted.answer, len(body))
    elif fault := _fault_of_post(settings, posted.seen, posted.token, body):
        yield fault
    else:
        yield from _further(settings, posted)
    if isinstance(posted, _Sent) and posted.seen is not None:
        yield from compare_webhook(settings, posted.seen.at - posted.at)


def _further(settings: Settings, posted: _Sent) -> Iterator[Finding]:
    """The POST arrived whole: what of a GET, and was it quick?"""
    asked = _send(settings, "GET", query=_QUERY)
    if isinstance(asked, Finding):
        yield asked
    elif asked.seen is None:
        yield finding("url_get", status=asked.answer.status)
    elif asked.seen.query != _QUERY:
        yield finding("url_query")
    else:
        yield finding("url_ok", ms=posted.answer.seconds * 1000)
    if posted.answer.seconds > _LATE:
        yield finding("url_late", seconds=posted.answer.seconds)


def _fault_of_post(settings: Settings, seen: probe.Seen, token: str, body: bytes) -> Finding | None:
    sent = f"{callbacks.PATH}{token}"
    if not seen.path.endswith(sent):
        prefix = unquote(urlsplit(settings.public_url).path)
        return finding("url_path", change=_change(sent, seen.path, f"{prefix}{sent}"))
    if seen.body != probe.fingerprint(body):
        refused = seen.body if seen.body[:3].isdigit() and " " in seen.body else "it is another"
        return finding("url_body", reason=refused)
    return None


def _change(sent: str, seen: str, whole: str) -> str:
    """What became of the path, as far as it can be told."""
    token = sent.rpartition("/")[2]
    cut = seen.rpartition(callbacks.PATH)[2]
    if seen.lower().endswith(sent.lower()):
        return "letters are made small or capital"
    if seen.rstrip("/").endswith(sent):
        return "a slash is added at its end"
    if unquote(seen).endswith(sent) or unquote(unquote(seen)).endswith(sent):
        return "its characters are %-encoded once more"
    if cut != seen and token.startswith(cut):
        return f"the token is cut to {len(cut)} of {len(token)} characters"
    if len(seen) < len(whole) and whole.startswith(seen):
        return f"it is cut to {len(seen)} of {len(whole)} characters"
    if seen.rstrip("/").endswith(token):
        return f"{callbacks.PATH} is taken out of it"
    return "it is rewritten"


def _stranger(settings: Settings, answer: _Answer, size: int) -> Finding:
    """An answer without a proof: who gave it?"""
    status = answer.status
    if status in _GATEWAY:
        return finding("url_gateway", status=status)
    if 300 <= status < 400:
        return finding("url_redirects", status=status, where=_origin(answer.location))
    if status in _BARRED:
        return finding("url_barred", status=status)
    # A server that takes no JSON is not yet a proxy that is before our webhook.
    if status in _TOO_LARGE or (status in _UNFIT and _is_heard_without_body(settings)):
        return finding("url_body", reason=f"{size} bytes of JSON are answered with {status}")
    if status == 404 and _is_a_webhook(settings):
        return finding("url_secrets")
    kind = f", {plain(answer.kind)[:60]}" if answer.kind else ""
    return finding("url_other", status=status, kind=kind)


def _is_heard_without_body(settings: Settings) -> bool:
    asked = _send(settings, "GET", query=_QUERY)
    return isinstance(asked, _Sent) and asked.seen is not None


def _is_a_webhook(settings: Settings) -> bool:
    """Whether it refuses another method as ours does; a server that answers 404 to all does not."""
    got = _exchange(f"{settings.public_url}{callbacks.PATH}doctor", "PUT", {}, b"")
    if isinstance(got, Finding):
        return False
    return (got.status, got.allow, got.body) == (405, "GET, POST", b"Method Not Allowed\n")


def _send(
    settings: Settings, method: str, *, body: bytes = b"", query: str = ""
) -> _Sent | Finding:
    secret = settings.callback_secrets[0]
    # It lives as long as a callback's: what turns that away for its age turns this away too.
    token = probe.mint(secret, math.ceil(time.time() + settings.callback_ttl))
    headers = {probe.HEADER: token}
    if body:
        headers["Content-Type"] = "application/json"
    url = f"{settings.public_url}{callbacks.PATH}{token}"
    got = _exchange(f"{url}?{query}" if query else url, method, headers, body)
    if isinstance(got, Finding):
        return got
    at = time.time() - got.seconds / 2
    told = parse(got.body) if got.status == 200 else None
    seen = probe.read(secret, token, told) if isinstance(told, dict) else None
    return _Sent(token, at, got, seen)


def _exchange(url: str, method: str, headers: dict[str, str], body: bytes) -> _Answer | Finding:
    trust = wire.trust() if url.startswith("https:") else None
    adapter = wire.Adapter(trust)
    started = time.monotonic()
    with wire.exchange(_PATIENCE) as exchange:
        try:
            request = Request(method, url, {"User-Agent": "cutwork", **headers}, data=body)
            with adapter.send(request.prepare(), stream=True, timeout=_PATIENCE) as response:
                return _answer(response, started)
        except (RequestException, HTTPError, OSError, ValueError) as error:
            reason = plain(why(error))
            if exchange.over:
                return finding("url_slow", seconds=_PATIENCE)
            return finding("url_tls" if _is_tls(reason) else "url_away", reason=reason)
        finally:
            adapter.close()


def _answer(response: Response, started: float) -> _Answer:
    body = response.raw.read(_LONGEST_ANSWER, decode_content=True)
    head = response.headers
    return _Answer(
        response.status_code,
        head.get("Content-Type", ""),
        head.get("Location", ""),
        head.get("Allow", ""),
        body,
        time.monotonic() - started,
    )


def _is_tls(reason: str) -> bool:
    return reason.startswith(("TLS:", "SSL"))


def _origin(location: str) -> str:
    """Where a redirect leads, without its path: that may hold the token."""
    try:
        parts: Any = urlsplit(location)
        return plain(f"{parts.scheme}://{parts.netloc}") if parts.netloc else "another path"
    except ValueError:
        return "nowhere"
