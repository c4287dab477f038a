"""Waking a reconciler that sleeps, on PostgreSQL: a NOTIFY, and only while somebody is asleep.

A NOTIFY takes a lock of the whole database at commit, so it must cost nothing under load. A
reconciler that finds nothing to do says in ``cutwork_sleeper`` until when it sleeps, and takes its
word back when it is busy. Statements that make a job due carry ``call()``, which notifies if it
finds such a note. A call that is missed costs a pause: the reconciler looks all the same.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from cutwork.clock import after, now
from cutwork.schema import sleeper

CHANNEL = "cutwork"
CALL = f"""
(SELECT pg_notify('{CHANNEL}', '')
   FROM cutwork_sleeper
  WHERE asleep_until > statement_timestamp()
  LIMIT 1)
"""  # noqa: S608 - a constant of ours


class _Call(FunctionElement[None]):
    """Spelled out when it is compiled: SQLAlchemy reads all of a statement for each execution."""

    inherit_cache = True
    name = "call"


def call() -> ColumnElement[None]:
    """Notifies at commit if somebody sleeps; for a RETURNING of PostgreSQL, once a statement."""
    return _Call()


@compiles(_Call)
def _spelled_out(_call: _Call, _compiler: SQLCompiler, **_options: Any) -> str:
    return CALL


def note(tx: Connection, sleeper_id: UUID, seconds: float) -> None:
    """Say that this reconciler sleeps, for so many seconds at most; forget those who were killed.

    A note that is over is passed over when somebody else is just renewing or removing it.
    """
    mine = update(sleeper).where(sleeper.c.id == sleeper_id)
    if not tx.execute(mine.values(asleep_until=after(seconds))).rowcount:
        tx.execute(insert(sleeper).values(id=sleeper_id, asleep_until=after(seconds)))
        dead = select(sleeper.c.id).where(sleeper.c.asleep_until < now())
        ids = list(tx.execute(dead.with_for_update(skip_locked=True)).scalars())
        if ids:
            tx.execute(delete(sleeper).where(sleeper.c.id.in_(ids)))


def clear(tx: Connection, sleeper_id: UUID) -> None:
    """Take the note back: from now on nobody calls this reconciler."""
    tx.execute(delete(sleeper).where(sleeper.c.id == sleeper_id))
