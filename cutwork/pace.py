"""How long the provider takes, learned from what it did; and so, when to ask it about a job.

Callbacks that come say when they come. A job that was found by asking says how long it took by the
provider's own clock, not when we happened to ask, so lost callbacks do not bias what is learned.
While callbacks come, the first question is asked when nearly all would have come. The more of them
are lost, the nearer it moves to the moment at which most jobs are done.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from cutwork.clock import after, now
from cutwork.policy import jitter
from cutwork.schema import attempt, pace
from cutwork.settings import Settings
from cutwork.states import Attempt

_SAMPLE, _LEAST = 500, 8
# Whether callbacks come now, the latest say.
_LATEST = 60
_AS_OLD_AS = 86_400.0
# A callback that has not come so long after its job was found done is lost.
_GIVEN_UP_AFTER = 5.0
# Nine in ten are done at the first question, unless that were much later than the middle one.
_BEYOND_MEDIAN = 1.25
# The provider counts whole seconds.
_ROUNDING = 0.25
_STEP = 0.35
_GROWTH = 1.5


@dataclass(frozen=True)
class Pace:
    """Seconds, all of them. ``called`` are from acceptance to callback, ``own`` what the provider
    says that it took; each has ``p50``, ``p90`` and ``p99``, or is empty when nothing is known."""

    at: datetime
    sample: int
    lost: float
    called: dict[str, float]
    own: dict[str, float]
    first_called: float
    first_polled: float
    step: float


def read(tx: Connection, kind: str = "segmentation") -> Pace | None:
    """What was learned last; None before anything was."""
    row = tx.execute(select(pace).where(pace.c.kind == kind)).one_or_none()
    if row is None:
        return None
    known = row.quantiles
    return Pace(
        row.at,
        row.sample,
        row.lost,
        known["called"],
        known["own"],
        row.first_called,
        row.first_polled,
        row.step,
    )


def first_check(settings: Settings, kind: str, *, callback: bool) -> ColumnElement[float]:
    """Seconds from acceptance to the first question, in SQL: it costs no round trip."""
    learned = pace.c.first_called if callback else pace.c.first_polled
    first = settings.check_after if callback else settings.poll_after
    return func.coalesce(
        select(learned).where(pace.c.kind == kind).scalar_subquery(), literal(first)
    )


def next_check(
    learned: Pace | None, settings: Settings, tries: int, age: float, *, callback: bool
) -> float:
    """Seconds to the next question about a task of this ``age``, after ``tries`` fruitless ones.

    It is when nine in ten of all tasks are done, or ninety-nine in a hundred; later, ever rarer.
    """
    step = learned.step if learned else settings.check_after if callback else settings.poll_after
    wait = step * _GROWTH ** min(tries, 20)
    if learned:
        marks = [learned.own[share] + _ROUNDING - age for share in ("p90", "p99")]
        wait = next((mark for mark in marks if mark >= step), wait)
    return jitter(min(settings.check_max_interval, wait))


def learn(tx: Connection, settings: Settings, kind: str = "segmentation") -> Pace | None:
    """Look at the latest finished attempts, and keep what they say; None while they are few."""
    rows = _latest(tx)
    if len(rows) < _LEAST:
        return None
    learned = _learned(rows, _still_waiting(tx), settings)
    values = {
        "at": now(),
        "sample": learned.sample,
        "lost": learned.lost,
        "quantiles": {"called": learned.called, "own": learned.own},
        "first_called": learned.first_called,
        "first_polled": learned.first_polled,
        "step": learned.step,
    }
    if not tx.execute(update(pace).where(pace.c.kind == kind).values(**values)).rowcount:
        with suppress(IntegrityError), tx.begin_nested():  # another reconciler learned it just now
            tx.execute(insert(pace).values(kind=kind, **values))
    return learned


def _latest(tx: Connection) -> Sequence[Row[Any]]:
    over = (attempt.c.state.in_([Attempt.SUCCEEDED, Attempt.FAILED]),)
    told = (attempt.c.accepted_at.is_not(None), attempt.c.finished_at.is_not(None))
    columns = select(
        attempt.c.callback,
        attempt.c.decided_by,
        attempt.c.callbacks,
        attempt.c.seconds,
        attempt.c.accepted_at,
        attempt.c.finished_at,
        now().label("at"),
    ).where(*over, *told, attempt.c.intended_at > after(-_AS_OLD_AS))
    return tx.execute(columns.order_by(attempt.c.intended_at.desc()).limit(_SAMPLE)).all()


def _still_waiting(tx: Connection) -> list[float]:
    """For how long those wait that nobody has called back about."""
    open_ = (attempt.c.state == Attempt.ACCEPTED, attempt.c.callback)
    recent = (attempt.c.intended_at > after(-_AS_OLD_AS), attempt.c.accepted_at.is_not(None))
    query = select(attempt.c.accepted_at, now().label("at")).where(*open_, *recent)
    rows = tx.execute(query.order_by(attempt.c.intended_at.desc()).limit(_SAMPLE))
    return [(row.at - row.accepted_at).total_seconds() for row in rows]


def _learned(rows: Sequence[Row[Any]], waiting: Sequence[float], settings: Settings) -> Pace:
    came = [_waited(row) for row in rows if row.decided_by == "callback"]
    called = _quantiles(came)
    # At first only the quick ones are over: whoever waits for longer than those belongs to it too.
    slow = [seconds for seconds in waiting if called and seconds > called["p50"]]
    own = _quantiles(
        [row.seconds for row in rows if row.seconds is not None]
        or [_waited(row) for row in rows if row.decided_by == "callback"]
        or [_waited(row) for row in rows]
    )
    lost = _lost(rows, max(_GIVEN_UP_AFTER, 2 * called.get("p99", 0.0)))

    def bounded(seconds: float) -> float:
        return min(max(seconds, settings.check_earliest), settings.check_latest)

    tight = bounded(min(own["p90"], own["p50"] * _BEYOND_MEDIAN) + _ROUNDING)
    # The fewer are known, the less their slowest says about the slowest of all.
    margin = 1.5 + 4 / sqrt(len(rows))
    easy = bounded(_quantiles(came + slow)["p99"] * margin + 1.0) if called else tight
    share = min(1.0, 2 * lost)
    return Pace(
        at=rows[0].at,
        sample=len(rows),
        lost=round(lost, 4),
        called=called,
        own=own,
        first_called=round(easy + (tight - easy) * share, 3),
        first_polled=round(tight, 3),
        step=round(max(settings.check_earliest, own["p50"] * _STEP), 3),
    )


def _waited(row: Row[Any]) -> float:
    waited: timedelta = row.finished_at - row.accepted_at
    return max(0.0, waited.total_seconds())


def _lost(rows: Sequence[Row[Any]], patience: float) -> float:
    """The share (0 to 1) of the callbacks that never came, of those about which it is known."""
    came = lost = 0
    for row in rows[:_LATEST]:
        if not row.callback:
            continue
        if row.callbacks or row.decided_by == "callback":
            came += 1
        elif row.decided_by == "poll":
            lost += (row.at - row.finished_at).total_seconds() > patience
    return lost / (came + lost) if came + lost else 0.0


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    ranked = sorted(values)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    last = len(ranked) - 1
    return {name: round(ranked[round(share * last)], 3) for name, share in shares.items()}
