"""New jobs: one INSERT for all that come in one call; the database gives them their turns.

Nobody but ``cutwork.ledger`` imports this module; CI checks that.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Insert, Integer, bindparam, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

from cutwork import recordset, schema, turns, wake
from cutwork.clock import now
from cutwork.schema import job

_MYSQL = ("mysql", "mariadb")
_ON: dict[str, Any] = {"index_elements": ["owner", "idempotency_key"], "index_where": schema.KEYED}
# The columns that are a job's own; all others are the same for all jobs of one call.
_OWN = ("id", "idempotency_key", "request", "request_digest")

_COUNTED = {"preserve_rowcount": True}

Columns = Mapping[str, Any]


def insert(tx: Connection, jobs: Sequence[Columns], common: Columns) -> set[UUID]:
    """Write jobs that share ``common``; without a ``due_at`` in it they are due now, in turn.

    Gives the ids of those that were written: a known idempotency key is passed over.
    """
    if tx.dialect.name == "postgresql" and len(jobs) > 1:
        return _from_json(tx, jobs, common)
    if tx.dialect.name not in _MYSQL and len(jobs) == 1:
        return _alone(tx, jobs[0], common)
    return _one_by_one(tx, jobs, common)


def _from_json(tx: Connection, jobs: Sequence[Columns], common: Columns) -> set[UUID]:
    rows = recordset.dump([{**new, "step": step} for step, new in enumerate(jobs, 1)])
    given = {**_bound(common), "rows": rows}
    written = tx.execute(_insert_from_json(tuple(common)), given, execution_options=_COUNTED)
    if written.rowcount == len(jobs):  # as nearly always, and then no id has to be read
        return {new["id"] for new in jobs}
    return set(written.scalars())


def _alone(tx: Connection, new: Columns, common: Columns) -> set[UUID]:
    statement = _insert_alone(tx.dialect.name, "due_at" in common)
    return set(tx.execute(statement, {**_bound(common), **common, **new}).scalars())


def _one_by_one(tx: Connection, jobs: Sequence[Columns], common: Columns) -> set[UUID]:
    """MariaDB and MySQL cannot read a table in the statement that writes it."""
    ids, values = [new["id"] for new in jobs], [{**common, **new} for new in jobs]
    statement = _insert(tx.dialect.name).values(created_at=now())
    if "due_at" not in common:
        statement = statement.values(due_at=now())
        places = turns.next_turns(tx, common["owner"], common["priority"], len(jobs))
        values = [{**new, "turn": place} for new, place in zip(values, places, strict=True)]
    if tx.dialect.insert_executemany_returning:
        options = {"insertmanyvalues_page_size": 1000}
        written = tx.execute(statement.returning(job.c.id), values, execution_options=options)
        # MariaDB also returns the rows that it left alone.
        return set(ids).intersection(written.scalars())
    tx.execute(statement, values)
    return set(tx.execute(select(job.c.id).where(job.c.id.in_(ids))).scalars())


@cache  # building it costs as much as sending it
def _insert_alone(dialect: str, later: bool) -> Insert:
    statement = _insert(dialect).values(created_at=now())
    if not later:
        statement = statement.values(due_at=now(), turn=_next_turn(1))
    made: Insert = statement.returning(job.c.id, *_call(dialect))
    return made


@cache
def _insert_from_json(common: tuple[str, ...]) -> Insert:
    shape = [(name, job.c[name].type) for name in _OWN]
    given = recordset.of([*shape, ("step", Integer())])
    columns: dict[str, ColumnElement[Any]] = {name: given.c[name] for name in _OWN}
    columns |= {name: bindparam(f"all_{name}", type_=job.c[name].type) for name in common}
    columns["created_at"] = now()
    if "due_at" not in common:
        columns |= {"due_at": now(), "turn": _next_turn(given.c.step)}
    statement = _insert("postgresql").from_select([*columns], select(*columns.values()))
    made: Insert = statement.returning(job.c.id, *_call("postgresql"))
    return made


def _call(dialect: str) -> list[ColumnElement[Any]]:
    return [wake.call()] if dialect == "postgresql" else []


def _next_turn(step: int | ColumnElement[int]) -> ColumnElement[int]:
    owner = bindparam("all_owner", type_=job.c.owner.type)
    priority = bindparam("all_priority", type_=job.c.priority.type)
    return turns.next_turn(owner, priority, step)


def _bound(common: Columns) -> dict[str, Any]:
    return {f"all_{name}": value for name, value in common.items()}


def _insert(dialect: str) -> Any:
    """An INSERT that passes over a row whose owner and key exist, and over nothing else."""
    if dialect in _MYSQL:
        return mysql.insert(job).on_duplicate_key_update(id=job.c.id)
    if dialect == "postgresql":
        return postgresql.insert(job).on_conflict_do_nothing(**_ON)
    return sqlite.insert(job).on_conflict_do_nothing(**_ON)
