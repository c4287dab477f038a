"""Tables full of jobs, written by SQL alone, so that a million rows take seconds."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from cutwork.settings import Settings

SETTINGS = Settings(api_tokens=("a-key",), callback_secrets=("a-secret-of-the-bench",))
(KEY,) = SETTINGS.keys
_REQUEST = (
    '{"type": "", "output_type": 2, "crop": false, "format": "png", "image_url": "http://a.b/c"}'
)
_JOBS = """
    INSERT INTO cutwork_job (id, kind, state, due_at, fence, tries, priority, owner, turn, request,
                             request_digest, attempt, key_id, created_at, finished_at)
    SELECT gen_random_uuid(), 'segmentation', :state, now() + :due * interval '1 second', :fence,
           0, 5, '', CASE WHEN :turns THEN n END, CAST(:request AS jsonb), repeat('0', 64), :fence,
           :key, now(), CASE WHEN :over THEN now() END
      FROM generate_series(1, :count) AS n
"""
_ATTEMPTS = """
    INSERT INTO cutwork_attempt (job_id, number, state, key_id, fence, callback, task_id, checks,
                                 callbacks, relinks, intended_at, accepted_at)
    SELECT id, 1, :known, :key, 1, true, 'task', 0, 0, 0, now(), now()
      FROM cutwork_job
     WHERE state = :state
       AND NOT EXISTS (SELECT FROM cutwork_attempt WHERE job_id = cutwork_job.id)
     LIMIT :count
"""


def empty(engine: Engine) -> None:
    """Take all jobs away."""
    with engine.begin() as tx:
        tx.execute(text("TRUNCATE cutwork_job CASCADE"))


def queued(engine: Engine, count: int) -> None:
    """Jobs that are due, each with its turn."""
    _jobs(engine, "queued", count, due=0, fence=0, turns=True, key=None)


def scheduled(engine: Engine, count: int, seconds: float) -> None:
    """Jobs that are for later, and have no turn yet."""
    _jobs(engine, "queued", count, due=seconds, fence=0, turns=False, key=None)


def waiting(engine: Engine, count: int, due: float = 600.0) -> Sequence[UUID]:
    """Jobs that the provider has; gives the ids of all that wait."""
    _jobs(engine, "waiting", count, due=due, fence=1, turns=False, key=KEY)
    _attempts(engine, "waiting", "accepted", count)
    with engine.connect() as tx:
        found = tx.execute(text("SELECT id FROM cutwork_job WHERE state = 'waiting'"))
        return found.scalars().all()


def finished(engine: Engine, count: int, attempts: int) -> None:
    """Jobs that are over, the first of them with an attempt."""
    _jobs(engine, "succeeded", count, due=None, fence=1, turns=False, key=KEY)
    _attempts(engine, "succeeded", "succeeded", attempts)


def settle(engine: Engine) -> None:
    """Let the planner know what is there."""
    with engine.connect() as tx:
        free = tx.execution_options(isolation_level="AUTOCOMMIT")
        free.execute(text("VACUUM ANALYZE cutwork_job, cutwork_attempt"))


def _jobs(engine: Engine, state: str, count: int, **values: Any) -> None:
    values |= {"state": state, "count": count, "request": _REQUEST, "over": values["due"] is None}
    with engine.begin() as tx:
        tx.execute(text(_JOBS), values)


def _attempts(engine: Engine, state: str, known: str, count: int) -> None:
    values = {"state": state, "known": known, "key": KEY, "count": count}
    with engine.begin() as tx:
        tx.execute(text(_ATTEMPTS), values)
