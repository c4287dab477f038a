"""What must never break, looked at after every commit: the rows against those of the moment before.

Each observed step of a job has to be an arrow of ``states.TRANSITIONS``, which is how a change by a
loser, a fallen fence or a revived job shows itself.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from cutwork import gate
from cutwork.settings import Settings
from cutwork.states import PAID, RESTING, TRANSITIONS, Attempt, State

_JOBS = (
    "SELECT id, state, fence, attempt, lease, due_at, key_id, result_attempt, error_code"
    " FROM cutwork_job"
)
_ATTEMPTS = (
    "SELECT job_id, number, state, task_id, callbacks FROM cutwork_attempt ORDER BY job_id, number"
)
_ARROWS = frozenset((before, after) for (before, _), after in TRANSITIONS.items())
_AT_PROVIDER = frozenset({"submitting", "uncertain", "waiting"})


class Job(NamedTuple):
    id: str
    state: str
    fence: int
    attempt: int
    lease: str | None
    due_at: Any
    key_id: str | None
    result_attempt: int | None
    error_code: str | None

    @property
    def outcome(self) -> tuple[object, ...]:
        """What its owner sees."""
        return self.state, self.attempt, self.result_attempt, self.error_code


class Try(NamedTuple):
    job_id: str
    number: int
    state: str
    task_id: str | None
    callbacks: int


class Violation(AssertionError):
    """An invariant broke; the text begins with its number."""


@dataclass
class Invariants:
    """``look(by)`` reads the rows on a connection of its own and compares."""

    eye: Connection
    charges: Callable[[str], int]
    settings: Settings
    allowed: dict[str, int] = field(default_factory=dict)
    retried: set[str] = field(default_factory=set)
    jobs: dict[str, Job] = field(default_factory=dict)
    tries: dict[str, list[Try]] = field(default_factory=dict)
    moves: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _returned: set[str] = field(default_factory=set)
    _free_at: dict[str, datetime] = field(default_factory=dict)

    def look(self, by: str, now: datetime) -> None:
        """Read everything; ``by`` is who has just committed."""
        before, self.jobs = self.jobs, {row.id: row for row in self._read(_JOBS, Job)}
        changed = [job for job in self.jobs.values() if before.get(job.id) != job]
        if changed:
            self._read_tries()
        for job in changed:
            if old := before.get(job.id):
                self._step(old, job, by)
                self._check_rate(old, job, by, now)
            self._check_job(job, self.tries.get(job.id, []))
        self._check_flight()

    def check_money(self) -> None:
        """S3 over everything: who was charged, how often, and which attempt says so."""
        self._read_tries()
        for job_id in self.jobs:
            self._check_charges(job_id, self.tries.get(job_id, []))

    def check_intent(self, job_id: str, number: int) -> None:
        """S2, when a POST arrives."""
        known = any(one.number == number for one in self.tries.get(job_id, []))
        _expect(known, "S2", f"a POST for attempt {number} of {job_id} without its intent")

    def next_alarm(self, now: datetime) -> float:
        """Seconds until the next job is due, as far as was seen."""
        alarms = [_moment(job.due_at) for job in self.jobs.values() if job.due_at is not None]
        return (min(alarms) - now).total_seconds() if alarms else 60.0

    def task_ids(self) -> list[str]:
        """The tasks that attempts are known by."""
        every = (one.task_id for own in self.tries.values() for one in own)
        return sorted({task_id for task_id in every if task_id is not None})

    @property
    def at_rest(self) -> bool:
        return all(job.state in RESTING for job in self.jobs.values())

    def _read_tries(self) -> None:
        self.tries = {}
        for one in self._read(_ATTEMPTS, Try):
            self.tries.setdefault(one.job_id, []).append(one)

    def _read(self, query: str, shape: type[Any]) -> list[Any]:
        """Past SQLAlchemy, since it is done after every commit."""
        cursor = self.eye.connection.cursor()
        cursor.execute(query)
        rows = [shape(str(row[0]).replace("-", ""), *row[1:]) for row in cursor.fetchall()]
        cursor.close()
        return rows

    def _step(self, old: Job, new: Job, by: str) -> None:
        _expect(new.fence >= old.fence, "S9", f"the fence of {new.id} fell")
        if old.state == new.state:
            _expect(
                State(old.state) not in RESTING or old.fence == new.fence,
                "S1",
                f"{new.id} was claimed at rest",
            )
            return
        arrow = (State(old.state), State(new.state))
        _expect(arrow in _ARROWS, "S1", f"{new.id} went from {old.state} to {new.state} by {by}")
        if old.state == "cancelled" or (old.state in ("held", "failed") and new.state == "queued"):
            _expect(new.id in self.retried, "S1", f"{new.id} was {old.state} and went on by {by}")
        self.retried.discard(new.id)
        self.moves[old.state, new.state, by.partition("-")[0]] += 1
        if new.state == "submitting":
            _expect(
                new.attempt == old.attempt + 1, "S4", f"{new.id} was claimed without an attempt"
            )
        if new.state == "waiting" and old.state not in _AT_PROVIDER:
            self._returned.add(new.id)
        if new.state not in _AT_PROVIDER:
            self._returned.discard(new.id)

    def _check_job(self, job: Job, own: list[Try]) -> None:
        resting = State(job.state) in RESTING
        _expect((job.due_at is None) == resting, "L1", f"{job.id} is {job.state}: an alarm?")
        if job.state in ("held", "failed"):
            _expect(bool(job.error_code), "L1", f"{job.id} is {job.state} without a reason")
        numbers = [one.number for one in own]
        _expect(numbers == list(range(1, job.attempt + 1)), "S4", f"{job.id} has tries {numbers}")
        self._check_charges(job.id, own)

    def _check_charges(self, job_id: str, own: list[Try]) -> None:
        charges = self.charges(job_id)
        allowed = self.allowed.get(job_id, 1)
        _expect(charges <= allowed, "S3", f"{job_id} was charged {charges} times of {allowed}")
        paid = sum(Attempt(one.state) in PAID for one in own)
        _expect(charges <= paid, "S3", f"{charges} charges of {job_id}, {paid} paid attempts")

    def _check_flight(self) -> None:
        flying = sum(
            job.state in _AT_PROVIDER or (job.state == "queued" and job.lease == "message")
            for job in self.jobs.values()
        )
        # A callback may prove that a job which had come back is with the provider after all.
        most = self.settings.max_in_flight * len(self.settings.keys) + len(self._returned)
        _expect(flying <= most, "S10", f"{flying} in flight, {most} may be")

    def _check_rate(self, old: Job, new: Job, by: str, now: datetime) -> None:
        """S10: each release of a submit or a check takes a permit, in GCRA's measure."""
        released = new.lease == "message" and new.due_at != old.due_at
        if not released or new.state not in ("queued", "waiting") or new.key_id is None:
            return
        rate = self.settings.rate
        free_at = max(self._free_at.get(new.key_id, now), now) + timedelta(seconds=1 / rate)
        self._free_at[new.key_id] = free_at
        ahead = (free_at - now).total_seconds() * rate
        _expect(ahead <= gate.burst(rate) + 1e-3, "S10", f"{ahead:.2f} permits at once by {by}")


def _moment(value: Any) -> datetime:
    """SQLite gives texts."""
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value


def _expect(holds: bool, number: str, what: str) -> None:
    if not holds:
        raise Violation(f"{number}: {what}")


def explained(moves: Mapping[tuple[str, str, str], int], *wanted: tuple[str, str, str]) -> int:
    """How many of the observed steps are of these kinds; an empty text stands for any."""
    return sum(
        count
        for step, count in moves.items()
        for pattern in wanted
        if all(want in ("", part) for want, part in zip(pattern, step, strict=True))
    )
