"""The log of what was unusual: uncertain, late, twice, held, by an operator, a gate that closed.

An ordinary job leaves no row here; its own row and its attempts say what happened.
"""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, insert

from cutwork.clock import now
from cutwork.schema import event


class Kind(StrEnum):
    """What can stand in ``cutwork_event.kind``; the words are stable, scripts may rely on them."""

    UNCERTAIN = "uncertain"  # a submit may or may not have been accepted
    RESUBMITTED = "resubmitted"  # the policy lets it be paid for again
    SECOND_CHARGE = "second_charge"  # two attempts of one job succeeded
    LATE = "late"  # a result for a job that was already over
    DUPLICATE = "duplicate"  # the first repeated callback of an attempt
    WRONG_TASK = "wrong_task"  # a report named another task than the one we know
    LINK_DEAD = "link_dead"  # a result link did not work; a fresh one is asked for
    PROVIDER_FAILED = "provider_failed"  # the provider failed, and the job is tried again
    HELD = "held"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    LEASE_LOST = "lease_lost"  # the worker that had a check or a download in hand never came back
    GUARDED = "guarded"  # no second try is paid for: too many submits were uncertain
    UNTOLD = "untold"  # a notice was given up: whom to tell did not take it
    BUDGET = "budget"  # the day's budget is used up
    THROTTLED = "throttled"  # a gate closed for a while
    REFUSED = "refused"  # the breaker opened: the key is bad or out of credit
    TRIPPED = "tripped"  # the breaker opened: too many requests failed
    CLOSED = "closed"  # the breaker closed: a probe was answered
    FORGED = "forged"  # so many callbacks, in digits, came with a token that is not ours
    PAUSED = "paused"
    RESUMED = "resumed"


def record(
    tx: Connection,
    kind: Kind,
    detail: str = "",
    *,
    job_id: UUID | None = None,
    attempt: int | None = None,
    key_id: str | None = None,
) -> None:
    """Write one line, in the transaction of the change that it speaks of."""
    tx.execute(
        insert(event).values(
            at=now(), kind=kind, detail=detail[:500], job_id=job_id, attempt=attempt, key_id=key_id
        )
    )


def record_forgeries(tx: Connection, count: int) -> None:
    """Write one line for ``count`` callbacks that nobody of ours can have sent."""
    record(tx, Kind.FORGED, str(count))
