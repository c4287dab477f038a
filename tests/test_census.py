"""What is counted, on every database, and that purging takes nothing from it."""

from collections.abc import Iterator

import pytest

from cutwork import census, jobs, ledger
from cutwork.census import Census
from cutwork.events import Kind, record
from tests.world import KEY_ID, World, done, failed


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def taken(world: World) -> Census:
    with world.engine.connect() as tx:
        return census.take(tx)


def twice_charged(world: World) -> None:
    first = world.uncertain()
    world.ring(first.job_id)
    world.do(ledger.settle, world.settings)
    second = world.next_attempt(first.job_id)
    world.learn(second, done("task-2"))
    world.learn(first, done("task-1"))
    assert world.do(ledger.stored, world.claim_store(first.job_id), {"files": {}}, world.settings)


def test_nothing_is_counted_where_nothing_is(world: World) -> None:
    found = taken(world)

    assert (found.counted, found.kept, found.held_since) == ({}, {}, None)


def test_everything_is_counted_by_what_it_is(world: World) -> None:
    world.succeeded()
    world.learn(world.waiting(), failed(), "poll")
    world.do(jobs.cancel, world.enqueue())
    held = world.storing()
    world.do(ledger.not_stored, held, "too_large", "too large", world.settings, permanent=True)
    twice_charged(world)
    with world.engine.begin() as tx:
        record(tx, Kind.FORGED, "40")
        record(tx, Kind.FORGED, "2")

    found = taken(world)

    assert found.counted == {
        ("jobs", "succeeded callback"): 2,
        ("jobs", "failed poll"): 1,
        ("jobs", "cancelled operator"): 1,
        ("jobs", "held too_large"): 1,
        ("attempts", f"{KEY_ID} succeeded"): 4,
        ("attempts", f"{KEY_ID} failed"): 1,
        ("callbacks", KEY_ID): 4,
        ("second_charges", ""): 1,
        ("events", "forged"): 42,
        ("events", "uncertain"): 1,
        ("events", "resubmitted"): 1,
        ("events", "second_charge"): 1,
        ("events", "held"): 1,
        ("events", "cancelled"): 1,
    }
    assert found.held_since == world.job(held.job_id).created_at
    assert found.kept == {}


def test_callbacks_and_fruitless_checks_are_added_up(world: World) -> None:
    ticket = world.claim_check(world.waiting().job_id)
    world.do(ledger.unanswered, ticket, world.settings, "not done")
    for _ in range(3):
        world.do(ledger.hear, ticket.job_id, 1, done(), world.settings)

    counted = taken(world).counted

    assert counted["callbacks", KEY_ID] == 3
    assert counted["checks", KEY_ID] == 1


def test_what_is_purged_goes_on_being_counted(world: World) -> None:
    twice_charged(world)
    gone = [world.succeeded(), world.succeeded()]
    world.learn(world.waiting(), failed())
    with world.engine.begin() as tx:
        record(tx, Kind.FORGED, "3")
    before = taken(world)

    assert world.do(ledger.purge, gone[:1]) == 1
    one = taken(world)
    with world.engine.connect() as tx:
        rest = [row.id for row in ledger.purgeable(tx, -60.0)]
    assert world.do(ledger.purge, rest) == 3
    all_of_them = taken(world)

    assert one.counted["jobs", "succeeded callback"] == 2
    assert one.counted + one.kept == before.counted
    assert all_of_them.counted == {("events", "forged"): 3}
    assert all_of_them.counted + all_of_them.kept == before.counted


def test_a_purge_that_deletes_nothing_keeps_nothing(world: World) -> None:
    waiting = world.waiting()

    assert world.do(ledger.purge, [waiting.job_id]) == 0

    assert taken(world).kept == {}
    assert world.count() == 1


def test_a_purge_that_is_rolled_back_keeps_nothing(world: World) -> None:
    job_id = world.succeeded()
    with world.engine.connect() as tx, tx.begin() as transaction:
        assert ledger.purge(tx, [job_id]) == 1
        transaction.rollback()

    assert taken(world).kept == {}
    assert world.count() == 1
