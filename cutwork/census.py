"""All that there is, counted, and what there was before it was purged.

A count of rows falls when they are purged, and whoever adds up what a falling count has grown by
takes the rest for new. So a purge writes what it deletes into ``cutwork_tally``, in the same
transaction: counted and kept together only grow, however often somebody purges or restarts.

A census reads whole tables. Whoever takes it again and again must rest in between.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    case,
    cast,
    func,
    insert,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from cutwork.clock import now
from cutwork.events import Kind
from cutwork.schema import attempt, event, job, tally
from cutwork.states import RESTING, Attempt, State

# What is counted, and of which kind: words with a space between them.
Counts = Counter[tuple[str, str]]

_NOBODY = "nobody"


@dataclass(frozen=True)
class Census:
    """``counted`` are rows, ``kept`` those that were purged:

    * ``jobs``: "state by" (who decided it) of those that are over, "held code" of those held
    * ``attempts``: "key state"; ``callbacks`` and ``checks`` (fruitless ones): "key"
    * ``second_charges``: ""
    * ``events``: "kind"; of ``forged`` the callbacks, not the rows

    ``held_since`` is when the oldest held job was made.
    """

    at: datetime
    counted: Counts
    kept: Counts
    held_since: datetime | None


def take(tx: Connection) -> Census:
    """Count everything."""
    # First what was purged: a purge between the two is then missing for a while, and not double.
    kept = _kept(tx)
    jobs = tx.execute(_jobs(job.c.state.in_([state.value for state in RESTING]))).all()
    held = [row.oldest for row in jobs if row.state == State.HELD]
    at = tx.execute(select(now())).scalar_one()
    return Census(at, _counts(tx, jobs, None), kept, min(held, default=None))


def keep(tx: Connection, job_ids: Sequence[UUID]) -> None:
    """Add these finished jobs to the tally; they are deleted in the same transaction."""
    jobs = tx.execute(_jobs(job.c.id.in_(job_ids))).all()
    # In one order, so that two purges cannot wait for each other.
    for (what, which), count in sorted(_counts(tx, jobs, job_ids).items()):
        mine = and_(tally.c.what == what, tally.c.which == which)
        grown = update(tally).where(mine).values(number=tally.c.number + count)
        if not tx.execute(grown).rowcount:
            try:
                with tx.begin_nested():
                    tx.execute(insert(tally).values(what=what, which=which, number=count))
            except IntegrityError:  # another purge made it just now
                tx.execute(grown)


def _counts(tx: Connection, jobs: Sequence[Any], job_ids: Sequence[UUID] | None) -> Counts:
    found: Counts = Counter()
    for row in jobs:
        found["jobs", f"{row.state} {row.word or _NOBODY}"] += row.rows
    for row in tx.execute(_attempts(_among(attempt.c.job_id, job_ids))):
        found["attempts", f"{row.key_id} {row.state}"] += row.rows
        found["callbacks", row.key_id] += int(row.callbacks)
        found["checks", row.key_id] += int(row.checks)
    charged_again = _second_charges(_among(attempt.c.job_id, job_ids))
    found["second_charges", ""] = tx.execute(charged_again).scalar_one()
    for row in tx.execute(_events(_among(event.c.job_id, job_ids))):
        found["events", row.kind] += int(row.rows)
    return +found


def _among(column: ColumnElement[Any], job_ids: Sequence[UUID] | None) -> ColumnElement[bool]:
    return true() if job_ids is None else column.in_(job_ids)


def _jobs(which: ColumnElement[bool]) -> Select[Any]:
    held = job.c.state == State.HELD
    word = case((held, job.c.error_code), else_=job.c.decided_by).label("word")
    counted = (func.count().label("rows"), func.min(job.c.created_at).label("oldest"))
    return select(job.c.state, word, *counted).where(which).group_by(job.c.state, word)


def _attempts(which: ColumnElement[bool]) -> Select[Any]:
    sums = [func.sum(attempt.c[name]).label(name) for name in ("callbacks", "checks")]
    columns = select(attempt.c.key_id, attempt.c.state, func.count().label("rows"), *sums)
    return columns.where(which).group_by(attempt.c.key_id, attempt.c.state)


def _second_charges(which: ColumnElement[bool]) -> Select[Any]:
    earlier = attempt.alias()
    before = and_(earlier.c.job_id == attempt.c.job_id, earlier.c.number < attempt.c.number)
    charged = select(literal(1)).where(before, earlier.c.state == Attempt.SUCCEEDED).exists()
    again = and_(attempt.c.number > 1, attempt.c.state == Attempt.SUCCEEDED, charged)
    return select(func.count()).select_from(attempt).where(which, again)


def _events(which: ColumnElement[bool]) -> Select[Any]:
    """The webhook writes how many forged callbacks there were, a row for all that came together."""
    number = case((event.c.kind == Kind.FORGED, cast(event.c.detail, Integer)), else_=1)
    counted = select(event.c.kind, func.sum(number).label("rows"))
    return counted.where(which).group_by(event.c.kind)


def _kept(tx: Connection) -> Counts:
    rows = tx.execute(select(tally.c.what, tally.c.which, tally.c.number))
    return Counter({(row.what, row.which): row.number for row in rows})
