"""Group commit in a worker: threads that write at the same moment share a transaction."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, event, select

from cutwork import database, ledger, schema
from cutwork.ledger import Heard, Ticket
from cutwork.worker.group import Group
from tests.world import SETTINGS, World, done

THREADS = 24


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def hear(tx: Connection, ticket: Ticket) -> Heard:
    return ledger.hear(tx, ticket.job_id, ticket.number, done(), SETTINGS)


def all_at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """The result of each, or what it raised."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - it is what is asked about
            return error

    with ThreadPoolExecutor(len(calls)) as crowd:
        return list(crowd.map(run, calls))


def test_many_threads_share_few_commits(world: World) -> None:
    tickets = [world.submitting() for _ in range(THREADS)]
    commits: list[object] = []
    event.listen(world.engine, "commit", commits.append)
    group = Group(world.engine)

    heard = all_at_once([lambda t=t: group.run(t.job_id, hear, t) for t in tickets])  # type: ignore[misc]

    assert heard == [Heard.MOVED] * THREADS
    assert len(commits) <= THREADS // 2
    assert {world.state(ticket.job_id) for ticket in tickets} == {"storing"}


def test_what_is_returned_is_committed(world: World) -> None:
    tickets = [world.submitting() for _ in range(THREADS)]
    group = Group(world.engine)

    def run(ticket: Ticket) -> str:
        group.run(ticket.job_id, hear, ticket)
        return world.state(ticket.job_id)

    assert all_at_once([lambda t=t: run(t) for t in tickets]) == ["storing"] * THREADS  # type: ignore[misc]


def test_a_verb_that_fails_takes_no_other_with_it(world: World) -> None:
    tickets = [world.submitting() for _ in range(THREADS)]
    group = Group(world.engine)

    def fail(_tx: Connection) -> Heard:
        raise LookupError("mine alone")

    calls: list[Callable[[], Any]] = [
        lambda t=t: group.run(t.job_id, hear, t)  # type: ignore[misc]
        for t in tickets[1:]
    ]
    came = all_at_once([lambda: group.run(tickets[0].job_id, fail), *calls])

    assert isinstance(came[0], LookupError)
    assert came[1:] == [Heard.MOVED] * (THREADS - 1)
    assert world.state(tickets[0].job_id) == "submitting"


def test_a_job_that_an_app_keeps_locked_holds_up_nobody_else(
    empty_database: Callable[[str], str],
) -> None:
    world = World.at(empty_database("postgresql"))
    tickets = [world.submitting() for _ in range(5)]
    engine = database.engine(world.engine.url.render_as_string(False), patient=False)
    group, same = Group(engine), schema.job.c.id == tickets[0].job_id
    over: list[float] = []

    def run(ticket: Ticket) -> None:
        group.run(ticket.job_id, hear, ticket)
        over.append(time.monotonic())

    with world.engine.begin() as app:
        app.execute(select(schema.job.c.id).where(same).with_for_update())
        threads = [threading.Thread(target=run, args=(ticket,)) for ticket in tickets]
        for thread in threads:
            thread.start()
        for thread in threads[1:]:
            thread.join(10)
        others = [world.state(ticket.job_id) for ticket in tickets[1:]]
        locked = threads[0].is_alive()
    threads[0].join(10)
    assert (others, locked) == (["storing"] * 4, True)
    assert world.state(tickets[0].job_id) == "storing"
    engine.dispose()
    world.engine.dispose()
