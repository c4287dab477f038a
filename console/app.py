"""The console, a WSGI callable: ``cutwork.console.app:application``, or ``:reading`` to look only.

    GET  /                          counts, the last hours, the gates
    GET  /jobs                      the newest jobs, by filter, a page at a time
    GET  /jobs/ID                   one job: its pictures, its story, what can be decided
    GET  /jobs/ID/NAME/SIZE         a picture: source, image, mask; thumb, preview, whole
    GET  /troubles                  held and failed jobs by cause
    POST /jobs/ID/retry, /jobs/ID/cancel, /troubles/ask, /troubles/retry, /troubles/cancel,
         /gates/pause, /gates/resume
    GET  POST /login, POST /logout
    GET  /static/NAME, /healthz     need nobody to be logged in

Nothing of it is told to who is not logged in. It never raises: a server would log the exception
together with the address, and there may be the token in it.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from cutwork import database, log
from cutwork.errors import CutworkError, DatabaseNotReady
from cutwork.settings import PREFIX, Settings, current

from . import answering, asking
from .answering import Answer, plain
from .asking import Environ
from .desk import Desk
from .rendering import static
from .session import ensure_token

StartResponse = Callable[[str, list[tuple[str, str]]], Any]

_KEPT = "public, max-age=31536000, immutable"


class Console:
    """One for each process: it has a connection pool and a memory of small pictures."""

    def __init__(self, settings: Settings, *, read_only: bool = False) -> None:
        ensure_token(settings)
        self._engine = database.engine(settings.database, pool_size=4)
        read_only = read_only or settings.console_read_only == "yes"
        self._desk = Desk(self._engine, settings, read_only=read_only)
        self._ours = [name for name in os.environ if name.startswith(PREFIX)]

    def close(self) -> None:
        """For whoever embeds it, after the last request."""
        self._engine.dispose()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        started = time.monotonic()
        answer = self._answer(environ)
        _forget_secrets(environ, self._ours)
        log.event(
            "request",
            level=logging.DEBUG if answer.status[0] in "23" else logging.INFO,
            method=str(environ.get("REQUEST_METHOD"))[:10],
            path=str(environ.get("PATH_INFO"))[:100],
            status=answer.status[:3],
            ms=round((time.monotonic() - started) * 1000, 1),
        )
        return _send(environ, start_response, answer)

    def _answer(self, environ: Environ) -> Answer:
        path = str(environ.get("PATH_INFO", ""))
        try:
            if path == "/healthz":
                return plain(answering.OK)
            if path.startswith("/static/"):
                return _static(path.removeprefix("/static/"))
            return self._desk.answer(asking.read(environ))
        except asking.Unreadable as refused:
            return plain(refused.status)
        except SQLAlchemyError as error:
            log.event("no database", level=logging.ERROR, fault=_place(error))
            return self._desk.fault(answering.UNAVAILABLE, self._what_is_missing())
        except Exception as error:  # noqa: BLE001 - see above: whatever it is, it ends here
            log.event("failed", level=logging.ERROR, fault=_place(error))
            return plain(answering.UNAVAILABLE)

    def _what_is_missing(self) -> str:
        """Why a statement failed: a database that answers may have no tables, or others."""
        try:
            database.ensure_ready(self._engine)
        except DatabaseNotReady as error:
            return f"{str(error)[:1].upper()}{str(error)[1:]}."
        except SQLAlchemyError:
            return "The database does not answer."
        return "The database did not do what it was asked."


def _static(name: str) -> Answer:
    found = static(name)
    if found is None:
        return plain(answering.NOT_FOUND)
    return Answer(answering.OK, found[0], found[1], _KEPT)


def _send(environ: Environ, start_response: StartResponse, answer: Answer) -> Iterable[bytes]:
    start_response(answer.status, answer.headers())
    if environ.get("REQUEST_METHOD") == "HEAD" or answer.status == answering.NOT_MODIFIED:
        close = getattr(answer.body, "close", None)
        if close is not None:
            close()
        return []
    return [answer.body] if isinstance(answer.body, bytes) else answer.body


def _forget_secrets(environ: Environ, ours: Iterable[str]) -> None:
    """Whatever wraps or follows us must find no token: a query may have brought it.

    granian adds the process's own environment to each request's.
    """
    environ["QUERY_STRING"] = ""
    for name in ("RAW_URI", "REQUEST_URI"):
        if name in environ:
            environ[name] = environ.get("PATH_INFO", "")
    for name in ("HTTP_COOKIE", *ours):
        environ.pop(name, None)


def _place(error: BaseException) -> str:
    """The kind of an error and where it arose, without its text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    kind = type(error).__name__
    if trace is None:
        return kind
    return f"{kind} at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


class _Lazily:
    """Makes the console at the first request, in the process that serves it."""

    def __init__(self, *, read_only: bool) -> None:
        self._read_only = read_only
        self._made: dict[int, Console] = {}
        self._making = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        process = os.getpid()
        with self._making:
            if process not in self._made:
                try:
                    log.configure(current())
                    self._made[process] = Console(current(), read_only=self._read_only)
                except CutworkError as error:
                    log.event(f"no console: {error}", level=logging.ERROR)
                    return _send(environ, start_response, plain(answering.UNAVAILABLE))
        return self._made[process](environ, start_response)


application, reading = _Lazily(read_only=False), _Lazily(read_only=True)
