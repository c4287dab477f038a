"""The states of a job, the events that move it, and every arrow between them as data.

The table is the whole state machine: a pair that is not in it is a counted no-op. The ledger asks
it before each UPDATE, so that a rule changed here is changed everywhere.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a job stands; DONE, RESTING, ALARMED and AT_PROVIDER below group them."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    UNCERTAIN = "uncertain"
    WAITING = "waiting"
    STORING = "storing"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What happens to a job, in words that say who learned what."""

    CLAIMED = "claimed"  # a worker wrote its intent and may now send
    NOT_SENT = "not_sent"  # provably nothing reached the provider, or it refused to take it now
    REJECTED = "rejected"  # the provider will never take this request
    LOST = "lost"  # sent or not, nobody knows: no reply, or the worker died
    ACCEPTED = "accepted"  # the provider has the task (its reply, or any authentic callback)
    DONE = "done"  # the provider made the result
    FAILED_RETRY = "failed_retry"  # the provider failed in a way that is worth another paid try
    FAILED_FINAL = "failed_final"  # the provider failed, and another try would fail too
    RESUBMIT = "resubmit"  # the policy lets an uncertain job be paid for again
    HOLD = "hold"  # a person must decide
    GIVE_UP = "give_up"  # the policy ends the job
    LATE_NEWS = "late_news"  # an ended job is said to have a result: ask the provider
    STORED = "stored"  # the result is in our own storage
    LINK_DEAD = "link_dead"  # the link to the result does not work: ask for a fresh one
    CANCEL = "cancel"  # the app or an operator
    RETRY = "retry"  # an operator sends it again
    RETRY_STORE = "retry_store"  # an operator fetches a result that was already paid for


# Finished, or waiting for a person: no alarm.
DONE = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
RESTING = DONE | {State.HELD}
ALARMED = frozenset(State) - RESTING

# The provider has the task, or may have it.
AT_PROVIDER = frozenset({State.SUBMITTING, State.UNCERTAIN, State.WAITING})

_Q, _SUB, _U, _W, _ST = (
    State.QUEUED, State.SUBMITTING, State.UNCERTAIN, State.WAITING, State.STORING,
)  # fmt: skip
_H, _OK, _F, _C = State.HELD, State.SUCCEEDED, State.FAILED, State.CANCELLED

TRANSITIONS: dict[tuple[State, Event], State] = {
    (_Q, Event.CLAIMED): _SUB,
    (_SUB, Event.NOT_SENT): _Q,
    (_U, Event.NOT_SENT): _Q,           # the lease ran out, then the slow worker proved it
    (_SUB, Event.REJECTED): _F,
    (_U, Event.REJECTED): _F,
    (_SUB, Event.LOST): _U,
    (_SUB, Event.ACCEPTED): _W,
    (_U, Event.ACCEPTED): _W,
    (_Q, Event.ACCEPTED): _W,           # proof of the last attempt, before the next is paid for
    (_SUB, Event.DONE): _ST,            # the callback overtook the reply
    (_U, Event.DONE): _ST,
    (_W, Event.DONE): _ST,
    (_Q, Event.DONE): _ST,              # an older attempt's result, before the next is paid for
    (_H, Event.DONE): _ST,              # a late success: the paid result is kept
    (_F, Event.DONE): _ST,
    (_SUB, Event.FAILED_RETRY): _Q,
    (_U, Event.FAILED_RETRY): _Q,
    (_W, Event.FAILED_RETRY): _Q,
    (_SUB, Event.FAILED_FINAL): _F,
    (_U, Event.FAILED_FINAL): _F,
    (_W, Event.FAILED_FINAL): _F,
    (_U, Event.RESUBMIT): _Q,
    (_Q, Event.HOLD): _H,
    (_U, Event.HOLD): _H,
    (_W, Event.HOLD): _H,
    (_ST, Event.HOLD): _H,
    (_U, Event.GIVE_UP): _F,
    (_ST, Event.STORED): _OK,
    (_ST, Event.LINK_DEAD): _W,
    (_H, Event.LATE_NEWS): _W,
    (_F, Event.LATE_NEWS): _W,
    **{(state, Event.CANCEL): _C for state in (_Q, _SUB, _U, _W, _ST, _H)},
    **{(state, Event.RETRY): _Q for state in (_H, _F, _C)},
    **{(state, Event.RETRY_STORE): _ST for state in (_H, _F, _C)},
}  # fmt: skip


def after(state: State, event: Event) -> State | None:
    """The state that the event leads to, or None where it changes nothing."""
    return TRANSITIONS.get((state, event))


def before(event: Event) -> frozenset[State]:
    """The states that the event can move."""
    return frozenset(state for state, moved_by in TRANSITIONS if moved_by is event)


class Attempt(StrEnum):
    """What is known of one submit. A later word may only raise the rank (see ``knows_more``)."""

    SENDING = "sending"  # the intent is written; a request may be on the wire
    VOID = "void"  # provably no task was made: costs nothing
    UNCERTAIN = "uncertain"  # a task may exist, and may be charged
    ACCEPTED = "accepted"  # a task exists
    FAILED = "failed"  # the provider failed: not charged
    SUCCEEDED = "succeeded"  # the provider made the result: charged


_RANK = {
    Attempt.SENDING: 0,
    Attempt.UNCERTAIN: 1,
    Attempt.VOID: 2,
    Attempt.ACCEPTED: 3,
    Attempt.FAILED: 4,
    Attempt.SUCCEEDED: 5,
}

# Attempts that were, or may have been, charged or worked on: they count against max_paid_attempts.
PAID = frozenset(Attempt) - {Attempt.VOID}


def knows_more(new: Attempt, old: Attempt) -> bool:
    """Whether ``new`` is later knowledge than ``old``, in whatever order the two arrived."""
    return _RANK[new] > _RANK[old]
