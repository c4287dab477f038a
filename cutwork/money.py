"""What was paid for: charges, second charges and doubtful submits, by day and key. Reads only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Date, case, cast, func, literal, select

from cutwork.schema import attempt
from cutwork.states import Attempt

_LISTED = 100


@dataclass(frozen=True)
class Day:
    """One day (UTC, of the submit) and key; ``second`` are charges beyond a job's first."""

    day: str
    key_id: str
    submits: int
    charges: int
    second: int
    uncertain: int


@dataclass(frozen=True)
class Twice:
    """A job that was charged more than once, and the attempts that were."""

    job_id: UUID
    attempts: tuple[int, ...]


@dataclass(frozen=True)
class Money:
    """``twice`` are the latest jobs with a second charge, at most a hundred."""

    days: tuple[Day, ...]
    twice: tuple[Twice, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON-able values."""
        return {
            "days": [asdict(day) for day in self.days],
            "second_charges": [
                {"job": str(one.job_id), "attempts": list(one.attempts)} for one in self.twice
            ],
        }


def money(tx: Connection) -> Money:
    """Every attempt that there is, counted."""
    return Money(_days(tx), _twice(tx))


def _days(tx: Connection) -> tuple[Day, ...]:
    earlier = attempt.alias()
    charged_before = (
        select(literal(1))
        .where(
            earlier.c.job_id == attempt.c.job_id,
            earlier.c.number < attempt.c.number,
            earlier.c.state == Attempt.SUCCEEDED,
        )
        .exists()
    )
    charged = attempt.c.state == Attempt.SUCCEEDED
    day = _day(tx).label("day")
    rows = tx.execute(
        select(
            day,
            attempt.c.key_id,
            func.count(),
            _sum(charged),
            _sum(charged & charged_before),
            _sum(attempt.c.state == Attempt.UNCERTAIN),
        )
        .group_by(day, attempt.c.key_id)
        .order_by(day.desc(), attempt.c.key_id)
    )
    return tuple(Day(str(row[0]), row[1], *(int(count) for count in row[2:])) for row in rows)


def _twice(tx: Connection) -> tuple[Twice, ...]:
    charged = attempt.c.state == Attempt.SUCCEEDED
    several = select(attempt.c.job_id).where(charged).group_by(attempt.c.job_id)
    latest = several.having(func.count() > 1).order_by(func.max(attempt.c.intended_at).desc())
    ids: Sequence[UUID] = tx.execute(latest.limit(_LISTED)).scalars().all()
    made: dict[UUID, list[int]] = {job_id: [] for job_id in ids}
    columns = select(attempt.c.job_id, attempt.c.number).where(charged, attempt.c.job_id.in_(ids))
    for job_id, number in tx.execute(columns.order_by(attempt.c.number)):
        made[job_id].append(number)
    return tuple(Twice(job_id, tuple(numbers)) for job_id, numbers in made.items())


def _day(tx: Connection) -> ColumnElement[Any]:
    match tx.dialect.name:
        case "postgresql":
            return cast(func.timezone("UTC", attempt.c.intended_at), Date)
        case "sqlite":
            return func.date(attempt.c.intended_at)
    return cast(attempt.c.intended_at, Date)


def _sum(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
