"""Jobs, newest first, found by walking an index and never further than a bound.

Ids are made of their time, so the newest come first in the order of the primary key. What a filter
asks is either where a walk begins and ends (an id, an age, a state, a key, which have an index) or
what is looked for on the way (an owner, ``meta``, an error), and then at most so many jobs are
looked at for one page; the page says how far it looked, and the next one goes on from there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    cast,
    func,
    select,
)

from cutwork.schema import OVER, in_state, job
from cutwork.states import ALARMED, State

from . import keys
from .filtering import Filter
from .metadata import matches

PAGE = 50
LOOKED = 20_000
# Jobs of one state lie apart from each other, so each may cost a read of its own.
_APART = 4
# Hosts whose clocks differ by more than this make ids that are out of order by more than this.
_SKEW = timedelta(minutes=5)
_MYSQL = ("mysql", "mariadb")

Test = Callable[[Any], ColumnElement[bool]]
_NEEDED = (job.c.id, job.c.state, job.c.owner, job.c.error_code, job.c.meta, job.c.created_at)


@dataclass(frozen=True)
class Walk:
    """Jobs that fit ``where``, by an index; ``tests`` are looked at one job after the other.

    ``few`` says that all that fit are few enough to be sorted, ``alarm`` that they are found by
    the index of alarms, ``apart`` that they are not beside each other in the table.
    """

    where: tuple[ColumnElement[bool], ...] = ()
    tests: tuple[Test, ...] = ()
    few: bool = False
    alarm: bool = False
    apart: bool = False

    @property
    def most(self) -> int:
        """How many jobs are looked at for a page."""
        return LOOKED if self.few or not self.apart else max(1, LOOKED // _APART)


@dataclass(frozen=True)
class Found:
    """A page's ids, newest first. ``older`` is where the next page begins, if there may be one.

    ``looked`` is how many jobs were looked at, if as many as may be: there are older ones then.
    """

    ids: Sequence[UUID] = field(default=())
    older: UUID | None = None
    looked: int = 0


def find(tx: Connection, wanted: Filter, size: int = PAGE) -> Found:
    """One page of the jobs that fit."""
    bounds = _bounds(wanted)
    legs = [
        _walk(tx, replace(walk, where=(*walk.where, *bounds)), size) for walk in _walks(tx, wanted)
    ]
    # Beyond the place where a walk was broken off nothing is known of it, so all stop there.
    edge = max((leg.older for leg in legs if leg.looked and leg.older), default=None)
    ids = sorted(set(chain.from_iterable(leg.ids for leg in legs)), reverse=True)
    if edge is not None:
        ids = [one for one in ids if one >= edge]
    if len(ids) > size:
        return Found(ids[:size], ids[size - 1])
    return Found(ids, edge, sum(leg.looked for leg in legs))


def indexed(tx: Connection, state: State) -> Walk | None:
    """This state's jobs, by an index that holds them apart from others; None if there is none."""
    if state in ALARMED:
        return Walk((in_state(state), job.c.due_at.is_not(None)), alarm=True, apart=True)
    if tx.dialect.name in _MYSQL:
        return Walk((in_state(state), job.c.due_at.is_(None)), alarm=True, apart=True)
    over = (in_state(state), in_state(*OVER))
    return Walk(over, apart=True) if state in OVER else None


def along(tx: Connection, walk: Walk, *columns: Any) -> Select[Any]:
    """Columns of the jobs of a walk, in any order."""
    query = select(*columns).select_from(job).where(*walk.where)
    if walk.alarm and tx.dialect.name in _MYSQL:
        # They would rather look through all jobs, which are in the order that is asked for.
        return query.with_hint(job, "FORCE INDEX (ix_cutwork_job_alarm)", tx.dialect.name)
    return query


def _walk(tx: Connection, walk: Walk, size: int) -> Found:
    """One more than ``size``, so that the page knows whether there is another."""
    if not walk.tests:
        return Found(tx.execute(_newest(tx, walk, size + 1)).scalars().all())
    seen = _newest(tx, walk, walk.most, _NEEDED).subquery()
    fit = select(seen.c.id).where(*(test(seen.c) for test in walk.tests))
    ids = tx.execute(fit.order_by(seen.c.id.desc()).limit(size + 1)).scalars().all()
    if len(ids) > size:
        return Found(ids)
    again = _newest(tx, walk, walk.most).subquery()
    # As text, which sorts as ids do: PostgreSQL has no minimum of UUIDs.
    last = func.min(cast(again.c.id, String(36)))
    how_many, where = tx.execute(select(func.count(), last).select_from(again)).one()
    return Found(ids, UUID(where), how_many) if how_many >= walk.most else Found(ids)


def _newest(
    tx: Connection, walk: Walk, limit: int, columns: Sequence[Any] = (job.c.id,)
) -> Select[Any]:
    query = along(tx, walk, *columns)
    if walk.few:  # sorted afterwards, for the same reason
        few = query.limit(LOOKED).subquery()
        return select(*few.c).order_by(few.c.id.desc()).limit(limit)
    return query.order_by(job.c.id.desc()).limit(limit)


def _bounds(wanted: Filter) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = []
    if wanted.older is not None:
        bounds.append(job.c.id < wanted.older)
    if wanted.after is not None:
        bounds.append(job.c.id >= _id_at(wanted.after - _SKEW))
    if wanted.before is not None:
        bounds.append(job.c.id < _id_at(wanted.before + _SKEW))
    return bounds


def _walks(tx: Connection, wanted: Filter) -> Iterator[Walk]:
    """The walks that together meet every job that fits."""
    tests = tuple(_tests(tx, wanted))
    if wanted.digits:
        yield from _by_id(wanted.digits, (*tests, *_of_state(wanted.state)))
    elif wanted.text("key"):
        keyed = keys.find(tx, wanted.text("key"), wanted.texts.get("owner"))
        yield Walk((job.c.id.in_(keyed),), (*tests, *_of_state(wanted.state)))
    elif wanted.state is not None:
        yield _by_state(tx, wanted.state, tests)
    elif wanted.text("error"):
        for state in OVER:
            yield _by_state(tx, state, tests)
    else:
        yield Walk((), tests)


def _tests(tx: Connection, wanted: Filter) -> Iterator[Test]:
    if wanted.after is not None:
        since = wanted.after
        yield lambda c: c.created_at >= since
    if wanted.before is not None:
        until = wanted.before
        yield lambda c: c.created_at < until
    if owner := wanted.text("owner"):
        yield lambda c: c.owner == owner
    if code := wanted.text("error"):
        yield lambda c: c.error_code == code
    if meta := wanted.meta:
        yield lambda c: matches(tx.dialect.name, c.meta, meta)


def _of_state(state: State | None) -> tuple[Test, ...]:
    return () if state is None else (lambda c: c.state == state,)


def _by_id(digits: str, tests: tuple[Test, ...]) -> Iterator[Walk]:
    """An id, the first digits of one, or its last, as commands show it."""
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    yield Walk((job.c.id.between(first, last),), tests)
    if len(digits) < 32:
        yield Walk((), (*tests, lambda c: _plain(c.id).like(f"%{digits}")))


def _plain(column: ColumnElement[Any]) -> ColumnElement[str]:
    return func.replace(cast(column, String(36)), "-", "")


def _by_state(tx: Connection, state: State, tests: tuple[Test, ...]) -> Walk:
    """By the index that holds this state's jobs, or among all when they are most of them."""
    walk = indexed(tx, state)
    if walk is None or (state in ALARMED and not _are_few(tx, walk)):
        return Walk((), (*tests, *_of_state(state)))
    return replace(walk, tests=tests, few=state in ALARMED)


def _are_few(tx: Connection, walk: Walk) -> bool:
    some = along(tx, walk, job.c.state).limit(LOOKED).subquery()
    return tx.execute(select(func.count()).select_from(some)).scalar_one() < LOOKED


def _id_at(moment: datetime) -> UUID:
    """The smallest id of this millisecond."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)
