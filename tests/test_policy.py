"""What is decided when there is a choice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutwork import policy
from cutwork.states import Event


def about(seconds: float) -> object:
    """A tenth more or less, to the last bit."""
    return pytest.approx(seconds, rel=0.1 + 1e-9)


@pytest.mark.parametrize(
    ("tries", "seconds"),
    [(0, 1), (1, 2), (5, 32), (8, 256), (9, 300), (10, 300), (20, 300), (32_767, 300)],
)
def test_a_step_that_failed_is_tried_later_each_time(tries: int, seconds: float) -> None:
    assert policy.back_off(tries) == about(seconds)


@given(st.floats(min_value=0, max_value=1e6))
def test_jitter_is_a_tenth_at_most(seconds: float) -> None:
    assert policy.jitter(seconds) == about(seconds)


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    assert len({policy.back_off(3) for _ in range(100)}) > 90


@pytest.mark.parametrize(
    ("chosen", "paid", "allowed", "event"),
    [
        ("resubmit", 1, 2, Event.RESUBMIT),
        ("resubmit", 2, 2, Event.HOLD),
        ("resubmit", 3, 2, Event.HOLD),
        ("resubmit", 1, 1, Event.HOLD),
        ("hold", 1, 2, Event.HOLD),
        ("fail", 1, 2, Event.GIVE_UP),
        ("fail", 9, 2, Event.GIVE_UP),
    ],
)
def test_an_uncertain_submit_gets_what_the_policy_says(
    chosen: str, paid: int, allowed: int, event: Event
) -> None:
    assert policy.after_uncertain(chosen, paid, allowed) is event


@pytest.mark.parametrize(
    ("state", "before", "paid", "allowed", "event", "seconds"),
    [
        (-7, 0, 1, 2, Event.FAILED_FINAL, 0.0),  # never worth it
        (-12, 0, 1, 9, Event.FAILED_FINAL, 0.0),  # unknown
        (-1, 0, 1, 2, Event.FAILED_RETRY, 2.0),  # bounded
        (-1, 5, 3, 9, Event.FAILED_RETRY, 8.0),
        (-1, 0, 2, 2, Event.FAILED_FINAL, 0.0),
        (-3, 0, 1, 2, Event.FAILED_RETRY, 2.0),  # once
        (-3, 1, 2, 9, Event.FAILED_FINAL, 0.0),
        (-3, 0, 2, 2, Event.FAILED_FINAL, 0.0),
        (-15, 0, 1, 2, Event.FAILED_RETRY, 60.0),  # no capacity: after a wait
        (-15, 4, 5, 9, Event.FAILED_RETRY, 60.0),
        (-15, 0, 2, 2, Event.FAILED_FINAL, 0.0),
    ],
)
def test_a_failure_is_paid_for_again_only_if_that_may_help(
    state: int, before: int, paid: int, allowed: int, event: Event, seconds: float
) -> None:
    decided, delay = policy.after_failure(state, before, paid, allowed)

    assert decided is event
    assert delay == about(seconds)
