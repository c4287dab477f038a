"""The provider's HTTP API: submit a picture, ask about a task.

A submit is paid for and cannot be repeated safely, so the one thing that must be right is what is
known afterwards. Only a documented refusal is a refusal, and only a request of which no byte was
handed to the kernel is :class:`NotSent`; everything else is :class:`Uncertain`. Nothing here
retries, follows a redirect, uses a proxy or reads ``.netrc``; TLS honours ``SSL_CERT_FILE``.

Time limits are total: they hold however slowly the server reads or writes. Only the resolver
keeps to limits of its own; a name that it finds too late is not connected to any more.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import uuid4

from requests import PreparedRequest, RequestException
from urllib3.exceptions import HTTPError

from cutwork import form, wire
from cutwork.errors import InvalidInput
from cutwork.reading import plain
from cutwork.reply import Reply, why
from cutwork.report import Report, Verdict
from cutwork.settings import Settings

# 4xx answers that say the form was refused before a task was made of it.
_REFUSALS = frozenset({400, 404, 405, 406, 410, 411, 413, 414, 415, 422, 431})
_KEY_REFUSALS = frozenset({401, 402, 403})
# Said by a gateway or another site, not by the API, these concern every job alike.
_NO_SUCH_PLACE = frozenset({404, 405, 410})
# Resellers of this kind put a word where the number should be. OpenAI's dialect has both.
_KEY_WORDS = frozenset(
    {"invalidapikey", "invalidtoken", "authenticationerror", "insufficientquota"}
    | {"insufficientuserquota", "insufficientbalance", "insufficientcredits", "unauthorized"}
)
_RATE_WORDS = ("ratelimit", "toomanyrequests", "throttl")
_UNSENDABLE = "the API key has characters that no header can carry: check CUTWORK_API_TOKENS"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has the task. ``report`` is what it said about it already."""

    task_id: str
    report: Report | None


@dataclass(frozen=True, slots=True)
class Done:
    """The create's reply was final: a result or a failure. The task id may be missing."""

    report: Report


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good, and not charged: the same request will be refused again."""

    code: str
    message: str
    http_status: int


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """The key is unknown, or its account is empty. ``http_status`` None: it was never sent."""

    message: str
    http_status: int | None


@dataclass(frozen=True, slots=True)
class Throttled:
    """Too many requests. ``retry_after`` is in seconds, at most six hours."""

    retry_after: float | None


@dataclass(frozen=True, slots=True)
class NotSent:
    """Provably no byte of the request left this machine."""

    reason: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The provider may have a task, and charge for it, without our knowing its id."""

    reason: str
    http_status: int | None


@dataclass(frozen=True, slots=True)
class Missing:
    """The provider says that there is no such task."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing was learnt about the task: ask again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a question that costs nothing; ``answer`` None: the API let the key in.

    ``spoke``: it was answered in JSON, as the API does. ``date`` is the provider's clock.
    """

    answer: "KeyRefused | Throttled | Unavailable | None"
    http_status: int | None = None
    spoke: bool = False
    date: datetime | None = None


Outcome = Accepted | Done | Rejected | KeyRefused | Throttled | NotSent | Uncertain
Answer = Report | Missing | KeyRefused | Throttled | Unavailable


class Provider:
    """One client for all threads of a process, and for processes forked from it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Anything that is not plainly http, however it is spelt: a TLS socket that is not ours
        # would not note that it sent something.
        self._trust = None if settings.api_url.startswith("http:") else wire.trust()
        self._kept = wire.Kept(self._trust)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._kept.close()

    def submit(
        self,
        fields: Mapping[str, str],
        *,
        key: str,
        image: tuple[str, bytes] | None,
        image_url: str | None,
        callback_url: str | None,
        wanted: Iterable[str] = (),
    ) -> Outcome:
        """Create a task. ``image`` is (file name, content); ``wanted`` as in :meth:`Report.read`.

        Raises:
            InvalidInput: there is neither or both of ``image`` and ``image_url``.
        """
        if (image is None) == (image_url is None):
            got = "neither" if image is None else "both"
            raise InvalidInput("image", got, "must be given as a file or as an address")
        if not form.sendable(key):
            return KeyRefused(_UNSENDABLE, None)
        settings, hide = self._settings, form.secrets(key, callback_url)
        request = partial(
            form.submission,
            settings,
            key,
            fields,
            image=image,
            image_url=image_url,
            callback_url=callback_url,
        )
        sent = self._exchange(request, settings.submit_timeout, hide, idle=wire.SURELY_ALIVE)
        return sent if isinstance(sent, NotSent) else _submitted(sent, tuple(wanted), hide)

    def query(self, task_id: str, *, key: str, wanted: Iterable[str] = ()) -> Answer:
        """Ask about a task; ``wanted`` as in :meth:`Report.read`."""
        if task_id in ("", ".", ".."):  # they would name another address
            return Missing()
        if not form.sendable(key):
            return KeyRefused(_UNSENDABLE, None)
        sent = self._ask(task_id, key)
        if isinstance(sent, NotSent):
            return Unavailable(sent.reason)
        return _answered(sent, task_id, tuple(wanted), form.secrets(key, None))

    def try_key(self, key: str) -> Tried:
        """Ask about a task that never was: whether the key is let in, without paying for it.

        It is one request of the key's rate.
        """
        if not form.sendable(key):
            return Tried(KeyRefused(_UNSENDABLE, None))
        sent = self._ask(str(uuid4()), key)
        if isinstance(sent, NotSent):
            return Tried(Unavailable(sent.reason))
        return _tried(sent)

    def _ask(self, task_id: str, key: str) -> Reply | NotSent:
        settings, hide = self._settings, form.secrets(key, None)
        request = partial(form.question, settings, key, task_id)
        return self._exchange(request, settings.query_timeout, hide)

    def _exchange(
        self,
        request: Callable[[], PreparedRequest],
        seconds: float,
        hide: Sequence[str],
        *,
        idle: float = math.inf,
    ) -> Reply | NotSent:
        with self._kept.borrow() as adapter, wire.exchange(seconds, idle=idle) as exchange:
            try:
                timeout = (self._settings.connect_timeout, seconds)
                sent = adapter.send(request(), stream=True, timeout=timeout)
                with closing(sent) as response:
                    return Reply.read(response, hide)
            # ValueError: a URL or a header that cannot be written.
            except (RequestException, HTTPError, OSError, ValueError) as error:
                reason = plain(why(error), hide=hide)
                return Reply(None, text=reason) if exchange.began else NotSent(reason)


def _submitted(reply: Reply, wanted: tuple[str, ...], hide: Sequence[str]) -> Outcome:
    report = Report.read(reply.payload, wanted=wanted, hide=hide)
    final = report is not None and report.verdict is not Verdict.PENDING
    if report is not None and report.task_id and reply.fine:
        return Done(report) if final else Accepted(report.task_id, report)
    if report is not None and report.task_id:  # refused, and yet there is a task?
        return Uncertain(reply.reason, reply.http_status)
    if refusal := _refusal(reply):
        return refusal
    if reply.status in _NO_SUCH_PLACE and not reply.payload:
        fault = f"no API answers at API_URL (status {reply.status}, no JSON)"
        return KeyRefused(fault, reply.http_status)
    if reply.status in _REFUSALS:
        return Rejected(f"rejected_{reply.status}", reply.text, reply.http_status or 0)
    if report is not None and final and 200 <= reply.status < 300:
        return Done(report)
    return Uncertain(reply.reason, reply.http_status)


def _refusal(reply: Reply) -> KeyRefused | Throttled | None:
    """The refusals that are about the key, not about the request."""
    words = reply.words
    if words & _KEY_WORDS or reply.status in _KEY_REFUSALS:
        return KeyRefused(reply.text, reply.http_status)
    busy = reply.status == 503 and reply.retry_after is not None
    if busy or reply.status == 429 or any(word.startswith(_RATE_WORDS) for word in words):
        return Throttled(reply.retry_after)
    return None


def _tried(reply: Reply) -> Tried:
    """Whoever says in the API's own words what is wrong with the task has let the key in."""
    spoke = bool(reply.payload)
    answer: KeyRefused | Throttled | Unavailable | None = _refusal(reply)
    let_in = (reply.fine and reply.status < 400) or reply.status in _REFUSALS
    if answer is None and not (spoke and let_in):
        answer = Unavailable(reply.reason)
    return Tried(answer, reply.http_status, spoke, reply.date)


def _answered(reply: Reply, task_id: str, wanted: tuple[str, ...], hide: Sequence[str]) -> Answer:
    report = Report.read(reply.payload, wanted=wanted, hide=hide) if reply.fine else None
    if report is not None:
        same = report.task_id in (None, task_id)
        return report if same else Unavailable("the provider answered about another task")
    if refusal := _refusal(reply):
        return refusal
    # A gateway's page about a missing address says nothing about a task.
    if reply.status == 404 and reply.payload:
        return Missing()
    return Unavailable(reply.reason)
