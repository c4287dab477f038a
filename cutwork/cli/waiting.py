"""Waiting for jobs: each change of state is told, each job is given in the order asked for."""

import time
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

from sqlalchemy import Engine, select

from cutwork import job as records
from cutwork import schema
from cutwork.errors import JobNotFound, StillWorking
from cutwork.job import Job
from cutwork.states import RESTING, State

Tell = Callable[[UUID, State], None]

_SHORTEST_LOOK, _LONGEST_LOOK = 0.05, 0.5
_AT_ONCE = 500


def wait_for(reading: Engine, ids: Sequence[UUID], timeout: float, tell: Tell) -> Iterator[Job]:
    """Give each job as soon as it and all before it are finished or held.

    ``reading`` is an engine for lone SELECTs; ``tell`` hears every change of every job at once.

    Raises:
        StillWorking: ``timeout`` seconds are over; those that are done were given.
        JobNotFound: a job was purged meanwhile.
    """
    deadline, pause = time.monotonic() + timeout, _SHORTEST_LOOK
    seen: dict[UUID, State] = {}
    given = 0
    while given < len(ids):
        for job_id, state in _states(reading, [one for one in ids if not _rests(seen, one)]):
            if seen.get(job_id) is not state:
                seen[job_id] = state
                tell(job_id, state)
                pause = _SHORTEST_LOOK
        while given < len(ids) and _rests(seen, ids[given]):
            with reading.connect() as tx:
                yield records.read(tx, ids[given])
            given += 1
        if given < len(ids) and time.monotonic() > deadline:
            late = next(one for one in ids if not _rests(seen, one))
            raise StillWorking(late, seen[late], timeout)
        time.sleep(pause if given < len(ids) else 0)
        pause = min(pause * 1.3, _LONGEST_LOOK)


def _rests(seen: dict[UUID, State], job_id: UUID) -> bool:
    return seen.get(job_id) in RESTING


def _states(reading: Engine, ids: Sequence[UUID]) -> list[tuple[UUID, State]]:
    found: dict[UUID, State] = {}
    with reading.connect() as tx:
        for first in range(0, len(ids), _AT_ONCE):
            some = ids[first : first + _AT_ONCE]
            query = select(schema.job.c.id, schema.job.c.state).where(schema.job.c.id.in_(some))
            found |= {row.id: State(row.state) for row in tx.execute(query)}
    for job_id in ids:
        if job_id not in found:
            raise JobNotFound(job_id)
    return list(found.items())
