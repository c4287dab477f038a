"""Whom to tell of a job that came to rest: each is a row with an alarm of its own.

The row is written in the transaction that ends the job, so nobody is forgotten; it is told at least
once, and for a day if need be. A host that does not listen is left alone for a while, with all that
it is to be told, so that it stands in nobody's way. Every statement about notices is here.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import (
    Connection,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from uuid_utils.compat import uuid7

from cutwork import database, policy, tracing, wake
from cutwork.clock import after, now
from cutwork.events import Kind, record
from cutwork.lanes import MESSAGE, WORKER, Lane
from cutwork.schema import job, notice, subscriber
from cutwork.settings import Settings
from cutwork.sources import url_fault

LANE = "notify"
BATCH = 100
# Seconds to the second try, the third …; the last is repeated until NOTIFY_FOR is over.
PAUSES = (5.0, 30.0, 120.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0)
# A host that fails so often in a row is left alone, for as long as the pauses say.
_PATIENCE = 3
_LONGEST_CLOSING = 900.0
_FORGOTTEN = 86_400.0
_LONGEST_HOST = 300
_NOT_TRIED = "its host did not listen to others"
_TASK = re.compile(r"[A-Za-z_][\w.:-]*")


@dataclass(frozen=True)
class Notice:
    """One to be told, in a worker's hands while ``tries`` is the row's; ``at`` is the claim.

    ``attempt``, ``key_id`` and ``trace`` are the job's.
    """

    id: UUID
    job_id: UUID
    state: str
    target: str
    host: str
    tries: int
    created_at: datetime
    at: datetime
    attempt: int = 0
    key_id: str | None = None
    trace: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What each log line about it names, as far as it is known."""
        trace, attempt = tracing.trace_id(self.trace), self.attempt or None
        facts = {"job": self.job_id, "attempt": attempt, "key": self.key_id, "trace": trace}
        return {name: fact for name, fact in facts.items() if fact is not None}


@dataclass(frozen=True)
class Told:
    """What became of a try: ``fault`` is empty when it was heard.

    ``final`` says that nobody needs to try again, ``retry_after`` (seconds) when to, and ``silent``
    that the host as a whole did not answer as it should.
    """

    fault: str = ""
    final: bool = False
    retry_after: float | None = None
    silent: bool = False


def unfit(target: str) -> str:
    """The rule that it breaks; empty for a Celery task's name and for an http(s) URL."""
    if "://" in target:
        fault = url_fault(target)
        return fault[0] if fault else ""
    if _TASK.fullmatch(target):
        return ""
    return "must be the name of a Celery task, such as shop.tasks.cut_done, or an http(s) URL"


def host_of(target: str) -> str:
    """Who is told: the host of a URL with its port; empty for a Celery task.

    It is asked for in the transaction that ends the job. So whatever a row names, which SQL may
    have written, there is an answer, and one that its column takes.
    """
    if "://" not in target or unfit(target):
        return ""
    return urlsplit(target).netloc.lower()[:_LONGEST_HOST]


def add(tx: Connection, owed: Sequence[Mapping[str, Any]]) -> None:
    """Write that somebody is to be told; each has ``job_id``, ``state`` and ``notify``."""
    rows = [
        {"id": uuid7(), "job_id": one["job_id"], "state": one["state"],
         "host": host_of(one["notify"])}
        for one in owed
    ]  # fmt: skip
    new = insert(notice).values(due_at=now(), created_at=now(), tries=0)
    if tx.dialect.name == "postgresql":
        new = new.returning(wake.call())
    tx.execute(new, rows)


_HELD = (
    select(notice.c.lease, (notice.c.due_at <= now()).label("lapsed"), func.count())
    .where(notice.c.lease.is_not(None))
    .group_by(notice.c.lease, "lapsed")
)


def busy(tx: Connection) -> Lane:
    """How full the lane is, over all processes."""
    counts = {(lease, bool(over)): count for lease, over, count in tx.execute(_HELD)}
    return Lane(
        messages=counts.get((MESSAGE, False), 0),
        workers=counts.get((WORKER, False), 0),
        lapsed=counts.get((MESSAGE, True), 0),
    )


def count(tx: Connection) -> dict[str, int]:
    """How many are still to be told, and how many of these were tried in vain."""
    failing = func.coalesce(func.sum(case((notice.c.error.is_not(None), 1), else_=0)), 0)
    row = tx.execute(select(func.count(), failing).where(notice.c.due_at.is_not(None))).one()
    return {"waiting": int(row[0]), "failing": int(row[1])}


def release(tx: Connection, settings: Settings) -> list[UUID]:
    """Name those that are due to a worker; those of hosts that are left alone are put off.

    Or given up, if their time is over by then: such a host is tried with a few of them only.
    """
    lane = busy(tx)
    columns = (notice.c.id, notice.c.job_id, notice.c.host, notice.c.created_at)
    due = select(*columns).where(notice.c.due_at <= now())
    if lane.lapsed:
        due = due.where(notice.c.lease == MESSAGE)
    # All of a host that was left alone are due at one moment: whoever was tried before must not be
    # tried first again, or the rest never is.
    due = due.order_by(notice.c.due_at, notice.c.tries).limit(BATCH)
    due = due.with_for_update(skip_locked=True)
    found = tx.execute(due).all()
    closed = _closed(tx, {row.host for row in found})
    shut = [row for row in found if row.host in closed]
    lasting = timedelta(seconds=settings.notify_for)
    over = {row.id: row.job_id for row in shut if closed[row.host] > row.created_at + lasting}
    _give_up(tx, over)
    put_off = [{"one": row.id, "until": closed[row.host]} for row in shut if row.id not in over]
    if put_off:
        later = update(notice).where(notice.c.id == bindparam("one"))
        tx.execute(later.values(lease=None, due_at=bindparam("until")), put_off)
    ids = [row.id for row in found if row.host not in closed][: lane.room(settings.notify_lane)]
    if ids:
        named = update(notice).where(notice.c.id.in_(ids))
        tx.execute(named.values(lease=MESSAGE, due_at=after(settings.permit_ttl)))
    return ids


def recall(tx: Connection, ids: Sequence[UUID]) -> None:
    """Make them due again, because their message could not be published."""
    mine = and_(notice.c.id.in_(ids), notice.c.lease == MESSAGE)
    tx.execute(update(notice).where(mine).values(lease=None, due_at=now()))


def claim(tx: Connection, ids: Sequence[UUID], settings: Settings) -> list[Notice]:
    """Take in hand those that were released and that nobody has; the others are left out."""
    there = and_(notice.c.id.in_(ids), notice.c.lease == MESSAGE, notice.c.due_at > now())
    free = select(notice.c.id).where(there).with_for_update(skip_locked=True)
    mine = list(tx.execute(free).scalars())
    if not mine:
        return []
    # Where a worker's jobs have a process each, those of one message are told one after the other.
    lease = after(settings.notify_timeout * len(mine) + settings.lease_margin)
    more = notice.c.tries + 1
    taken = update(notice).where(notice.c.id.in_(mine), notice.c.lease == MESSAGE)
    tx.execute(taken.values(lease=WORKER, due_at=lease, tries=more))
    columns = select(
        notice.c.id, notice.c.job_id, notice.c.state, job.c.notify.label("target"),
        notice.c.host, notice.c.tries, notice.c.created_at, now().label("at"),
        job.c.attempt, job.c.key_id, job.c.trace,
    ).join(job, job.c.id == notice.c.job_id)  # fmt: skip
    return [Notice(**row._mapping) for row in tx.execute(columns.where(notice.c.id.in_(mine)))]


def settle(tx: Connection, outcomes: Iterable[tuple[Notice, Told]], settings: Settings) -> None:
    """Write down what became of the tries; a try that somebody took over meanwhile says nothing."""
    quiet: dict[str, bool] = {}
    heard: dict[int, list[UUID]] = defaultdict(list)
    for one, told in outcomes:
        quiet[one.host] = quiet.get(one.host, True) and told.silent
        if not told.fault:
            heard[one.tries].append(one.id)
            continue
        pause = None if told.final else _pause(one, told, settings)
        if _write(tx, one, told.fault, pause) and pause is None:
            record(tx, Kind.UNTOLD, f"given up: {told.fault}", job_id=one.job_id)
    for tries, ids in heard.items():
        tx.execute(_heard(tx.dialect.name), {"those": ids, "after_tries": tries})
    for host, silent in sorted(quiet.items()):
        _note(tx, host, silent)


@cache
def _heard(dialect: str) -> Update:
    """For all that were heard at the same try, which is mostly the first."""
    mine = and_(
        database.among(dialect, notice.c.id),
        notice.c.lease == WORKER,
        notice.c.tries == bindparam("after_tries"),
    )
    return update(notice).where(mine).values(lease=None, error=None, due_at=None, told_at=now())


def _write(tx: Connection, one: Notice, fault: str, pause: float | None) -> bool:
    """Whether the notice was still in our hands."""
    mine = and_(notice.c.id == one.id, notice.c.lease == WORKER, notice.c.tries == one.tries)
    due_at = None if pause is None else after(pause)
    failed = update(notice).where(mine).values(lease=None, error=fault[:500], due_at=due_at)
    return tx.execute(failed).rowcount == 1


def _pause(one: Notice, told: Told, settings: Settings) -> float | None:
    """Seconds to the next try; None when its time is over."""
    usual = policy.jitter(PAUSES[min(one.tries, len(PAUSES)) - 1])
    pause = max(usual, told.retry_after or 0.0)
    left = one.created_at + timedelta(seconds=settings.notify_for) - one.at
    return pause if timedelta(seconds=pause) <= left else None


def _give_up(tx: Connection, jobs: Mapping[UUID, UUID]) -> None:
    """``jobs`` has the job of each notice."""
    if not jobs:
        return
    fault = func.coalesce(notice.c.error, _NOT_TRIED)
    those = update(notice).where(notice.c.id.in_(list(jobs)))
    tx.execute(those.values(lease=None, due_at=None, error=fault))
    for job_id in jobs.values():
        record(tx, Kind.UNTOLD, f"given up: {_NOT_TRIED}", job_id=job_id)


def _closed(tx: Connection, hosts: set[str]) -> dict[str, datetime]:
    """Until when each of these hosts that does not listen is left alone."""
    if not hosts:
        return {}
    silent = select(subscriber.c.host, subscriber.c.closed_until).where(
        subscriber.c.host.in_(sorted(hosts)), subscriber.c.closed_until > now()
    )
    return {row.host: row.closed_until for row in tx.execute(silent)}


def _note(tx: Connection, host: str, silent: bool) -> None:
    """One row for each host that failed lately; whoever answers has none.

    A host that nobody has tried for so long is owed nothing any more: it is forgotten when another
    one falls silent.
    """
    same = subscriber.c.host == host
    if not silent:
        tx.execute(delete(subscriber).where(same))
        return
    row = tx.execute(select(subscriber.c.failures).where(same).with_for_update()).one_or_none()
    failures = min((row.failures if row else 0) + 1, 30_000)
    over = failures - _PATIENCE
    closing = min(_LONGEST_CLOSING, PAUSES[min(over, len(PAUSES) - 1)]) if over >= 0 else 0.0
    values = {"failures": failures, "closed_until": after(closing)}
    if row is not None:
        tx.execute(update(subscriber).where(same).values(**values))
        return
    old = select(subscriber.c.host).where(subscriber.c.closed_until < after(-_FORGOTTEN))
    gone = list(tx.execute(old.with_for_update(skip_locked=True)).scalars())
    tx.execute(delete(subscriber).where(subscriber.c.host.in_(gone)))
    with suppress(IntegrityError), tx.begin_nested():  # another worker may have met the silence too
        tx.execute(insert(subscriber).values(host=host, **values))
