"""The WSGI callable that hears the provider's callbacks: ``cutwork.webhook.app:application``.

    POST|GET …/callbacks/{token}    200 after the commit · 404 forged, expired or malformed
                                    410 purged · 400 411 413 415 the body cannot be taken
                                    503 not stored: try again
                                    200 and JSON to a probe of `cutwork doctor`, without SQL
    GET /healthz                    the process runs
    GET /readyz                     the database answers and has the right tables

It imports neither Celery nor an HTTP client, and a forged token never reaches SQL. It never raises:
a server would log the exception together with the address, and the token in it.
"""

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import SQLAlchemyError

from cutwork import callbacks, database, log, tracing
from cutwork.errors import CutworkError
from cutwork.ledger import Heard
from cutwork.report import Report
from cutwork.settings import PREFIX, Settings, current

from . import body
from .echo import echo
from .forgeries import Forgeries
from .inbox import Hearing, Inbox
from .readiness import Readiness
from .secrets import ensure_secrets

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]

_ANSWER_WITHIN = 5.0
_OK, _NOT_FOUND, _GONE = "200 OK", "404 Not Found", "410 Gone"
_NOT_ALLOWED, _UNAVAILABLE = "405 Method Not Allowed", "503 Service Unavailable"
_METHODS = {"callback": ("GET", "POST"), "healthz": ("GET", "HEAD"), "readyz": ("GET", "HEAD")}


class Webhook:
    """One for each process: it has a connection pool and a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        ensure_secrets(settings)
        self._settings = settings
        # The provider knows them, and its errors may repeat them.
        self._keys = (*settings.api_tokens, *(quote(one, safe="") for one in settings.api_tokens))
        self._engine = database.engine(settings.database, pool_size=3, patient=False)
        self._inbox, self._is_ready = Inbox(self._engine, settings), Readiness(self._engine)
        self._forgeries = Forgeries(self._engine)
        self._ours = _our_variables()

    def close(self) -> None:
        """For whoever embeds it, after the last request: tell what is left, and disconnect."""
        self._inbox.close()
        self._forgeries.close()
        self._engine.dispose()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        started = time.monotonic()
        path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
        _front, found, token = path.rpartition(callbacks.PATH)
        route = "callback" if found else path[1:] if path in ("/healthz", "/readyz") else "none"
        _forget_secrets(environ, route, self._ours)
        told = None
        try:
            told = echo(environ, self._settings, path, query)
            status = self._status(environ, route, token, query) if told is None else _OK
        except Exception as error:  # noqa: BLE001 - see above: whatever it is, it ends here
            log.event("failed", level=logging.ERROR, fault=_place(error), route=route)
            status = _UNAVAILABLE
        log.event(
            "request",
            level=logging.INFO if found else logging.DEBUG,
            method=str(environ.get("REQUEST_METHOD"))[:10],
            route=route if told is None else "probe",
            status=status[:3],
            ms=round((time.monotonic() - started) * 1000, 1),
        )
        return _answer(environ, start_response, status, route, told)

    def _status(self, environ: Environ, route: str, token: str, query: str) -> str:
        if route == "none":
            return _NOT_FOUND
        if environ.get("REQUEST_METHOD") not in _METHODS[route]:
            return _NOT_ALLOWED
        if route == "callback":
            return self._callback(environ, token, query)
        return _OK if route == "healthz" or self._is_ready() else _UNAVAILABLE

    def _callback(self, environ: Environ, token: str, query: str) -> str:
        claim = callbacks.verify(self._settings.callback_secrets, token, now=time.time())
        if claim is None:
            self._forgeries.note()
            return _NOT_FOUND
        try:
            content = body.read(environ, self._settings.callback_max_body)
        except body.Refused as refused:
            return refused.status
        payload = callbacks.read(content, environ.get("CONTENT_TYPE") or "", query)
        report = Report.read(payload, hide=(token, *self._keys))
        hearing = Hearing(claim.job_id, claim.attempt, report)
        return self._store(hearing)

    def _store(self, hearing: Hearing) -> str:
        facts: dict[str, Any] = {"job": hearing.job_id, "attempt": hearing.attempt}
        with tracing.step("cutwork.callback", "SERVER", facts=facts) as step:
            try:
                heard = self._inbox.put(hearing).result(timeout=_ANSWER_WITHIN)
            except (SQLAlchemyError, TimeoutError) as error:
                fault = _place(error)
                log.event("callback not stored", level=logging.WARNING, fault=fault, **facts)
                step.tell({"outcome": "not_stored"})
                return _UNAVAILABLE
            step.link(hearing.trace)
            step.tell({**hearing.facts, "outcome": heard})
        log.event("callback", heard=heard, **hearing.facts)
        return _GONE if heard is Heard.GONE else _OK


def _our_variables() -> list[str]:
    return [name for name in os.environ if name.startswith(PREFIX)]


def _forget_secrets(environ: Environ, route: str, ours: Iterable[str]) -> None:
    """Whatever wraps or follows us (access logs, tracing, error reports) must not find them.

    A path is secret as a whole: it may be a callback's that somebody misspelt. So is a query, which
    may bring a link to a result. granian adds the process's own environment to each request's.
    """
    shown = {"callback": f"{callbacks.PATH}...", "none": "/..."}.get(route, f"/{route}")
    environ["PATH_INFO"], environ["QUERY_STRING"] = shown, ""
    for name in ("RAW_URI", "REQUEST_URI"):
        if name in environ:
            environ[name] = shown
    for name in ours:
        environ.pop(name, None)


def _place(error: Exception) -> str:
    """The kind of an error and where it arose; its text may hold what a callback brought."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    kind = type(error).__name__
    if trace is None:
        return kind
    return f"{kind} at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def _answer(
    environ: Environ,
    start_response: StartResponse,
    status: str,
    route: str,
    told: bytes | None = None,
) -> Iterable[bytes]:
    text = told or f"{status[4:]}\n".encode()
    kind = "application/json" if told else "text/plain; charset=utf-8"
    headers = [("Content-Type", kind), ("Content-Length", str(len(text)))]
    if status == _UNAVAILABLE:
        headers.append(("Retry-After", "5"))
    if status == _NOT_ALLOWED:
        headers.append(("Allow", ", ".join(_METHODS[route])))
    start_response(status, headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [text]


class _Lazily:
    """Makes the webhook at the first request, in the process that serves it."""

    def __init__(self) -> None:
        self._made: dict[int, Webhook] = {}
        self._making = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        process = os.getpid()
        if process not in self._made:
            with self._making:
                if process not in self._made:
                    try:
                        log.configure(current())
                        self._made[process] = Webhook(current())
                        # What is loaded by now stays: the collector need not walk over it.
                        gc.freeze()
                    except CutworkError as error:
                        _forget_secrets(environ, "none", _our_variables())
                        log.event(f"no webhook: {error}", level=logging.ERROR)
                        return _answer(environ, start_response, _UNAVAILABLE, "none")
        return self._made[process](environ, start_response)


application = _Lazily()
