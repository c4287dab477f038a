"""S7: reply, callbacks and checks in any order, any number of times, end in the same row."""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import pytest

from cutwork.ledger import Ticket
from tests.world import LINK, World, done, pending

News = Callable[[World, Ticket], Any]


def task(ticket: Ticket) -> str:
    return f"task-of-{ticket.job_id}"


NEWS: dict[str, News] = {
    "reply": lambda world, ticket: world.learn(ticket, pending(task(ticket)), "reply"),
    "progress": lambda world, ticket: world.learn(ticket, pending(None)),
    "callback": lambda world, ticket: world.learn(ticket, done(task(ticket))),
    "again": lambda world, ticket: world.learn(ticket, done(task(ticket))),
    "check": lambda world, ticket: world.learn(ticket, done(task(ticket)), "poll"),
}
# What may differ: when things happened, and which of several true stories was heard first.
TIMES = {"due_at", "created_at", "finished_at", "result_expires_at", "decided_by", "id"}


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def test_every_order_of_the_same_news_ends_in_the_same_row(world: World) -> None:
    ends = []
    for order in permutations(NEWS):
        ticket = world.submitting()
        for name in order:
            NEWS[name](world, ticket)
        row = world.row(ticket.job_id)
        made = world.attempt(ticket.job_id)
        assert made["report"]["image"] == LINK
        facts = {name: value for name, value in row.items() if name not in TIMES}
        ends.append((facts, made["state"], made["task_id"] == task(ticket), made["callbacks"]))
    assert len(ends) == 120
    assert all(end == ends[0] for end in ends)
    assert ends[0][0]["state"] == "storing"
