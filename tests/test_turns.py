"""Fair share: whose job goes next, on every database."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import literal, text

from cutwork import jobs, ledger, turns
from cutwork.errors import InvalidInput
from cutwork.request import Segmentation
from tests.world import KEY_ID, World

URL = "http://example.com/a.jpg"


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def many(world: World, owner: str, count: int, **options: object) -> list[UUID]:
    with world.engine.begin() as tx:
        asked = [Segmentation(image_url=URL)] * count
        return jobs.enqueue_many(tx, asked, owner=owner, **options)  # type: ignore[arg-type]


def served(world: World, count: int) -> list[str]:
    """The owners of the next jobs, one released at a time."""
    return [world.job(world.release(1)[0]).owner for _ in range(count)]


def test_two_owners_alternate_whoever_came_first(world: World) -> None:
    many(world, "a", 6)
    many(world, "b", 3)

    order = served(world, 9)

    assert order[0] == "a"
    assert [order[:size].count("b") for size in (3, 5, 7)] == [1, 2, 3]
    assert order[7:] == ["a", "a"]


def test_one_owners_jobs_go_in_the_order_in_which_they_came(world: World) -> None:
    ids = [world.enqueue(owner="a") for _ in range(5)]

    assert [world.release(1)[0] for _ in range(5)] == ids


def test_an_owner_of_weight_three_goes_three_times_as_often(world: World) -> None:
    world.do(turns.set_weight, "big", 3.0)
    many(world, "small", 20)
    many(world, "big", 20)

    assert served(world, 17)[1:].count("big") == 12


def test_an_owner_who_was_away_has_saved_up_nothing(world: World) -> None:
    many(world, "a", 20)
    served(world, 10)
    many(world, "b", 20)

    assert served(world, 8).count("b") in (3, 4)


def test_a_lower_priority_number_goes_first_whosever_it_is(world: World) -> None:
    many(world, "a", 2)
    many(world, "b", 2, priority=0)

    assert served(world, 4) == ["b", "b", "a", "a"]


def test_a_turn_is_found_in_an_index_however_old_the_statistics(
    empty_database: Callable[[str], str],
) -> None:
    """On PostgreSQL; the others read one entry for a max()."""
    world = World.at(empty_database("postgresql"))
    with world.engine.begin() as tx:
        tx.execute(text("ALTER TABLE cutwork_job SET (autovacuum_enabled = off)"))
    many(world, "a", 500)
    many(world, "a", 500, not_before=datetime.now(UTC) + timedelta(hours=1))
    many(world, "b", 500, priority=9)
    turn = turns.next_turn(literal("a"), literal(5)).compile(
        world.engine, compile_kwargs={"literal_binds": True}
    )
    with world.engine.connect() as tx:
        plan = list(tx.execute(text(f"EXPLAIN (ANALYZE, TIMING off) SELECT {turn}")).scalars())
    world.engine.dispose()

    read = [int(count) for line in plan for count in re.findall(r"actual rows=(\d+)", line)]
    assert max(read) == 1, plan
    assert not any("Rows Removed" in line for line in plan), plan


def test_jobs_for_later_get_their_turns_when_they_are_due(world: World) -> None:
    later = many(world, "b", 3, not_before=datetime.now(UTC) + timedelta(hours=1))
    many(world, "a", 3)
    assert world.row(later[0])["turn"] is None
    for job_id in later:
        world.ring(job_id)

    order = served(world, 6)

    assert order[:5].count("b") >= 2
    assert sorted(order) == ["a", "a", "a", "b", "b", "b"]


def test_a_job_that_comes_back_goes_before_its_owners_backlog(world: World) -> None:
    ticket = world.submitting(owner="a")
    many(world, "a", 50)
    world.do(ledger.not_sent, ticket, "no route")
    world.ring(ticket.job_id)

    assert ticket.job_id in world.release(2)


def test_a_row_that_another_program_wrote_without_a_turn_gets_one(world: World) -> None:
    job_id = many(world, "a", 1, not_before=datetime(2026, 1, 1, tzinfo=UTC))[0]

    assert world.release() == [job_id]
    assert world.row(job_id)["turn"] is not None


def test_ten_jobs_do_not_wait_for_another_owners_ten_thousand(world: World) -> None:
    many(world, "a", 10_000)
    few = set(many(world, "b", 10))
    started = 0
    while few:
        few -= set(world.do(ledger.release_submits, KEY_ID, 1, 3600.0))
        started += 1

    assert started <= 2 * 2 * 10


@pytest.mark.parametrize("weight", [0.0, -1.0, 1001.0, float("nan")])
def test_a_weight_that_cannot_be_meant_is_refused(world: World, weight: float) -> None:
    with pytest.raises(InvalidInput, match="weight must be from"):
        world.do(turns.set_weight, "a", weight)


def test_a_weight_of_one_is_forgotten(world: World) -> None:
    world.do(turns.set_weight, "a", 2.0)
    world.do(turns.set_weight, "a", 1.0)

    with world.engine.connect() as tx:
        assert turns.weights(tx) == {}
