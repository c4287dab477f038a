"""What to do when there is a choice: pure functions from what is known to an event and a delay."""

import random

from cutwork.report import Retry, failure
from cutwork.states import Event

_LONGEST_BACK_OFF = 300.0
_NO_CAPACITY_WAIT = 60.0


def back_off(tries: int) -> float:
    """Seconds before the next try of a step that failed ``tries`` times before: 1, 2, 4 … 300."""
    return jitter(min(_LONGEST_BACK_OFF, 2.0 ** min(tries, 20)))


def jitter(seconds: float) -> float:
    """A tenth more or less, so that jobs that failed together do not come back together."""
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - not a secret


def after_uncertain(policy: str, paid: int, allowed: int) -> Event:
    """What an uncertain submit becomes when nothing proved it within the grace.

    ``paid`` counts the attempts that were or may have been charged, this one included. An exhausted
    ``resubmit`` is held, not failed: there may be a result that was paid for.
    """
    match policy:
        case "resubmit" if paid < allowed:
            return Event.RESUBMIT
        case "fail":
            return Event.GIVE_UP
    return Event.HOLD


def after_failure(state: int, before: int, paid: int, allowed: int) -> tuple[Event, float]:
    """What a failure that the provider reported leads to, and when to try again.

    ``before`` counts earlier attempts of the job that failed with the same ``state``.
    """
    retry = failure(state).retry
    spent = paid >= allowed or (retry is Retry.ONCE and before > 0)
    if retry is Retry.NEVER or spent:
        return Event.FAILED_FINAL, 0.0
    wait = jitter(_NO_CAPACITY_WAIT) if retry is Retry.LATER else back_off(paid)
    return Event.FAILED_RETRY, wait
