"""Jobs by state, and the oldest of each: exact while they are few, and never more than a bound.

A million rows take a second to count, and nobody needs to know that there are 1,234,567 succeeded
jobs. So finished and held jobs are counted up to 10,000, unfinished ones up to 100,000. On
PostgreSQL and SQLite no index holds the succeeded ones; those among the newest jobs are counted.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    String,
    case,
    func,
    literal,
    literal_column,
    select,
    union_all,
)

from cutwork import gate, lanes
from cutwork.clock import now
from cutwork.schema import job
from cutwork.states import ALARMED, State
from cutwork.stats import Key

from .walking import Walk, along, indexed

MOST, MOST_UNFINISHED = 10_000, 100_000
_LOOKED = 2 * MOST
# An alarm rings when a job is made, so the oldest job is among those whose alarm rang first.
_OLDEST_AMONG = 2_000


@dataclass(frozen=True)
class Count:
    """``more``: there are more than ``number``, or may be."""

    number: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.number:,}{'+' * self.more}"


@dataclass(frozen=True)
class Counts:
    """Every state is counted; ``oldest`` is by creation and has unfinished and held jobs only."""

    at: datetime
    jobs: dict[State, Count]
    oldest: dict[State, datetime]
    keys: tuple[Key, ...]


def count(tx: Connection) -> Counts:
    """The jobs and the gates of this moment."""
    flying = lanes.in_flight(tx)
    return Counts(
        at=tx.execute(select(now())).scalar_one(),
        jobs=_jobs(tx),
        oldest=_oldest(tx),
        keys=tuple(
            Key(one.key_id, one.condition, one.closed_until, one.reason, flying.get(one.key_id, 0))
            for one in gate.read(tx)
        ),
    )


def _jobs(tx: Connection) -> dict[State, Count]:
    asked = [_count(tx, state) for state in State]
    found = {State(row.state): (row.jobs, row.seen) for row in tx.execute(union_all(*asked))}
    counted = {}
    for state in State:
        number, seen = found[state]
        most = MOST_UNFINISHED if state in ALARMED else MOST
        whole = number > most or (state is State.SUCCEEDED and seen == _LOOKED)
        counted[state] = Count(min(number, most), whole)
    return counted


def _count(tx: Connection, state: State) -> Any:
    """state, jobs (one more than the bound when there are more), seen (where all are walked)."""
    name = literal(state.value, String).label("state")
    none = literal(0, Integer).label("seen")
    walk = indexed(tx, state)
    if walk is None:
        seen = select(job.c.state).order_by(job.c.id.desc()).limit(_LOOKED).subquery()
        fit = func.coalesce(func.sum(case((seen.c.state == state, 1), else_=0)), 0)
        return select(name, fit.label("jobs"), func.count().label("seen")).select_from(seen)
    most = MOST_UNFINISHED if state in ALARMED else MOST
    found = along(tx, walk, literal_column("1").label("one")).limit(most + 1).subquery()
    return select(name, func.count().label("jobs"), none).select_from(found)


def _oldest(tx: Connection) -> dict[State, datetime]:
    asked = []
    for state in sorted(ALARMED | {State.HELD}):
        first = job.c.due_at if state in ALARMED else job.c.id
        some = along(tx, indexed(tx, state) or Walk(), job.c.created_at).order_by(first)
        found = some.limit(_OLDEST_AMONG).subquery()
        name = literal(state.value, String).label("state")
        asked.append(select(name, func.min(found.c.created_at).label("at")))
    rows = tx.execute(union_all(*asked))
    return {State(row.state): row.at for row in rows if row.at is not None}
