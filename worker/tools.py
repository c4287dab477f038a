"""What the steps of a job need: settings, database, provider, storage; one set for each process."""

import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from celery.signals import worker_process_init
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cutwork import callbacks, database, log
from cutwork.provider import Provider
from cutwork.settings import Settings, current
from cutwork.storage import Storage

from .crowd import Crowd
from .group import Group

P = ParamSpec("P")
T = TypeVar("T")

# One writes for all threads; some read, and some write alone what a batch could not.
_CONNECTIONS = 5
# How long a worker holds on to what it learned while the database is away: forgotten, a POST that
# was accepted is uncertain, and may be paid for again.
_PATIENCE = 600.0


@dataclass(frozen=True)
class Tools:
    settings: Settings
    engine: Engine
    provider: Provider
    storage: Storage
    group: Group
    crowd: Crowd | None = None

    @classmethod
    def of(cls, settings: Settings, *, side_by_side: bool = True) -> "Tools":
        """Everything that a step relies on, checked before any job is touched.

        ``side_by_side`` gives a crowd of threads, for the jobs of one message.

        Raises:
            InvalidSetting: a setting cannot be used, or callbacks are wanted without a secret.
        """
        callbacks.url(settings, UUID(int=0), 1, now=0.0)
        size = min(settings.concurrency, _CONNECTIONS)
        engine = database.engine(settings.database, pool_size=size, patient=False)
        storage, group = Storage.at(settings.storage), Group(engine)
        crowd = Crowd(settings.concurrency) if side_by_side else None
        return cls(settings, engine, Provider(settings), storage, group, crowd)

    def claim(
        self,
        verb: Callable[Concatenate[Connection, UUID, P], T],
        job_id: UUID,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Take a job in hand."""
        return self.group.run(job_id, verb, job_id, *args, **kwargs)

    def record(
        self,
        job_id: UUID,
        verb: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Write down what is known now, and hold on to it while the database cannot take it.

        The verb may have been committed when the connection broke, and is then run again: every
        verb that records an outcome changes nothing the second time.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self.group.run(job_id, verb, *args, **kwargs)
            except (DBAPIError, PoolTimeout) as error:
                if not _is_outage(error) or time.monotonic() > deadline:
                    raise
                log.event("database away", level=logging.WARNING, fault=type(error).__name__)
            time.sleep(0.5)


def _is_outage(error: DBAPIError | PoolTimeout) -> bool:
    if isinstance(error, PoolTimeout):
        return True
    return error.connection_invalidated or type(error).__name__ in (
        "OperationalError",
        "InterfaceError",
    )


_made: dict[int, Tools] = {}
_making = threading.Lock()
_pooled = threading.Event()


@worker_process_init.connect
def _note_that_we_are_one_of_a_pool(**_: Any) -> None:
    _pooled.set()


def tools() -> Tools:
    """This process's own: a forked child must not share its parent's connections."""
    with _making:
        if os.getpid() not in _made:
            # A prefork pool has a process for each job that may be under way.
            _made[os.getpid()] = Tools.of(current(), side_by_side=not _pooled.is_set())
            gc.freeze()  # what is loaded by now stays: the collector need not walk over it
        return _made[os.getpid()]
