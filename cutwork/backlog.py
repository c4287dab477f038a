"""What is not over: how many jobs in each state, how old, how late; results that will expire.

Every question walks an index that holds unfinished jobs, so finished ones cost nothing. Reads only.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    case,
    func,
    literal,
    select,
    union_all,
)

from cutwork.clock import after, now
from cutwork.schema import in_state, job
from cutwork.states import ALARMED, State

SOON = 600.0
# The rows of the oldest are looked at; of the rest the index says enough.
_AMONG = 1000


@dataclass(frozen=True)
class Standing:
    """The jobs of one state; ``due`` are those whose alarm rings.

    ``late`` is for how long the first alarm has rung, ``age`` how old the oldest job is of the
    thousand whose alarms are first; in seconds.
    """

    jobs: int = 0
    due: int = 0
    age: float = 0.0
    late: float = 0.0


@dataclass(frozen=True)
class Expiring:
    """Results that are not in our storage yet and whose links die within ``SOON`` seconds.

    ``soonest`` is the time that the first of all links has left, in seconds; below zero when it is
    dead already, None when no job is ``storing``.
    """

    jobs: int = 0
    soonest: float | None = None


def _how_many(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


_STANDING = (
    select(
        job.c.state,
        func.count(),
        _how_many(job.c.due_at <= now()),
        func.min(job.c.due_at),
        now(),
    )
    # Each of these has an alarm; saying so lets the index of unfinished jobs be used.
    .where(in_state(*ALARMED), job.c.due_at.is_not(None))
    .group_by(job.c.state)
)


def _oldest(state: State) -> Select[str, Any]:
    first = select(job.c.created_at).where(in_state(state), job.c.due_at.is_not(None))
    among = first.order_by(job.c.due_at).limit(_AMONG).subquery()
    return select(literal(state.value, String), func.min(among.c.created_at))


_OLDEST = union_all(*map(_oldest, sorted(ALARMED)))
_EXPIRING = select(
    _how_many(job.c.result_expires_at <= after(SOON)), func.min(job.c.result_expires_at), now()
).where(in_state(State.STORING))


def standings(tx: Connection) -> dict[State, Standing]:
    """Every state that has an alarm; those that no job is in as well."""
    found = {state: Standing() for state in sorted(ALARMED)}
    oldest = {row[0]: row[1] for row in tx.execute(_OLDEST)}
    for state, jobs, due, alarm, at in tx.execute(_STANDING):
        age, late = _seconds(oldest[state] or at, at), _seconds(alarm, at)
        found[State(state)] = Standing(int(jobs), int(due), max(0.0, age), max(0.0, late))
    return found


def expiring(tx: Connection) -> Expiring:
    """Results that may be lost if nobody fetches them."""
    jobs, soonest, at = tx.execute(_EXPIRING).one()
    return Expiring(int(jobs), None if soonest is None else _seconds(at, soonest))


def _seconds(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()
