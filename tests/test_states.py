"""T0: the transition table as data, every pair of it."""

from itertools import product

import pytest

from cutwork.states import (
    ALARMED,
    AT_PROVIDER,
    DONE,
    PAID,
    RESTING,
    TRANSITIONS,
    Attempt,
    Event,
    State,
    after,
    before,
    knows_more,
)

# One row for each state, one column for each event; a dot changes nothing.
MATRIX = """
             queued     submitting uncertain  waiting    storing    held       succeeded failed    cancelled
claimed      submitting .          .          .          .          .          .         .         .
not_sent     .          queued     queued     .          .          .          .         .         .
rejected     .          failed     failed     .          .          .          .         .         .
lost         .          uncertain  .          .          .          .          .         .         .
accepted     waiting    waiting    waiting    .          .          .          .         .         .
done         storing    storing    storing    storing    .          storing    .         storing   .
failed_retry .          queued     queued     queued     .          .          .         .         .
failed_final .          failed     failed     failed     .          .          .         .         .
resubmit     .          .          queued     .          .          .          .         .         .
hold         held       .          held       held       held       .          .         .         .
give_up      .          .          failed     .          .          .          .         .         .
stored       .          .          .          .          succeeded  .          .         .         .
link_dead    .          .          .          .          waiting    .          .         .         .
late_news    .          .          .          .          .          waiting    .         waiting   .
cancel       cancelled  cancelled  cancelled  cancelled  cancelled  cancelled  .         .         .
retry        .          .          .          .          .          queued     .         queued    queued
retry_store  .          .          .          .          .          storing    .         storing   storing
"""  # noqa: E501 - a table is read across


def expected() -> dict[tuple[State, Event], State | None]:
    head, *lines = MATRIX.strip().splitlines()
    states = [State(name) for name in head.split()]
    rows = {Event(line.split()[0]): line.split()[1:] for line in lines}
    return {
        (state, event): None if word == "." else State(word)
        for event, words in rows.items()
        for state, word in zip(states, words, strict=True)
    }


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_each_pair_leads_where_the_matrix_says(state: State, event: Event) -> None:
    assert after(state, event) == expected()[state, event]


def test_succeeded_absorbs_everything() -> None:
    assert not [event for event in Event if after(State.SUCCEEDED, event)]


def test_only_an_operator_moves_a_cancelled_job() -> None:
    moved = {event for event in Event if after(State.CANCELLED, event)}
    assert moved == {Event.RETRY, Event.RETRY_STORE}


@pytest.mark.parametrize("state", [State.FAILED, State.HELD])
def test_an_ended_job_yields_only_to_a_late_success_or_an_operator(state: State) -> None:
    moved = {event for event in Event if after(state, event)} - {Event.CANCEL}
    assert moved == {Event.DONE, Event.LATE_NEWS, Event.RETRY, Event.RETRY_STORE}


def test_only_a_claim_leads_to_submitting() -> None:
    assert {pair for pair, state in TRANSITIONS.items() if state is State.SUBMITTING} == {
        (State.QUEUED, Event.CLAIMED)
    }


def test_only_a_stored_result_succeeds() -> None:
    assert {pair for pair, state in TRANSITIONS.items() if state is State.SUCCEEDED} == {
        (State.STORING, Event.STORED)
    }


def test_every_unfinished_state_can_reach_success() -> None:
    reached = {State.SUCCEEDED}
    for _ in State:
        reached |= {state for (state, _), target in TRANSITIONS.items() if target in reached}
    assert reached >= ALARMED | {State.HELD, State.FAILED, State.CANCELLED}


def test_before_is_the_inverse_of_after() -> None:
    for event in Event:
        assert before(event) == {state for state in State if after(state, event)}


def test_the_groups_of_states_are_what_their_names_say() -> None:
    assert {State.SUCCEEDED, State.FAILED, State.CANCELLED} == DONE
    assert {*DONE, State.HELD} == RESTING
    assert set(State) - RESTING == ALARMED
    assert {State.SUBMITTING, State.UNCERTAIN, State.WAITING} == AT_PROVIDER


def test_what_is_known_of_an_attempt_only_rises() -> None:
    order = [
        Attempt.SENDING,
        Attempt.UNCERTAIN,
        Attempt.VOID,
        Attempt.ACCEPTED,
        Attempt.FAILED,
        Attempt.SUCCEEDED,
    ]
    assert set(order) == set(Attempt)
    for low, high in product(range(len(order)), repeat=2):
        assert knows_more(order[high], order[low]) == (high > low)


def test_every_attempt_counts_as_paid_unless_provably_no_task_was_made() -> None:
    assert set(Attempt) - {Attempt.VOID} == PAID
