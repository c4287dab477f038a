"""What was paid for, by day and key, on every database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import update

from cutwork import ledger, schema
from cutwork.clock import after
from cutwork.money import Day, Money, money
from tests.world import KEY_ID, World, done, failed


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def counted(world: World) -> Money:
    with world.engine.connect() as tx:
        return money(tx)


def test_nothing_was_paid_for_at_first(world: World) -> None:
    assert counted(world) == Money((), ())


def test_charges_second_charges_and_doubtful_submits_are_told_apart(world: World) -> None:
    first = world.uncertain()
    world.ring(first.job_id)
    world.do(ledger.settle, world.settings)
    second = world.next_attempt(first.job_id)
    world.learn(second, done("task-2"))
    world.learn(first, done("task-1"))
    world.succeeded()
    world.uncertain()
    world.learn(world.waiting(), failed())

    found = counted(world)

    (day,) = found.days
    assert (day.key_id, day.submits, day.charges, day.second, day.uncertain) == (KEY_ID, 5, 3, 1, 1)
    (twice,) = found.twice
    assert (twice.job_id, twice.attempts) == (first.job_id, (1, 2))
    assert found.to_json()["second_charges"] == [{"job": str(first.job_id), "attempts": [1, 2]}]


def test_each_day_and_key_has_a_line_the_latest_day_first(world: World) -> None:
    old, other = world.waiting(), world.waiting()
    world.waiting()
    with world.engine.begin() as tx:
        for ticket, values in (
            (old, {"intended_at": after(-3 * 86_400)}),
            (other, {"key_id": "ffffffff"}),
        ):
            same = schema.attempt.c.job_id == ticket.job_id
            tx.execute(update(schema.attempt).where(same).values(values))

    days = counted(world).days

    assert [(day.key_id, day.submits) for day in days] == [
        *sorted([(KEY_ID, 1), ("ffffffff", 1)]),
        (KEY_ID, 1),
    ]
    assert days[0].day == days[1].day > days[2].day
    assert isinstance(days[0], Day)
    assert len(days[0].day) == 10
