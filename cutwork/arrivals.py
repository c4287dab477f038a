"""New jobs: one INSERT for all that come in one call; the database gives them their turns.

Nobody but ``cutwork.ledger`` imports this module; CI checks that.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Insert,
    Integer,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from cutwork import recordset, schema, turns, wake
from cutwork.clock import now
from cutwork.schema import job
from cutwork.states import State

_MYSQL = ("mysql", "mariadb")
_ON: dict[str, Any] = {"index_elements": ["owner", "idempotency_key"], "index_where": schema.KEYED}
# The columns that are a job's own; all others are the same for all jobs of one call.
_OWN = ("id", "idempotency_key", "request", "request_digest")

# What every new job begins with: constants of the statement, which nobody has to bind.
_FIRST = {
    "kind": literal_column("'segmentation'"),
    "state": literal_column(f"'{State.QUEUED}'"),
    "fence": literal_column("0"),
    "tries": literal_column("0"),
    "attempt": literal_column("0"),
    "created_at": now(),
}

Columns = Mapping[str, Any]


def insert(tx: Connection, jobs: Sequence[Columns], common: Columns) -> set[UUID]:
    """Write jobs that share ``common``; without a ``due_at`` in it they are due now, in turn.

    Gives the ids of those that were passed over, since their idempotency key is known.
    """
    given = {name: value for name, value in common.items() if value is not None}
    if tx.dialect.name == "postgresql" and len(jobs) > 1:
        return _from_json(tx, jobs, given)
    if tx.dialect.name not in _MYSQL and len(jobs) == 1:
        return _alone(tx, jobs[0], given)
    return _one_by_one(tx, jobs, given)


def _from_json(tx: Connection, jobs: Sequence[Columns], common: Columns) -> set[UUID]:
    own = {name: [new[name] for new in jobs] for name in _OWN}
    own["id"] = [one.hex for one in own["id"]]
    rows = recordset.dump(own)
    given = {**_bound(common), **rows, "count": len(jobs)}
    return _passed_over(jobs, tx.execute(_insert_from_json(tuple(common)), given))


def _alone(tx: Connection, new: Columns, common: Columns) -> set[UUID]:
    statement = _insert_alone(tx.dialect.name, tuple(common))
    return _passed_over([new], tx.execute(statement, {**_bound(common), **new}))


def _one_by_one(tx: Connection, jobs: Sequence[Columns], common: Columns) -> set[UUID]:
    """MariaDB and MySQL cannot read a table in the statement that writes it."""
    ids, values = {new["id"] for new in jobs}, [{**common, **new} for new in jobs]
    statement = _insert(tx.dialect.name).values(**_FIRST)
    if "due_at" not in common:
        statement = statement.values(due_at=now())
        places = turns.next_turns(tx, common["owner"], common["priority"], len(jobs))
        values = [{**new, "turn": place} for new, place in zip(values, places, strict=True)]
    if tx.dialect.insert_executemany_returning:
        options = {"insertmanyvalues_page_size": 1000}
        written = tx.execute(statement.returning(job.c.id), values, execution_options=options)
        return ids.difference(written.scalars())  # MariaDB returns the rows it left alone as well
    tx.execute(statement, values)
    return ids.difference(tx.execute(select(job.c.id).where(job.c.id.in_(ids))).scalars())


def _passed_over(jobs: Sequence[Columns], written: CursorResult[Any]) -> set[UUID]:
    if written.rowcount == len(jobs):  # as nearly always, and then no id has to be read
        return set()
    return {new["id"] for new in jobs}.difference(written.scalars())


@cache  # building it costs as much as sending it
def _insert_alone(dialect: str, common: tuple[str, ...]) -> Insert:
    statement = _insert(dialect).values(**_shared(common))
    if "due_at" not in common:
        statement = statement.values(due_at=now(), turn=_next_turn())
    return _told(statement, dialect)


@cache
def _insert_from_json(common: tuple[str, ...]) -> Insert:
    shape = [(name, job.c[name].type) for name in _OWN]
    step = func.generate_series(1, bindparam("count", type_=Integer)).label("step")
    given = recordset.of(shape, step)
    columns = {**{name: given.c[name] for name in _OWN}, **_shared(common)}
    if "due_at" not in common:
        columns |= {"due_at": now(), "turn": _next_turn(given.c.step)}
    statement = _insert("postgresql").from_select([*columns], select(*columns.values()))
    return _told(statement, "postgresql")


def _shared(common: tuple[str, ...]) -> dict[str, ColumnElement[Any]]:
    """The columns that are the same for all jobs of one call."""
    return {**_FIRST, **{name: _of_all(name) for name in common}}


def _of_all(name: str) -> ColumnElement[Any]:
    return bindparam(f"all_{name}", type_=job.c[name].type)


def _told(statement: Any, dialect: str) -> Insert:
    """It tells the ids that it wrote, and how many they are, and a reconciler of them."""
    call = [wake.call()] if dialect == "postgresql" else []
    made: Insert = statement.returning(job.c.id, *call).execution_options(preserve_rowcount=True)
    return made


def _next_turn(*step: ColumnElement[int]) -> ColumnElement[int]:
    return turns.next_turn(_of_all("owner"), _of_all("priority"), *step)


def _bound(common: Columns) -> dict[str, Any]:
    return {f"all_{name}": value for name, value in common.items()}


def _insert(dialect: str) -> Any:
    """An INSERT that passes over a row whose owner and key exist, and over nothing else."""
    if dialect in _MYSQL:
        return mysql.insert(job).on_duplicate_key_update(id=job.c.id)
    if dialect == "postgresql":
        return postgresql.insert(job).on_conflict_do_nothing(**_ON)
    return sqlite.insert(job).on_conflict_do_nothing(**_ON)
