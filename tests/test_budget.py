"""A day's budget makes jobs wait, and fails none."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from cutwork import budget, ledger, schema
from cutwork.clock import after
from cutwork.states import State
from cutwork.worker.reconciler import Reconciler
from tests.world import SETTINGS, World, failed

THREE = replace(SETTINGS, daily_budget=3, rate=1000.0, max_in_flight=100, submit_lane=50)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url, THREE)
    yield made
    made.engine.dispose()


@pytest.fixture
def clock(world: World) -> Iterator[Callable[[], list[UUID]]]:
    """``clock()``: one look of the reconciler; the submits that it named."""
    named: list[UUID] = []

    def publish(_lane: str, job_ids: Sequence[UUID]) -> None:
        named.extend(job_ids)

    reconciler = Reconciler(world.engine, THREE, publish)

    def look() -> list[UUID]:
        named.clear()
        reconciler.run_once()
        return list(named)

    yield look
    reconciler.close()


def left(world: World, **options: Any) -> int | None:
    with world.engine.connect() as tx:
        return budget.left(tx, THREE, **options)


def test_without_a_budget_nothing_is_counted(world: World) -> None:
    with world.engine.connect() as tx:
        assert budget.left(tx, SETTINGS) is None


def test_what_may_be_charged_counts_and_what_is_not_charged_does_not(world: World) -> None:
    world.succeeded()
    world.uncertain()
    assert left(world) == 1

    world.learn(world.waiting(), failed())
    world.do(ledger.not_sent, world.submitting(), "no route")
    assert left(world) == 1
    assert left(world, released=1) == 0
    world.submitting()
    assert left(world) == 0


def test_no_more_jobs_are_released_than_the_day_has_room_for(
    world: World, clock: Callable[[], list[UUID]]
) -> None:
    ids = [world.enqueue() for _ in range(5)]

    first = clock()
    assert first == ids[:3]
    assert clock() == []
    for job_id in first:
        assert world.do(ledger.claim, job_id, THREE, callback=True)
    assert clock() == []
    assert {world.state(one) for one in ids[3:]} == {State.QUEUED}
    assert world.events() == ["budget"]


def test_the_next_day_they_go_on(world: World, clock: Callable[[], list[UUID]]) -> None:
    for _ in range(3):
        world.waiting()
    job_id = world.enqueue()
    assert clock() == []

    with world.engine.begin() as tx:
        tx.execute(update(schema.attempt).values(intended_at=after(-86_400)))
    assert clock() == [job_id]


def test_a_task_that_failed_gives_its_place_back(
    world: World, clock: Callable[[], list[UUID]]
) -> None:
    tickets = [world.waiting() for _ in range(3)]
    job_id = world.enqueue()
    assert clock() == []

    world.learn(tickets[0], failed(-7))
    assert clock() == [job_id]


def test_a_day_ends_at_midnight_utc() -> None:
    assert budget.renews_in(datetime(2026, 11, 25, 23, 59, 30, tzinfo=UTC)) == 30
    assert budget.renews_in(datetime(2026, 11, 25, tzinfo=UTC)) == 86_400
