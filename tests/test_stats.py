"""Counts of jobs, attempts, charges and gates, on every database."""

from collections.abc import Iterator

import pytest

from cutwork import gate, jobs, ledger
from cutwork.events import Kind, record
from cutwork.states import Attempt, State
from cutwork.stats import Stats, collect
from tests.world import KEY_ID, World, done, failed


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def counted(world: World) -> Stats:
    with world.engine.connect() as tx:
        return collect(tx)


def test_an_empty_system_counts_nothing(world: World) -> None:
    found = counted(world)

    assert set(found.jobs) == {state.value for state in State}
    assert set(found.attempts) == {state.value for state in Attempt}
    assert sum(found.jobs.values()) == sum(found.attempts.values()) == 0
    assert (found.charges, found.uncertain, found.second_charges) == (0, 0, 0)
    assert found.share("callback") == 0.0


def test_jobs_and_attempts_are_counted_by_state(world: World) -> None:
    world.succeeded()
    world.waiting()
    world.uncertain()

    found = counted(world)

    assert (found.jobs["succeeded"], found.jobs["waiting"], found.jobs["uncertain"]) == (1, 1, 1)
    assert (found.charges, found.uncertain, found.attempts["accepted"]) == (1, 1, 1)


def test_the_oldest_is_told_of_states_that_are_not_over(world: World) -> None:
    old = world.enqueue()
    world.enqueue()
    world.succeeded()

    found = counted(world)

    assert set(found.oldest) == {"queued"}
    assert found.oldest["queued"] == world.job(old).created_at
    assert found.oldest["queued"] <= found.at


def test_a_second_charge_of_one_job_is_counted_once(world: World) -> None:
    first = world.uncertain()
    world.ring(first.job_id)
    world.do(ledger.settle, world.settings)
    second = world.next_attempt(first.job_id)
    world.learn(second, done("task-2"))
    world.learn(first, done("task-1"))
    world.succeeded()

    found = counted(world)

    assert (found.charges, found.second_charges) == (3, 1)


def test_who_decided_is_told_in_parts_of_all_that_is_over(world: World) -> None:
    world.succeeded()
    world.learn(world.waiting(), failed(), "poll")
    job_id = world.enqueue()
    world.do(jobs.cancel, job_id)

    found = counted(world)

    assert found.decided == {"callback": 1, "poll": 1, "operator": 1}
    assert found.share("poll") == pytest.approx(1 / 3)
    assert found.to_json()["shares"]["poll"] == 0.3333


def test_each_key_is_told_with_its_gate_and_what_is_in_flight(world: World) -> None:
    world.waiting()
    (key,) = counted(world).keys
    assert (key.key_id, key.condition, key.in_flight) == (KEY_ID, "open", 1)

    world.do(gate.throttle, KEY_ID, 30.0)
    (key,) = counted(world).keys
    assert key.condition == "closed"
    assert key.closed_until is not None
    assert counted(world).to_json()["keys"][0]["closed_until"] == key.closed_until.isoformat()

    world.do(gate.pause, KEY_ID)
    (key,) = counted(world).keys
    assert (key.condition, key.reason) == ("paused", "paused by an operator")


def test_how_callbacks_do_is_told(world: World) -> None:
    ticket = world.waiting()
    world.learn(ticket, done())
    world.learn(ticket, done())
    world.learn(world.waiting(), failed(), "poll")
    over = world.waiting()
    world.do(jobs.cancel, over.job_id)
    world.learn(over, done())
    with world.engine.begin() as tx:
        record(tx, Kind.FORGED, "40")
        record(tx, Kind.FORGED, "2")

    found = counted(world).callbacks

    assert found.share == pytest.approx(2 / 3)
    assert (found.late, found.duplicate, found.forged) == (1, 1, 42)
    assert (found.lost, found.waited) == (0.0, {})
