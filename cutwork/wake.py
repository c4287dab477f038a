"""Waking a reconciler that sleeps, on PostgreSQL: a NOTIFY, and only while somebody is asleep.

A NOTIFY takes a lock of the whole database at commit, so it must cost nothing under load. A
reconciler that finds nothing to do says in ``cutwork_sleeper`` until when it sleeps, and takes its
word back when it is busy. Statements that make a job due carry ``call()``, which notifies if it
finds such a note. A call that is missed costs a pause: the reconciler looks all the same.
"""

from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, ScalarSelect, delete, func, insert, select, update

from cutwork.clock import after, now
from cutwork.schema import sleeper

CHANNEL = "cutwork"


@cache
def call() -> ScalarSelect[Any]:
    """Notifies at commit if somebody sleeps; for a RETURNING of PostgreSQL, once a statement."""
    asleep = select(func.pg_notify(CHANNEL, "")).select_from(sleeper)
    return asleep.where(sleeper.c.asleep_until > now()).limit(1).scalar_subquery()


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
