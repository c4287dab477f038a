"""Group commit: what the threads of a worker want to write at one moment becomes one transaction.

There is no thread for it and nobody waits for a timer: whoever comes first commits, and those who
come meanwhile are the next batch, which the first of them commits for all.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from cutwork import database, ledger, log

P = ParamSpec("P")
T = TypeVar("T")

_LARGEST_BATCH = 100


class Bell(Protocol):
    """What one thread waits at, for each time that another rings."""

    def wait(self) -> object: ...
    def ring(self) -> None: ...


class _Bell:
    """An ``Event`` does it too, with a lock, a condition, and a lock for each wait, in Python."""

    def __init__(self) -> None:
        self._rung: SimpleQueue[None] = SimpleQueue()
        self.wait = self._rung.get

    def ring(self) -> None:
        self._rung.put(None)


@dataclass
class _Wish:
    """``bell`` rings when it was granted or failed, or when it is first in line."""

    job_id: UUID
    verb: Callable[[Connection], Any]
    bell: Bell
    tried: bool = False
    granted: bool = False
    result: Any = None


class Group:
    """``run(job_id, verb, …)`` is ``database.transact(engine, verb, …)`` for a share of its price.

    ``bell`` makes what its threads wait at.
    """

    def __init__(self, engine: Engine, bell: Callable[[], Bell] = _Bell) -> None:
        self._engine, self._bell = engine, bell
        self._queue = threading.Lock()  # held to stand in line, never for a commit
        self._wishes: deque[_Wish] = deque()
        self._led = False

    def run(
        self,
        job_id: UUID,
        verb: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a verb about one job and commit it, together with those of other threads.

        A batch that fails is nobody's: each of its verbs is run again alone, by who wished for it.
        So a verb must bear that its first commit was done and only the answer lost.
        """
        mine = _Wish(job_id, lambda tx: verb(tx, *args, **kwargs), self._bell())
        with self._queue:
            self._wishes.append(mine)
            leads, self._led = not self._led, True
        if not leads:
            mine.bell.wait()
        if not mine.tried:
            self._lead()
        if not mine.granted:
            return database.transact(self._engine, verb, *args, **kwargs)
        result: T = mine.result
        return result

    def _lead(self) -> None:
        """Grant the first batch in line, and let whoever is first after it lead the next.

        Those of a batch just go: if each had to take a lock to leave, others with new wishes would
        come between, and every commit would be of two or three.
        """
        batch = [self._wishes.popleft() for _ in range(min(_LARGEST_BATCH, len(self._wishes)))]
        try:
            self._grant(batch)
        finally:
            for wish in batch:
                wish.tried = True
                wish.bell.ring()
            with self._queue:
                first = self._wishes[0] if self._wishes else None
                self._led = first is not None
            if first is not None:
                first.bell.ring()

    def _grant(self, wishes: Sequence[_Wish]) -> None:
        try:
            with self._engine.begin() as tx:
                results = _results(tx, wishes)
        except Exception as error:  # noqa: BLE001 - who runs it alone meets the fault, if it is theirs
            fault = type(error).__name__
            log.event("one by one", level=logging.WARNING, jobs=len(wishes), fault=fault)
            return
        for wish, result in zip(wishes, results, strict=True):
            wish.granted, wish.result = True, result


def _results(tx: Connection, wishes: Sequence[_Wish]) -> list[Any]:
    if len(wishes) == 1:
        return [wishes[0].verb(tx)]
    with ledger.together(tx, [wish.job_id for wish in wishes]):
        return [wish.verb(tx) for wish in wishes]
