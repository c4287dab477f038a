"""Fair share of the submits: each queued job has a turn, and within a priority the lowest goes.

The turns of one owner's jobs are a stride apart, and a new job's comes after its owner's last, but
never before the turn that is being served. So owners take turns, however long the backlog of one is
and whoever came first; an owner of weight 3 has a third of the stride, and goes three times as
often. Nothing is counted while jobs are released: they come from an index in the order of turns.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from cutwork.errors import InvalidInput
from cutwork.schema import in_state, job, owner
from cutwork.states import State

STRIDE = 1000
# In the statements they are constants: the driver would bind a parameter anew each time.
_STRIDE, _NONE, _ONE, _MOST = (
    literal_column(str(number), BigInteger) for number in (STRIDE, 0, 1, 2**63 - 1)
)
Name = str | ColumnElement[str]
Priority = int | ColumnElement[int]
MOST_WEIGHT, LEAST_WEIGHT = 1000.0, 0.001


class _NextTurn(FunctionElement[int]):
    """Spelled out when it is compiled: SQLAlchemy reads all of a statement for each execution."""

    type = BigInteger()
    inherit_cache = True
    name = "next_turn"


def next_turn(
    name: ColumnElement[str], priority: ColumnElement[int], step: ColumnElement[int] = _ONE
) -> ColumnElement[int]:
    """The turn of an owner's next new job, or the ``step``-th, in SQL: it costs no round trip."""
    return _NextTurn(name, priority, step)


@compiles(_NextTurn)
def _spelled_out(turn: _NextTurn, compiler: SQLCompiler, **options: Any) -> str:
    name, priority, step = turn.clauses
    last = _last(name, priority, compiler.dialect.name)
    return compiler.process((last + _stride(name) * step).self_group(), **options)


def next_turns(tx: Connection, name: str, priority: int, count: int) -> list[int]:
    """Turns for so many new jobs of an owner, in their order."""
    last, stride = tx.execute(select(_last(name, priority, tx.dialect.name), _stride(name))).one()
    return [last + stride * step for step in range(1, count + 1)]


def served(tx: Connection, priority: int) -> int:
    """The turn that is being served: a job that gets it is among the next to go."""
    return int(tx.execute(select(_served(priority))).scalar_one())


def weights(tx: Connection) -> dict[str, float]:
    """The owners whose weight is not 1."""
    return {row.owner: row.weight for row in tx.execute(select(owner).order_by(owner.c.owner))}


def set_weight(tx: Connection, name: str, weight: float) -> None:
    """From now on an owner's new jobs go ``weight`` times as often as those of others.

    Raises:
        InvalidInput: the weight is not from 0.001 to 1000.
    """
    if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        raise InvalidInput("weight", weight, f"must be from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}")
    tx.execute(delete(owner).where(owner.c.owner == name))
    if weight != 1:
        tx.execute(insert(owner).values(owner=name, weight=weight))


def queued_by_owner(tx: Connection) -> Sequence[tuple[str, int]]:
    """How many jobs of each owner are queued, those for later included."""
    query = select(job.c.owner, func.count()).where(in_state(State.QUEUED))
    rows = tx.execute(query.group_by(job.c.owner).order_by(func.count().desc()))
    return [(name, count) for name, count in rows]


def _last(name: Name, priority: Priority, dialect: str) -> ColumnElement[int]:
    """The owner's last turn; without a queued job of theirs, the turn that is being served."""
    find = _found_in_index if dialect == "postgresql" else _found_by_max
    return func.coalesce(find(name, priority), _served(priority))


def _found_by_max(name: Name, priority: Priority) -> ColumnElement[int]:
    own = select(func.max(job.c.turn)).where(_queued(priority), job.c.owner == name)
    return own.scalar_subquery()


def _found_in_index(name: Name, priority: Priority) -> ColumnElement[int]:
    """The last entry of the index of turns that is not beyond theirs, if it is theirs.

    With statistics from a quiet time PostgreSQL reads the owner's whole backlog for a max(). Only
    this index has this order, so whatever the statistics say it reads one entry.
    """
    theirs = tuple_(job.c.owner, job.c.priority, job.c.turn) <= tuple_(name, priority, _MOST)
    backwards = (job.c.owner.desc(), job.c.priority.desc(), job.c.turn.desc())
    nearest = select(job.c.owner, job.c.priority, job.c.turn).where(in_state(State.QUEUED), theirs)
    last = nearest.order_by(*backwards).limit(_ONE).subquery("last")
    own = select(last.c.turn).where(last.c.owner == name, last.c.priority == priority)
    return own.scalar_subquery()


def _served(priority: Priority) -> ColumnElement[int]:
    """The first turn that nobody has been given yet; when all have, the last."""
    free = (job.c.turn.is_not(None), job.c.lease.is_(None))
    # Not min(): with the lease in the condition MariaDB would read the whole backlog for it.
    head = select(job.c.turn).where(_queued(priority), *free).order_by(job.c.turn).limit(_ONE)
    tail = select(func.max(job.c.turn)).where(_queued(priority))
    return func.coalesce(head.scalar_subquery(), tail.scalar_subquery(), _NONE)


def _stride(name: Name) -> ColumnElement[int]:
    weight = select(owner.c.weight).where(owner.c.owner == name).scalar_subquery()
    return func.coalesce(cast(_STRIDE / weight, BigInteger), _STRIDE)


def _queued(priority: Priority) -> ColumnElement[bool]:
    return and_(in_state(State.QUEUED), job.c.priority == priority)
