"""Looking until a job is over, for a thread and for an event loop."""

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Engine

from cutwork import database
from cutwork import job as records
from cutwork.errors import StillWorking
from cutwork.job import Job
from cutwork.jobs import as_id

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine  # its import fails where there is no greenlet

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


def wait(engine: Engine, job_id: UUID | str, timeout: float = 60.0) -> Job:
    """Look until the job is finished or held, for at most ``timeout`` seconds.

    Takes an engine, not a session: each look is a transaction of its own.

    Raises:
        JobNotFound: no such job, or its transaction has not committed yet.
        StillWorking: the time is over; the job goes on.
    """
    patience, wanted = _Patience(timeout), as_id(job_id)
    while not (job := _look(engine, wanted)).resting:
        time.sleep(patience.pause(job))
    return job


async def wait_async(
    engine: "Engine | AsyncEngine", job_id: UUID | str, timeout: float = 60.0
) -> Job:
    """``wait`` for an event loop, which goes on meanwhile; raises what ``wait`` raises.

    With a plain ``Engine`` each look is made in a thread. Between two looks no connection is held.
    It may be cancelled at any time.
    """
    patience, wanted = _Patience(timeout), as_id(job_id)
    before = _cancellations()
    while not (job := await _look_async(engine, wanted)).resting:
        if _cancellations() > before:  # asyncmy swallows one that comes while it connects
            raise asyncio.CancelledError
        await asyncio.sleep(patience.pause(job))
    return job


class _Patience:
    """Pauses that grow, until the time is over."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds
        self._next = _SHORTEST_PAUSE

    def pause(self, job: Job) -> float:
        """Seconds to the next look at an unfinished job; raises StillWorking after the last."""
        left = self._end - time.monotonic()
        if not left > 0:  # nor is what is no number
            raise StillWorking(job.id, job.state, self._seconds)
        pause, self._next = min(self._next, left), min(self._next * 1.5, _LONGEST_PAUSE)
        return pause


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _look(engine: Engine, job_id: UUID) -> Job:
    with database.read_only(engine).connect() as tx:
        return records.read(tx, job_id)


async def _look_async(engine: "Engine | AsyncEngine", job_id: UUID) -> Job:
    if isinstance(engine, Engine):
        return await asyncio.to_thread(_look, engine, job_id)
    # Not read_only(): whoever is cancelled while it turns autocommit on loses the connection.
    async with engine.connect() as tx:
        return await tx.run_sync(records.read, job_id)
