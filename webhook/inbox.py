"""Group commit: callbacks that arrive together become durable together, and then are answered.

One thread a process takes what is queued, commits it, and repeats; nobody waits for a timer. A
callback is answered when the transaction that holds it has committed, and never before.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
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


Write = Callable[[Connection, list[Hearing]], list[Heard | None]]


class Inbox:
    """``put(hearing)`` is told when the callback is durable, or cannot be."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        swift = [self._complete] if engine.dialect.name == "postgresql" else []
        self._writes: list[Write] = [*swift, self._hear]
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
        while (first := self._queue.get()) is not None:
            batch = [first]
            with suppress(Empty):
                while len(batch) < _LARGEST_BATCH:
                    if (following := self._queue.get_nowait()) is None:
                        self._queue.put(None)
                        break
                    batch.append(following)
            self._settle(batch)
            self._committing_since = None

    def _settle(self, batch: list[Hearing]) -> None:
        """Store them together, or else each alone: one bad callback must not take the others."""
        left = batch
        try:
            for write in self._writes:
                left = self._commit(left, write)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits for it
            if _is_down(error, self._engine.dialect.name):
                for hearing in left:
                    hearing.answer.tell(error)
                return
            for hearing in left:
                self._settle_alone(hearing)

    def _settle_alone(self, hearing: Hearing) -> None:
        try:
            self._commit([hearing], self._hear)
        except Exception as error:  # noqa: BLE001 - as above
            hearing.answer.tell(error)

    def _commit(self, batch: list[Hearing], write: Write) -> list[Hearing]:
        """Answer those that ``write`` stored, when it is committed; gives those that are left."""
        if not batch:
            return []
        self._committing_since = time.monotonic()
        with self._engine.begin() as tx:
            heard = write(tx, batch)
        answers = list(zip(batch, heard, strict=True))
        for hearing, what in answers:
            if what is not None:
                hearing.answer.tell(what)
        return [hearing for hearing, what in answers if what is None]

    def _complete(self, tx: Connection, batch: list[Hearing]) -> list[Heard | None]:
        news = [(one.job_id, one.attempt, one.report) for one in batch]
        heard: list[Heard | None] = []
        for one, about in zip(batch, ledger.complete(tx, news, self._settings), strict=True):
            if about is not None:
                one.facts, one.trace = about
            heard.append(Heard.MOVED if about is not None else None)
        return heard

    def _hear(self, tx: Connection, batch: list[Hearing]) -> list[Heard | None]:
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
