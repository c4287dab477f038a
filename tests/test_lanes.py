"""How busy it is: what counts as released, as worked on, as left lying, as with the provider."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from cutwork import lanes
from cutwork.lanes import MESSAGE, WORKER, Lane
from cutwork.states import ALARMED, State
from tests.conftest import DATABASES
from tests.services.registry import Services
from tests.tables import add_job, tables_at, wipe

ONE, TWO = "11111111", "22222222"
counts = st.integers(0, 50)


@pytest.fixture(scope="module", params=DATABASES)
def tables(request: pytest.FixtureRequest, services: Services) -> Iterator[Engine]:
    with tables_at(services.empty(request.param)) as engine:
        yield engine


@pytest.fixture
def tx(tables: Engine) -> Iterator[Connection]:
    wipe(tables)
    with tables.begin() as connection:
        yield connection


@pytest.mark.parametrize(
    ("lane", "room"),
    [
        (Lane(), 16),
        (Lane(messages=10), 6),
        (Lane(workers=10), 6),
        (Lane(messages=5, workers=5), 6),
        (Lane(messages=16), 0),
        (Lane(messages=10, workers=10), 0),
        (Lane(lapsed=1), 1),
        (Lane(lapsed=300), 1),
        (Lane(workers=16, lapsed=1), 1),
        (Lane(messages=1, lapsed=1), 0),
        (Lane(messages=1, workers=3, lapsed=1), 0),
    ],
)
def test_a_lane_has_room_up_to_its_cap_and_for_one_while_messages_lapse(
    lane: Lane, room: int
) -> None:
    assert lane.room(16) == room


@given(counts, counts, counts, st.integers(1, 50))
def test_what_is_released_never_exceeds_the_cap_by_more_than_the_one_that_tries(
    messages: int, workers: int, lapsed: int, cap: int
) -> None:
    room = Lane(messages, workers, lapsed).room(cap)

    assert 0 <= room <= cap
    assert room <= 1 or messages + workers + room <= cap
    assert not (lapsed and messages and room)


def test_nothing_is_busy_in_empty_tables(tx: Connection) -> None:
    assert lanes.due(tx) == dict.fromkeys((*sorted(ALARMED), lanes.NOTICES), False)
    assert lanes.busy(tx) == dict.fromkeys((State.QUEUED, State.WAITING, State.STORING), Lane())
    assert lanes.in_flight(tx) == {}


@pytest.mark.parametrize("state", sorted(ALARMED))
def test_an_alarm_rings_when_its_time_has_come(tx: Connection, state: State) -> None:
    for other in ALARMED:
        add_job(tx, other, due=60)
    assert not any(lanes.due(tx).values())

    add_job(tx, state, due=-0.002)

    assert [found for found, rings in lanes.due(tx).items() if rings] == [state]


def test_a_job_without_an_alarm_never_rings(tx: Connection) -> None:
    for state in State:
        add_job(tx, state)

    assert not any(lanes.due(tx).values())


def test_each_lane_counts_its_own(tx: Connection) -> None:
    for state, lease, due, count in [
        (State.QUEUED, MESSAGE, 10, 3),
        (State.SUBMITTING, WORKER, 10, 4),
        (State.QUEUED, MESSAGE, -1, 2),
        (State.WAITING, MESSAGE, 10, 1),
        (State.WAITING, WORKER, 10, 2),
        (State.STORING, WORKER, 10, 1),
        (State.STORING, MESSAGE, -1, 3),
    ]:
        for _ in range(count):
            add_job(tx, state, lease=lease, due=due)

    assert lanes.busy(tx) == {
        State.QUEUED: Lane(messages=3, workers=4, lapsed=2),
        State.WAITING: Lane(messages=1, workers=2, lapsed=0),
        State.STORING: Lane(messages=0, workers=1, lapsed=3),
    }


def test_a_worker_whose_lease_ran_out_is_not_busy(tx: Connection) -> None:
    for state in (State.SUBMITTING, State.WAITING, State.STORING):
        add_job(tx, state, lease=WORKER, due=-1)

    assert set(lanes.busy(tx).values()) == {Lane()}


def test_jobs_that_nobody_has_in_hand_are_in_no_lane(tx: Connection) -> None:
    for state in ALARMED:
        add_job(tx, state, due=10)
        add_job(tx, state, due=-10)
    for state in set(State) - ALARMED:
        add_job(tx, state)
        add_job(tx, state, lease=MESSAGE)

    assert set(lanes.busy(tx).values()) == {Lane()}


def test_what_the_provider_has_or_is_about_to_get_is_in_flight(tx: Connection) -> None:
    for key, state, lease, due in [
        (ONE, State.SUBMITTING, WORKER, 10),
        (ONE, State.UNCERTAIN, None, -10),
        (ONE, State.WAITING, None, 10),
        (ONE, State.WAITING, MESSAGE, 10),
        (ONE, State.QUEUED, MESSAGE, 10),
        (TWO, State.QUEUED, MESSAGE, 10),
    ]:
        add_job(tx, state, key_id=key, lease=lease, due=due)

    assert lanes.in_flight(tx) == {ONE: 5, TWO: 1}


def test_what_is_over_or_not_released_is_not_in_flight(tx: Connection) -> None:
    for state in (State.STORING, State.HELD, State.SUCCEEDED, State.FAILED, State.CANCELLED):
        add_job(tx, state, key_id=ONE, due=10 if state is State.STORING else None)
    add_job(tx, State.QUEUED, key_id=ONE, due=-10)  # it was tried before, and waits again
    add_job(tx, State.QUEUED, key_id=ONE, due=10)
    add_job(tx, State.QUEUED, key_id=ONE, lease=MESSAGE, due=-10)  # nobody claimed it in time

    assert lanes.in_flight(tx) == {}
