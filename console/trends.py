"""The last hours in steps of ten minutes: pictures made, how long they took, who decided, charges.

Everything is told by the time of the submit, which has an index. A step looks at a bounded number
of its attempts, and how long jobs took from enqueue to end is the median of a few of them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import Connection, Integer, Select, case, func, literal, select, union_all

from cutwork.clock import now
from cutwork.schema import attempt, job
from cutwork.states import Attempt, State

HOURS = 6
STEP = 600  # s
STEPS = HOURS * 3600 // STEP
_LOOKED, _SAMPLE = 5_000, 40


@dataclass(frozen=True)
class Step:
    """One span of time; ``latency`` in seconds and ``called`` (0 to 1) are None when unknown.

    ``charges`` are attempts whose result the provider made, ``made`` is how many a minute.
    """

    begins: datetime
    charges: int
    made: float
    latency: float | None
    called: float | None
    more: bool = False


def read(tx: Connection) -> list[Step]:
    """The steps of the last hours, oldest first; the last of them is not over."""
    at = tx.execute(select(now())).scalar_one()
    last = int(at.timestamp()) // STEP * STEP
    begins = [datetime.fromtimestamp(last - STEP * back, UTC) for back in range(STEPS)][::-1]
    counts = {row.step: row for row in tx.execute(union_all(*_each(begins, _counted)))}
    took: dict[int, list[float]] = {}
    for row in tx.execute(union_all(*_each(begins, _sampled))):
        took.setdefault(row.step, []).append((row.finished_at - row.created_at).total_seconds())
    return [
        _step(begin, counts[number], took.get(number), min((at - begin).total_seconds(), STEP))
        for number, begin in enumerate(begins)
    ]


def _step(begin: datetime, row: Any, took: list[float] | None, seconds: float) -> Step:
    charges, called, decided = int(row.charges or 0), int(row.called or 0), int(row.decided or 0)
    return Step(
        begins=begin,
        charges=charges,
        made=charges * 60 / max(seconds, 60.0),
        latency=median(took) if took else None,
        called=called / decided if decided else None,
        more=row.seen >= _LOOKED,
    )


def _each(begins: list[datetime], ask: Any) -> list[Select[Any]]:
    return [ask(number, begin) for number, begin in enumerate(begins)]


def _within(begin: datetime) -> tuple[Any, Any]:
    end = begin + timedelta(seconds=STEP)
    return attempt.c.intended_at >= begin, attempt.c.intended_at < end


def _counted(number: int, begin: datetime) -> Select[Any]:
    columns = (attempt.c.state, attempt.c.callback, attempt.c.decided_by)
    found = select(*columns).where(*_within(begin)).limit(_LOOKED).subquery()
    who = found.c.decided_by
    return select(
        literal(number, Integer).label("step"),
        func.count().label("seen"),
        _sum(found.c.state == Attempt.SUCCEEDED).label("charges"),
        _sum(found.c.callback & (who == "callback")).label("called"),
        _sum(found.c.callback & who.is_not(None)).label("decided"),
    ).select_from(found)


def _sampled(number: int, begin: datetime) -> Select[Any]:
    """Of some attempts whose result is stored: when their jobs were made, and when they ended."""
    columns = (attempt.c.job_id, attempt.c.number, attempt.c.state)
    some = select(*columns).where(*_within(begin), attempt.c.state == Attempt.SUCCEEDED)
    found = some.order_by(attempt.c.intended_at).limit(_SAMPLE).subquery()
    own = (job.c.id == found.c.job_id) & (job.c.result_attempt == found.c.number)
    return (
        select(literal(number, Integer).label("step"), job.c.created_at, job.c.finished_at)
        .join_from(found, job, own)
        .where(job.c.state == State.SUCCEEDED)
    )


def _sum(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
