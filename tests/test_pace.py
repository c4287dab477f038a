"""When to ask: learned from what the provider did, and measured against a poller."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import update

from cutwork import database, pace, schema
from cutwork.clock import after
from cutwork.drill.virtual_time import VirtualTime
from cutwork.migrations.upgrade import upgrade
from cutwork.pace import Pace
from cutwork.report import Report, Verdict
from tests.pace_model import DURATIONS, FREE, Shown, Watch, drawn
from tests.world import SETTINGS, World, done

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

WIDE = replace(SETTINGS, check_earliest=0.1, check_latest=1000.0)


# What is learned from rows


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url, WIDE)
    yield made
    made.engine.dispose()


def finished(world: World, count: int, seconds: float, via: str, own: float | None = None) -> None:
    """So many jobs that were found done so long after they were accepted, a minute ago."""
    for _ in range(count):
        ticket = world.waiting()
        world.learn(ticket, replace(done(), seconds=own), via)
        began = after(-60 - seconds)
        values = {"intended_at": began, "accepted_at": began, "finished_at": after(-60)}
        with world.engine.begin() as tx:
            same = schema.attempt.c.job_id == ticket.job_id
            tx.execute(update(schema.attempt).where(same).values(values))


def learned(world: World) -> Pace | None:
    return world.do(pace.learn, world.settings)


def test_a_few_jobs_teach_nothing(world: World) -> None:
    finished(world, 7, 3.0, "callback")

    assert learned(world) is None
    with world.engine.connect() as tx:
        assert pace.read(tx) is None


def test_callbacks_that_come_are_waited_for(world: World) -> None:
    finished(world, 20, 4.0, "callback")

    found = learned(world)

    assert found is not None
    assert (found.sample, found.lost) == (20, 0.0)
    assert found.called["p50"] == found.called["p99"] == pytest.approx(4, abs=0.5)
    assert found.first_called > 1.5 * 4
    assert found.first_polled == pytest.approx(4.25, abs=0.5)
    with world.engine.connect() as tx:
        assert pace.read(tx) is not None


def test_what_polls_found_is_learned_by_the_providers_clock(world: World) -> None:
    finished(world, 20, 300.0, "poll", own=5.0)

    found = learned(world)

    assert found is not None
    assert found.own["p50"] == 5.0
    assert found.lost == 1.0
    assert found.first_called == found.first_polled == pytest.approx(5.25)


def test_half_of_them_lost_is_enough_to_ask_when_most_are_done(world: World) -> None:
    finished(world, 10, 4.0, "callback")
    finished(world, 10, 30.0, "poll", own=4.0)

    found = learned(world)

    assert found is not None
    assert found.lost == 0.5
    assert found.first_called == found.first_polled


def test_a_callback_that_comes_after_our_question_is_not_lost(world: World) -> None:
    for _ in range(10):
        ticket = world.waiting()
        world.learn(ticket, done(), "poll")
        world.learn(ticket, done(), "callback")

    found = learned(world)

    assert found is not None
    assert found.lost == 0.0


def test_a_job_that_was_just_found_by_a_question_may_still_be_called_back_about(
    world: World,
) -> None:
    for _ in range(10):
        world.learn(world.waiting(), done(), "poll")

    found = learned(world)

    assert found is not None
    assert found.lost == 0.0


def test_what_is_learned_is_bounded_by_the_settings(world: World) -> None:
    finished(world, 10, 500.0, "callback")
    world.settings = replace(WIDE, check_earliest=2.0, check_latest=20.0)
    found = learned(world)
    assert found is not None
    assert (found.first_called, found.first_polled) == (20.0, 20.0)


def test_tasks_that_failed_teach_as_well(world: World) -> None:
    for _ in range(8):
        world.learn(world.waiting(), Report(Verdict.FAILED, state=-7, task_id="task-1"))

    assert learned(world) is not None


def test_the_next_alarm_is_set_by_what_was_learned(world: World) -> None:
    finished(world, 20, 4.0, "callback")
    found = learned(world)
    assert found is not None

    row = world.row(world.waiting().job_id)

    left = (row["due_at"] - row["created_at"]).total_seconds()
    assert found.first_called <= left < found.first_called + 30


# What it comes to, in virtual time


@pytest.fixture
def watch(empty_database: Callable[[str], str]) -> Iterator[Watch]:
    engine = database.engine(empty_database("sqlite"))
    time = VirtualTime(engine)
    upgrade(engine)
    yield Watch(World(engine, FREE), time)
    engine.dispose()


@pytest.mark.parametrize("name", ["1 to 3 s", "median 8 s, long tail", "3 s, one in five 12 s"])
def test_while_callbacks_come_hardly_a_question_is_asked(watch: Watch, name: str) -> None:
    shown = watch.play(drawn(name, 200), lambda _: False)

    assert shown.asked_later <= 0.02, shown


def held(shown: Shown, name: str) -> None:
    assert shown.median <= 1.5 * shown.ideal_median, shown
    if name == "1 to 3 s":  # one question for each job is the least there can be
        assert shown.asked <= 1.3, shown
    else:
        assert shown.asked <= shown.ideal_asked / 3, shown


@pytest.mark.parametrize("name", DURATIONS)
def test_without_any_callback_the_median_job_is_known_soon_and_for_few_questions(
    watch: Watch, name: str
) -> None:
    held(watch.play(drawn(name, 200), lambda _: True), name)


def test_callbacks_that_stop_in_the_middle_are_noticed(watch: Watch) -> None:
    durations = drawn("always 4 s", 240)

    shown = watch.play(durations, lambda number: number >= 120)

    assert shown.asked_later <= 1.5
    late = sorted(list(watch.waited.values())[-60:])
    assert late[30] <= 1.5 * 4
