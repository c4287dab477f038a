"""The jobs of one message: side by side in a worker of threads, and none for the others' sake."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from cutwork import ledger
from cutwork.provider import Accepted
from cutwork.request import Request
from cutwork.worker.submitting import orders, submit
from cutwork.worker.tasks import each
from cutwork.worker.tools import Tools
from tests.world import KEY_ID, SETTINGS, World

JOBS = 8


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def tools_at(world: World, home: Path, *, side_by_side: bool = True) -> Tools:
    url = world.engine.url.render_as_string(hide_password=False)
    settings = replace(SETTINGS, database_url=url, home=home, concurrency=JOBS)
    return Tools.of(settings, side_by_side=side_by_side)


class Meeting:
    """A provider whose answer each submit waits for until all the others are there."""

    def __init__(self, parties: int) -> None:
        self._barrier = threading.Barrier(parties)

    def submit(self, *_: object, **__: object) -> Accepted:
        self._barrier.wait(20)
        return Accepted(str(uuid4()), None)


def test_the_jobs_of_a_message_are_submitted_side_by_side(world: World, tmp_path: Path) -> None:
    ids = [world.enqueue() for _ in range(JOBS)]
    world.release()
    tools = tools_at(world, tmp_path)
    object.__setattr__(tools, "provider", Meeting(JOBS))

    each(tools, submit, orders(tools, ids))

    assert {world.state(job_id) for job_id in ids} == {"waiting"}
    tools.engine.dispose()


def test_a_process_of_a_pool_does_them_one_after_the_other(world: World, tmp_path: Path) -> None:
    tools = tools_at(world, tmp_path, side_by_side=False)
    threads: list[int] = []

    each(tools, lambda _tools, _thing: threads.append(threading.get_ident()), range(JOBS))

    assert threads == [threading.get_ident()] * JOBS
    tools.engine.dispose()


@pytest.mark.parametrize("side_by_side", [True, False])
def test_a_job_that_fails_takes_no_other_along(
    world: World, tmp_path: Path, side_by_side: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tools = tools_at(world, tmp_path, side_by_side=side_by_side)
    done: list[int] = []

    def step(_tools: Tools, number: int) -> None:
        if number == 2:
            raise RuntimeError("a fault of ours")
        done.append(number)

    each(tools, step, range(5))

    assert sorted(done) == [0, 1, 3, 4]
    assert "step failed" in caplog.text
    tools.engine.dispose()


def test_the_orders_of_a_message_are_read_at_once(world: World, tmp_path: Path) -> None:
    ids = [world.enqueue() for _ in range(5)]
    world.release()
    world.do(ledger.cancel, ids[1])
    tools = tools_at(world, tmp_path)
    statements: list[str] = []
    event.listen(
        tools.engine, "before_cursor_execute", lambda *told: statements.append(str(told[2]))
    )

    read = orders(tools, [*ids, UUID(int=0)])

    assert len([one for one in statements if one.startswith("SELECT cutwork_job")]) == 1
    assert {order.job_id for order in read} == {*ids[:1], *ids[2:]}
    assert {(type(order.request), order.key_id) for order in read} == {(Request, KEY_ID)}
    tools.engine.dispose()
