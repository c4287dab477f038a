"""A reconciler that sleeps is called by a commit, and nobody is called who does not sleep."""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, func, select, text

import cutwork
from cutwork import database, jobs, wake
from cutwork.schema import sleeper
from cutwork.worker.sleep import Sleep
from tests.services.waiting import run_until
from tests.world import World, done

LONG = 30.0
PICTURE: dict[str, Any] = {"image_url": "http://example.com/a.jpg"}


class Ear:
    """Another connection that listens: what it hears was really sent."""

    def __init__(self, world: World) -> None:
        lent = world.engine.raw_connection()
        self._driver: Any = lent.driver_connection
        lent.detach()
        self._driver.rollback()
        self._driver.autocommit = True
        self._driver.execute(f"LISTEN {wake.CHANNEL}")

    def heard(self, seconds: float = 0.0) -> int:
        """Calls since the last time; waits for a first one for so long."""
        return len(list(self._driver.notifies(timeout=seconds, stop_after=1)))

    def close(self) -> None:
        self._driver.close()


@pytest.fixture
def world(empty_database: Callable[[str], str]) -> Iterator[World]:
    made = World.at(empty_database("postgresql"))
    yield made
    made.engine.dispose()


@pytest.fixture
def ear(world: World) -> Iterator[Ear]:
    made = Ear(world)
    yield made
    made.close()


def asleep(world: World) -> int:
    with world.engine.connect() as tx:
        return tx.execute(select(func.count()).select_from(sleeper)).scalar_one()


def sleeping(world: World) -> tuple[Sleep, threading.Thread]:
    """A reconciler that has noted that it sleeps, and waits for longer than a test may take."""
    sleep = Sleep(world.engine, threading.Event(), lambda: True)
    before = asleep(world)
    sleep.rest(LONG)  # the note is new, so it looks once more
    assert asleep(world) == before + 1
    thread = threading.Thread(target=sleep.rest, args=(LONG,), daemon=True)
    thread.start()
    return sleep, thread


def test_a_commit_calls_all_who_sleep_and_neither_a_statement_nor_a_rollback_does(
    world: World,
) -> None:
    sleepers = [sleeping(world) for _ in range(2)]
    with world.engine.connect() as tx:
        jobs.enqueue(tx, **PICTURE)
        tx.rollback()
        jobs.enqueue(tx, **PICTURE)
        for _, thread in sleepers:
            thread.join(0.2)
            assert thread.is_alive()
        tx.commit()
    for sleep, thread in sleepers:
        thread.join(10)
        assert not thread.is_alive()
        sleep.close()
    assert asleep(world) == 0


def test_many_jobs_of_a_call_are_one_call(world: World, ear: Ear) -> None:
    world.do(wake.note, uuid4(), LONG)
    with world.engine.begin() as tx:
        jobs.enqueue_many(tx, [cutwork.Segmentation(**PICTURE)] * 20)
    assert ear.heard(10) == 1
    assert ear.heard(0.2) == 0


@pytest.mark.parametrize("together", [False, True])
def test_a_result_that_is_ready_is_a_call(world: World, ear: Ear, together: bool) -> None:
    ticket = world.waiting()
    world.do(wake.note, uuid4(), LONG)
    world.together = together
    world.learn(ticket, done())
    assert ear.heard(10) == 1


def test_nobody_is_called_who_is_busy_or_was_killed(world: World, ear: Ear) -> None:
    mine, killed = uuid4(), uuid4()
    world.do(wake.note, killed, -1.0)
    world.do(wake.note, mine, LONG)
    assert asleep(world) == 1  # who was killed is forgotten
    world.do(wake.clear, mine)
    world.do(wake.note, killed, -1.0)
    world.enqueue()
    assert ear.heard(0.2) == 0


def test_who_finds_work_again_and_again_takes_its_note_back(world: World) -> None:
    idle = [True]
    sleep = Sleep(world.engine, threading.Event(), lambda: idle[0])
    sleep.rest(0.0)
    assert asleep(world) == 1
    idle[0] = False
    run_until(lambda: sleep.rest(0.0) or not asleep(world), 10)
    idle[0] = True
    sleep.rest(0.0)
    assert asleep(world) == 1
    sleep.close()


def test_a_connection_that_is_lost_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cutwork.worker.sleep._RECONNECT", 0.0)
    sleep, thread = sleeping(world)
    ears = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    with world.engine.begin() as tx:
        assert tx.execute(ears).scalars().all() == [True]
    run_until(lambda: "reconciler cannot be called" in caplog.messages, 10)
    sleep._stop.set()  # it goes on polling, and is not to wait that long
    thread.join(10)
    assert not thread.is_alive()
    sleep.rest(LONG)  # a new note, and a look at once
    thread = threading.Thread(target=sleep.rest, args=(LONG,), daemon=True)
    thread.start()
    world.enqueue()
    thread.join(10)
    assert not thread.is_alive()
    sleep.close()


def test_enqueue_is_one_statement_as_before(world: World) -> None:
    world.do(wake.note, uuid4(), LONG)
    sent: list[str] = []
    with world.engine.begin() as tx:
        event.listen(tx, "before_cursor_execute", lambda *told: sent.append(told[2].split()[0]))
        jobs.enqueue(tx, **PICTURE)
        jobs.enqueue_many(tx, [cutwork.Segmentation(**PICTURE)] * 3)
    assert sent.count("INSERT") == 2
    assert len(sent) == 2


def test_elsewhere_the_pause_is_waited_out(empty_database: Callable[[str], str]) -> None:
    world = World.at(empty_database("sqlite"))
    assert database.engine(str(world.engine.url)).dialect.name == "sqlite"
    stop = threading.Event()
    stop.set()
    Sleep(world.engine, stop, lambda: True).rest(LONG)
    assert asleep(world) == 0
