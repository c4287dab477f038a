"""An outage must not double the bill: second tries stop while many submits are uncertain."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import update

from cutwork import guard, ledger, schema
from cutwork.clock import after
from cutwork.settings import Settings
from cutwork.states import State
from tests.world import SETTINGS, World, done

CARE = replace(SETTINGS, guard_count=5, guard_share=0.5, max_in_flight=100)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url, CARE)
    yield made
    made.engine.dispose()


def uncertain(world: World, count: int, **options: object) -> list[UUID]:
    """So many jobs whose grace is over."""
    ids = [world.uncertain(**options).job_id for _ in range(count)]
    for job_id in ids:
        world.ring(job_id)
    return ids


def stopped(world: World, settings: Settings = CARE) -> str | None:
    with world.engine.connect() as tx:
        return guard.stops_second_tries(tx, settings)


def test_a_few_uncertain_submits_are_nobodys_outage(world: World) -> None:
    ids = uncertain(world, 4)
    world.do(ledger.settle, CARE)

    assert {world.state(one) for one in ids} == {State.QUEUED}
    assert stopped(world) is None


def test_a_share_of_uncertain_submits_stops_every_second_try(world: World) -> None:
    ids = uncertain(world, 5)
    world.do(ledger.settle, CARE)

    assert {world.state(one) for one in ids} == {State.UNCERTAIN}
    said = "no second try is paid for: 5 of 5 submits in the last 600 s were uncertain"
    assert stopped(world) == said
    assert world.row(ids[0])["error"] == said
    assert world.events().count("guarded") == 1


def test_the_same_number_among_many_that_went_well_does_not(world: World) -> None:
    for _ in range(6):
        world.waiting()
    uncertain(world, 5)

    assert stopped(world) is None


def test_more_than_a_number_stops_them_whatever_the_share(world: World) -> None:
    for _ in range(10):
        world.waiting()
    uncertain(world, 6)

    assert "6 of 16 submits" in str(stopped(world))


def test_when_the_outage_is_over_they_go_on(world: World) -> None:
    ids = uncertain(world, 5)
    world.do(ledger.settle, CARE)
    with world.engine.begin() as tx:
        tx.execute(update(schema.event).values(at=after(-601)))
    for job_id in ids:
        world.ring(job_id)
    world.do(ledger.settle, CARE)

    assert {world.state(one) for one in ids} == {State.QUEUED}


def test_a_callback_still_settles_a_stopped_job(world: World) -> None:
    tickets = [world.uncertain() for _ in range(5)]
    for ticket in tickets:
        world.ring(ticket.job_id)
    world.do(ledger.settle, CARE)
    world.learn(tickets[0], done())

    assert world.state(tickets[0].job_id) is State.STORING


@pytest.mark.parametrize(("policy", "state"), [("hold", State.HELD), ("fail", State.FAILED)])
def test_a_policy_that_pays_nothing_is_not_stopped(world: World, policy: str, state: State) -> None:
    ids = uncertain(world, 5, on_uncertain=policy)
    world.do(ledger.settle, CARE)

    assert {world.state(one) for one in ids} == {state}


def test_a_second_try_that_was_queued_before_is_stopped_at_its_claim(world: World) -> None:
    (early,) = uncertain(world, 1)
    world.do(ledger.settle, CARE)
    uncertain(world, 5)
    world.ring(early)
    assert early in world.release()

    assert world.do(ledger.claim, early, CARE, callback=True) is None
    assert world.state(early) is State.QUEUED
    assert "no second try is paid for" in world.row(early)["error"]
    assert world.count(schema.attempt) == 6


def test_a_first_try_is_not_stopped(world: World) -> None:
    uncertain(world, 6)
    job_id = world.enqueue()
    world.release()

    assert world.do(ledger.claim, job_id, CARE, callback=True) is not None


def test_an_operator_may_pay_again_all_the_same(world: World) -> None:
    uncertain(world, 5)
    job_id = world.uncertain(on_uncertain="hold").job_id
    world.ring(job_id)
    world.do(ledger.settle, CARE)
    assert world.do(ledger.retry, job_id, CARE) is State.QUEUED
    world.ring(job_id)
    world.release()

    assert world.do(ledger.claim, job_id, CARE, callback=True) is not None
