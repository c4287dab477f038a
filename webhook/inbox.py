"""Group commit: callbacks that arrive together become durable together, and then are answered.

One thread a process takes what is queued, commits it, and repeats; nobody waits for a timer. A
callback is answered when the transaction that holds it has committed, and never before.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from cutwork import database, ledger
from cutwork.ledger import Heard
from cutwork.report import Report
from cutwork.settings import Settings

_LARGEST_BATCH = 200
# A commit that takes longer is stuck, and whoever comes then is sent away at once: the server's
# threads must not all wait here, or nobody answers /healthz.
_STUCK_AFTER = 3.0
# Nobody having come for so many seconds, the connection is given back: see ``Line.leave``.
_LINGER = 0.1
# The database has one lock for all there, so that whoever waits for it waits for all.
_ONE_LOCK = ("sqlite",)


class Answer:
    """What came of one callback, told once to the one who waits for it.

    A ``Future`` has a lock and a condition; callbacks are too many for that.
    """

    def __init__(self) -> None:
        self._told: SimpleQueue[Heard | Exception] = SimpleQueue()

    def tell(self, what: Heard | Exception) -> None:
        self._told.put(what)

    def result(self, timeout: float) -> Heard:
        """Wait for it, so many seconds at most.

        Raises:
            TimeoutError: it was not told in time.
            Exception: the callback could not be stored, for this reason.
        """
        try:
            what = self._told.get(timeout=timeout)
        except Empty:
            raise TimeoutError(f"no answer within {timeout:g} s") from None
        if isinstance(what, Exception):
            raise what
        return what


@dataclass
class Hearing:
    """One authentic callback; ``report`` is None when its body says nothing that we can read.

    ``facts`` are what log lines about it name, and ``trace`` the app's ``traceparent`` if there is
    one: both are filled in before it is answered.
    """

    job_id: UUID
    attempt: int
    report: Report | None
    facts: dict[str, Any] = field(default_factory=dict, compare=False)
    trace: str | None = field(default=None, compare=False)
    answer: Answer = field(default_factory=Answer, compare=False)


class Line:
    """A connection that is kept while callbacks keep coming; each statement commits by itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """What fails in the block ends the connection: it may be the one that is broken."""
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                yield self._connection
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Give the connection back: the pool tries one that has idled before it is used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Inbox:
    """``put(hearing)`` is told when the callback is durable, or cannot be."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._line = Line(engine) if engine.dialect.name == "postgresql" else None
        self._queue: SimpleQueue[Hearing | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._committing_since: float | None = None

    def put(self, hearing: Hearing) -> Answer:
        since = self._committing_since
        if since is not None and time.monotonic() - since > _STUCK_AFTER:
            hearing.answer.tell(TimeoutError("the database does not answer"))
            return hearing.answer
        self._queue.put(hearing)
        # Started by the first callback, so that it runs in the process that the server forked.
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)
                    self._thread.start()
        return hearing.answer

    def close(self) -> None:
        """Answer whoever has come, and end; nobody may come any more."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (first := self._next()) is not None:
            batch = [first]
            with suppress(Empty):
                while len(batch) < _LARGEST_BATCH:
                    if (following := self._queue.get_nowait()) is None:
                        self._queue.put(None)
                        break
                    batch.append(following)
            self._settle(batch)
            self._committing_since = None
        if self._line is not None:
            self._line.leave()

    def _next(self) -> Hearing | None:
        if self._line is not None:
            with suppress(Empty):
                return self._queue.get(timeout=_LINGER)
            self._line.leave()
        return self._queue.get()

    def _settle(self, batch: list[Hearing]) -> None:
        """Store them together, or else each alone: one bad callback must not take the others."""
        left = batch
        try:
            if self._line is not None:
                left = self._complete(self._line, batch)
            if left:
                self._hear(left)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits for it
            if _is_down(error, self._engine.dialect.name):
                for hearing in left:
                    hearing.answer.tell(error)
                return
            for hearing in left:
                self._settle_alone(hearing)

    def _settle_alone(self, hearing: Hearing) -> None:
        try:
            self._hear([hearing])
        except Exception as error:  # noqa: BLE001 - as above
            hearing.answer.tell(error)

    def _complete(self, line: Line, batch: list[Hearing]) -> list[Hearing]:
        """Answer those whose jobs one statement completes; gives those that are left."""
        self._committing_since = time.monotonic()
        news = [(one.job_id, one.attempt, one.report) for one in batch]
        with line.open() as tx:
            known = ledger.complete(tx, news, self._settings)
        left = []
        for hearing, about in zip(batch, known, strict=True):
            if about is None:
                left.append(hearing)
                continue
            hearing.facts, hearing.trace = about
            hearing.answer.tell(Heard.MOVED)
        return left

    def _hear(self, batch: list[Hearing]) -> None:
        """Hear them in one transaction, and answer them when it is committed."""
        self._committing_since = time.monotonic()
        with self._engine.begin() as tx:
            heard = self._write(tx, batch)
        for hearing, what in zip(batch, heard, strict=True):
            hearing.answer.tell(what)

    def _write(self, tx: Connection, batch: list[Hearing]) -> list[Heard]:
        with ledger.together(tx, [one.job_id for one in batch]):
            for one in batch:
                one.facts, one.trace = ledger.known(tx, one.job_id, one.attempt)
            return [
                ledger.hear(tx, one.job_id, one.attempt, one.report, self._settings)
                for one in batch
            ]


def _is_down(error: Exception, dialect: str) -> bool:
    """Whether the fault is the database's: then each callback alone would only wait as well."""
    if not isinstance(error, InterfaceError | OperationalError):
        return False
    return dialect in _ONE_LOCK or not database.is_contention(error)
