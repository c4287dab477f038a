"""Tables full of jobs, written by SQL alone, so that a million rows take seconds."""

import time
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Engine, text

from cutwork.settings import Settings

SETTINGS = Settings(api_tokens=("a-key",), callback_secrets=("a-secret-of-the-bench",))
(KEY,) = SETTINGS.keys
_REQUEST = (
    '{"type": "", "output_type": 2, "crop": false, "format": "png", "image_url": "http://a.b/c"}'
)
_FILL = """
    WITH made AS (
        INSERT INTO cutwork_job (id, kind, state, due_at, fence, tries, priority, owner, turn,
                                 request, request_digest, attempt, key_id, created_at, finished_at)
        SELECT CAST(lpad(to_hex(CAST(:first AS bigint) + n), 12, '0')
                    || right(replace(CAST(gen_random_uuid() AS text), '-', ''), 20) AS uuid),
               'segmentation', :state, now() + :due * interval '1 second',
               :fence, 0, 5, '', CASE WHEN :turns THEN n END, CAST(:request AS jsonb),
               repeat('0', 64), :fence, :key, now(), CASE WHEN :over THEN now() END
          FROM generate_series(1, :count) AS n
        RETURNING id
    )
    INSERT INTO cutwork_attempt (job_id, number, state, key_id, fence, callback, task_id, checks,
                                 callbacks, relinks, intended_at, accepted_at)
    SELECT id, 1, :known, :tried_with, 1, true, 'task', 0, 0, 0, now(), now()
      FROM made
     LIMIT :attempts
    RETURNING job_id
"""


def empty(engine: Engine) -> None:
    """Take all jobs away."""
    with engine.begin() as tx:
        tx.execute(text("TRUNCATE cutwork_job CASCADE"))


def clear(engine: Engine) -> None:
    """Take away the jobs that are not over, and leave the others."""
    with engine.begin() as tx:
        tx.execute(text("DELETE FROM cutwork_job WHERE due_at IS NOT NULL"))


def clear_released(engine: Engine) -> None:
    """Take away those that a release named: whoever claims them takes them out of the queue."""
    with engine.begin() as tx:
        tx.execute(text("DELETE FROM cutwork_job WHERE lease IS NOT NULL"))


def queued(engine: Engine, count: int) -> None:
    """Jobs that are due, each with its turn."""
    _fill(engine, "queued", count, due=0.0, turns=True)


def scheduled(engine: Engine, count: int, seconds: float) -> None:
    """Jobs that are for later, and have no turn yet."""
    _fill(engine, "queued", count, due=seconds)


def waiting(engine: Engine, count: int, due: float = 600.0) -> Sequence[UUID]:
    """Jobs that the provider has; gives their ids."""
    return _fill(engine, "waiting", count, due=due, known="accepted", attempts=count)


def storing(engine: Engine, count: int, due: float) -> Sequence[UUID]:
    """Jobs whose result can be fetched in so many seconds; gives their ids."""
    return _fill(engine, "storing", count, due=due, known="succeeded", attempts=count)


def finished(engine: Engine, count: int, attempts: int) -> None:
    """Jobs that are over, so many of them with an attempt."""
    _fill(engine, "succeeded", count, due=None, known="succeeded", attempts=attempts)


def settle(engine: Engine) -> None:
    """Let the planner know what is there."""
    with engine.connect() as tx:
        free = tx.execution_options(isolation_level="AUTOCOMMIT")
        free.execute(text("VACUUM ANALYZE cutwork_job, cutwork_attempt"))


def _fill(
    engine: Engine,
    state: str,
    count: int,
    *,
    due: float | None,
    turns: bool = False,
    known: str = "",
    attempts: int = 0,
) -> Sequence[UUID]:
    tried = state != "queued"
    values = {"state": state, "count": count, "due": due, "turns": turns, "request": _REQUEST}
    values |= {"known": known, "attempts": attempts, "fence": int(tried), "over": due is None}
    # Ids begin with milliseconds, as real ones do: random ones would be all over the index.
    first = time.time_ns() // 1_000_000
    values |= {"key": KEY if tried else None, "tried_with": KEY, "first": first}
    with engine.begin() as tx:
        return tx.execute(text(_FILL), values).scalars().all()
