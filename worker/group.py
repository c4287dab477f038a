"""Group commit: what the threads of a worker want to write at one moment becomes one transaction.

There is no thread for it and nobody waits for a timer: whoever comes first commits, and those who
come meanwhile are the next batch, which one of them commits for all.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from cutwork import database, ledger, log

P = ParamSpec("P")
T = TypeVar("T")

_LARGEST_BATCH = 100


@dataclass
class _Wish:
    job_id: UUID
    verb: Callable[[Connection], Any]
    tried: bool = False
    granted: bool = False
    result: Any = None


class Group:
    """``run(job_id, verb, …)`` is ``database.transact(engine, verb, …)`` for a share of its price.

    ``turn`` is held by whoever commits.
    """

    def __init__(self, engine: Engine, turn: AbstractContextManager[Any] | None = None) -> None:
        self._engine = engine
        self._turn = threading.Lock() if turn is None else turn
        self._wishes: deque[_Wish] = deque()

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
        mine = _Wish(job_id, lambda tx: verb(tx, *args, **kwargs))
        self._wishes.append(mine)
        with self._turn:
            while not mine.tried:
                many = min(_LARGEST_BATCH, len(self._wishes))
                self._grant([self._wishes.popleft() for _ in range(many)])
        if not mine.granted:
            return database.transact(self._engine, verb, *args, **kwargs)
        result: T = mine.result
        return result

    def _grant(self, wishes: Sequence[_Wish]) -> None:
        for wish in wishes:
            wish.tried = True
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
