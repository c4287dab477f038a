"""What there is and what it cost, counted in SQL: jobs, attempts, charges, gates. Reads only."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from cutwork import gate, lanes, notices, pace
from cutwork.clock import now
from cutwork.events import Kind
from cutwork.schema import attempt, event, job
from cutwork.states import DONE, Attempt, State


@dataclass(frozen=True)
class Key:
    """One API key's gate: ``condition`` is a word of ``Gate.condition``."""

    key_id: str
    condition: str
    closed_until: datetime | None
    reason: str | None
    in_flight: int


@dataclass(frozen=True)
class Callbacks:
    """How well callbacks come; times in seconds from acceptance to callback.

    ``lost`` and ``waited`` come from the latest finished attempts, the counts from all there are.
    """

    share: float  # of the attempts sent with a callback URL and decided, by callback
    lost: float
    waited: dict[str, float]  # p50, p90, p99; empty until there are enough
    late: int
    duplicate: int
    forged: int


@dataclass(frozen=True)
class Stats:
    """Counts of one moment, ``at``; every state is named, also those that no job is in."""

    at: datetime
    jobs: dict[str, int]
    oldest: dict[str, datetime]  # creation of the oldest unfinished or held job, by state
    attempts: dict[str, int]
    second_charges: int  # beyond the first charge of each job
    decided: dict[str, int]  # finished jobs by who decided
    callbacks: Callbacks
    notices: dict[str, int]  # still to be told, of these tried in vain, and given up
    keys: tuple[Key, ...] = field(default=())

    @property
    def charges(self) -> int:
        """Attempts whose result the provider made."""
        return self.attempts[Attempt.SUCCEEDED]

    @property
    def uncertain(self) -> int:
        """Attempts that may have been charged."""
        return self.attempts[Attempt.UNCERTAIN]

    def share(self, who: str) -> float:
        """The part (0 to 1) of the finished jobs that ``callback``, ``poll`` … decided."""
        total = sum(self.decided.values())
        return self.decided.get(who, 0) / total if total else 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON-able values; times in ISO 8601."""
        values = asdict(self) | {
            "at": self.at.isoformat(),
            "oldest": {state: moment.isoformat() for state, moment in self.oldest.items()},
            "charges": self.charges,
            "uncertain": self.uncertain,
            "shares": {who: round(self.share(who), 4) for who in self.decided},
        }
        for key in values["keys"]:
            key["closed_until"] = key["closed_until"] and key["closed_until"].isoformat()
        values["keys"] = list(values["keys"])
        return values


def count_jobs(tx: Connection) -> dict[str, int]:
    """Jobs by state."""
    counted = tx.execute(select(job.c.state, func.count()).group_by(job.c.state))
    counts = {str(state): int(count) for state, count in counted}
    return {state.value: counts.get(state, 0) for state in State}


def collect(tx: Connection) -> Stats:
    """All counts. They are read one after the other, so under load they may differ by a few."""
    counted = tx.execute(select(attempt.c.state, func.count()).group_by(attempt.c.state))
    attempts = {str(state): int(count) for state, count in counted}
    return Stats(
        at=tx.execute(select(now())).scalar_one(),
        jobs=count_jobs(tx),
        oldest=_oldest(tx),
        attempts={state.value: attempts.get(state, 0) for state in Attempt},
        second_charges=_second_charges(tx),
        decided=_decided(tx),
        callbacks=_callbacks(tx),
        notices={**notices.count(tx), "given_up": _events(tx, Kind.UNTOLD)},
        keys=_keys(tx),
    )


def _oldest(tx: Connection) -> dict[str, datetime]:
    unfinished = [state.value for state in State if state not in DONE]
    query = select(job.c.state, func.min(job.c.created_at)).where(job.c.state.in_(unfinished))
    return {str(state): moment for state, moment in tx.execute(query.group_by(job.c.state))}


def _second_charges(tx: Connection) -> int:
    charges = func.count().label("charges")
    twice = (
        select(charges)
        .where(attempt.c.state == Attempt.SUCCEEDED)
        .group_by(attempt.c.job_id)
        .having(func.count() > 1)
        .subquery()
    )
    return int(tx.execute(select(func.coalesce(func.sum(twice.c.charges - 1), 0))).scalar_one())


def _decided(tx: Connection) -> dict[str, int]:
    done = [state.value for state in DONE]
    query = select(job.c.decided_by, func.count()).where(
        job.c.state.in_(done), job.c.decided_by.is_not(None)
    )
    return {str(who): int(count) for who, count in tx.execute(query.group_by(job.c.decided_by))}


def _keys(tx: Connection) -> tuple[Key, ...]:
    flying = lanes.in_flight(tx)
    return tuple(
        Key(one.key_id, one.condition, one.closed_until, one.reason, flying.get(one.key_id, 0))
        for one in gate.read(tx)
    )


def _callbacks(tx: Connection) -> Callbacks:
    over = (attempt.c.callback, attempt.c.decided_by.is_not(None))
    decided = select(attempt.c.decided_by, func.count()).where(*over)
    counts = {who: int(count) for who, count in tx.execute(decided.group_by(attempt.c.decided_by))}
    total = counts.get("callback", 0) + counts.get("poll", 0)
    more = select(func.coalesce(func.sum(attempt.c.callbacks - 1), 0))
    learned = pace.read(tx)
    return Callbacks(
        share=counts.get("callback", 0) / total if total else 0.0,
        lost=learned.lost if learned else 0.0,
        waited=learned.called if learned else {},
        late=_events(tx, Kind.LATE),
        duplicate=int(tx.execute(more.where(attempt.c.callbacks > 1)).scalar_one()),
        forged=_forged(tx),
    )


def _events(tx: Connection, kind: Kind) -> int:
    query = select(func.count()).select_from(event).where(event.c.kind == kind)
    return int(tx.execute(query).scalar_one())


def _forged(tx: Connection) -> int:
    """The webhook writes how many there were, at most every half minute."""
    told = tx.execute(select(event.c.detail).where(event.c.kind == Kind.FORGED)).scalars()
    return sum(int(count) for count in told)
