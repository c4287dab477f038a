"""What a person decides about jobs and keys: verbs of the ledger and the gate, a page at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Engine

from cutwork import database, gate, ledger
from cutwork.errors import InputPurged, InvalidInput, JobNotFound, WrongState
from cutwork.settings import Settings
from cutwork.states import State

PAGE = 100


@dataclass(frozen=True)
class Outcome:
    """What a verb did, or would do, to a page of jobs.

    ``passed`` had gone on meanwhile, or cannot be sent again for want of their picture.
    """

    paid: int = 0
    free: int = 0
    cancelled: int = 0
    passed: int = 0

    @property
    def done(self) -> int:
        return self.paid + self.free + self.cancelled


class PaysMore(Exception):
    """More jobs would be paid for than was agreed to; nothing was changed."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(f"{outcome.paid} jobs would be paid for again")


def retry(engine: Engine, job_ids: Sequence[UUID], agreed: int, settings: Settings) -> Outcome:
    """Send them again, in one transaction, if no more than ``agreed`` of them are paid for.

    Raises:
        PaysMore: that many more would be; nothing was changed.
    """

    def verb(tx: Connection) -> Outcome:
        outcome = _retry(tx, job_ids, settings)
        if outcome.paid > agreed:
            raise PaysMore(outcome)
        return outcome

    return database.transact(engine, verb)


def foresee(engine: Engine, job_ids: Sequence[UUID], settings: Settings) -> Outcome:
    """What ``retry`` would do now: it does it, and takes it back."""

    def verb(tx: Connection) -> Outcome:
        undo = tx.begin_nested()
        try:
            return _retry(tx, job_ids, settings)
        finally:
            undo.rollback()

    return database.transact(engine, verb)


def cancel(engine: Engine, job_ids: Sequence[UUID]) -> Outcome:
    """Stop them, in one transaction; those that are finished are passed over."""

    def verb(tx: Connection) -> Outcome:
        passed = 0
        for job_id in _in_order(job_ids):
            try:
                ledger.cancel(tx, job_id)
            except (JobNotFound, WrongState):
                passed += 1
        return Outcome(cancelled=len(set(job_ids)) - passed, passed=passed)

    return database.transact(engine, verb)


def pause(engine: Engine, key_id: str | None, settings: Settings) -> int:
    """Let nothing go with this key, or with any; returns how many keys that changed."""
    return _each(engine, key_id, settings, gate.pause)


def resume(engine: Engine, key_id: str | None, settings: Settings) -> int:
    """Let jobs go again, whatever stopped them."""
    return _each(engine, key_id, settings, gate.resume)


def _retry(tx: Connection, job_ids: Sequence[UUID], settings: Settings) -> Outcome:
    paid = free = passed = 0
    for job_id in _in_order(job_ids):
        try:
            target = ledger.retry(tx, job_id, settings)
        except (InputPurged, JobNotFound, WrongState):
            passed += 1
        else:
            paid, free = paid + (target is State.QUEUED), free + (target is not State.QUEUED)
    return Outcome(paid=paid, free=free, passed=passed)


def _in_order(job_ids: Sequence[UUID]) -> list[UUID]:
    """Each once, and in one order, so that two people do not wait for each other."""
    return sorted(set(job_ids))


def _each(
    engine: Engine, key_id: str | None, settings: Settings, verb: Callable[[Connection, str], bool]
) -> int:
    def act(tx: Connection) -> int:
        gate.ensure(tx, settings.keys)
        known = [one.key_id for one in gate.read(tx)]
        if key_id is not None and key_id not in known:
            raise InvalidInput(
                "key", "(hidden)", f"must be one of {', '.join(known) or 'none yet'}"
            )
        return sum(verb(tx, one) for one in known if key_id in (None, one))

    return database.transact(engine, act)
