"""Held and failed jobs by cause: among the newest of each, as many as can be looked at at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, String, cast, func, select

from cutwork.schema import job
from cutwork.states import State

from .filtering import Filter
from .walking import Found, Walk, along, find, indexed

STATES = (State.HELD, State.FAILED)
LOOKED = 5_000


@dataclass(frozen=True)
class Cause:
    """Jobs of one state that stopped for one reason; ``error`` is the sentence of the newest."""

    state: State
    code: str
    jobs: int
    newest: UUID
    error: str


@dataclass(frozen=True)
class Troubles:
    """The most frequent cause first; ``more`` are the states that have more than were looked at."""

    causes: Sequence[Cause]
    more: Sequence[State]


def read(tx: Connection) -> Troubles:
    """The causes among the newest 5,000 jobs of each state."""
    grouped = {state: _grouped(tx, state) for state in STATES}
    newest = [UUID(row.newest) for rows in grouped.values() for row in rows]
    told = select(job.c.id, job.c.error).where(job.c.id.in_(newest))
    errors: dict[UUID, str | None] = {row.id: row.error for row in tx.execute(told)}
    causes = [
        Cause(state, row.code, int(row.jobs), UUID(row.newest), errors.get(UUID(row.newest)) or "")
        for state, rows in grouped.items()
        for row in rows
    ]
    more = [state for state, rows in grouped.items() if sum(row.jobs for row in rows) >= LOOKED]
    return Troubles(sorted(causes, key=lambda one: -one.jobs), more)


def page(tx: Connection, state: State, code: str, size: int) -> Found:
    """The newest jobs of a cause."""
    return find(tx, Filter(texts={"error": code}, state=state), size)


def _grouped(tx: Connection, state: State) -> Sequence[Any]:
    walked = along(tx, indexed(tx, state) or Walk(), job.c.id, job.c.error_code)
    seen = walked.order_by(job.c.id.desc()).limit(LOOKED).subquery()
    # As text, which sorts as ids do: PostgreSQL has no maximum of UUIDs.
    latest = func.max(cast(seen.c.id, String(36))).label("newest")
    columns = (seen.c.error_code.label("code"), func.count().label("jobs"), latest)
    known = seen.c.error_code.is_not(None)
    return tx.execute(select(*columns).where(known).group_by(seen.c.error_code)).all()
