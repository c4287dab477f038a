"""A page: what the verbs do to many jobs in one transaction is what they do one by one."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, event, update

from cutwork import gate, ledger, schema
from cutwork.clock import after
from cutwork.ledger import Ticket
from cutwork.page import OvertakenError
from cutwork.provider import Accepted, Rejected, Throttled, Uncertain
from cutwork.report import Report
from cutwork.worker import submitting
from tests.world import KEY_ID, RESULT, SETTINGS, World, done, failed, pending

Verb = Callable[[Connection, Ticket], Any]
OUTCOMES = [
    Accepted("task-1", None),
    Rejected("rejected_400", "no such type", 400),
    Throttled(None),
    Uncertain("reset", None),
]
REPORTS: list[Report | None] = [
    done(), done(), done("task-2"), done(None), pending(), pending(None), failed(), failed(-1),
    None,
]  # fmt: skip


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def hear(tx: Connection, ticket: Ticket, report: Report | None) -> Any:
    return ledger.hear(tx, ticket.job_id, ticket.number, report, SETTINGS)


def record(tx: Connection, ticket: Ticket, outcome: Any) -> Any:
    return submitting.record(tx, outcome=outcome, ticket=ticket, settings=SETTINGS)


def drawn(chance: Random) -> Verb:
    if chance.random() < 0.4:
        return partial(record, outcome=chance.choice(OUTCOMES))
    return partial(hear, report=chance.choice(REPORTS))


@pytest.mark.parametrize("seed", range(12))
def test_verbs_together_do_what_they_do_one_by_one(world: World, seed: int) -> None:
    chance = Random(seed)
    apart = [world.submitting() for _ in range(5)]
    joined = [world.submitting() for _ in range(5)]
    verbs = [(chance.randrange(5), drawn(chance)) for _ in range(20)]

    alone = [world.do(verb, apart[which]) for which, verb in verbs]

    def together(tx: Connection) -> list[Any]:
        with ledger.together(tx, [ticket.job_id for ticket in joined]):
            return [verb(tx, joined[which]) for which, verb in verbs]

    assert world.do(together) == alone
    for one, other in zip(apart, joined, strict=True):
        assert world.story(other.job_id) == world.story(one.job_id)


def test_claims_and_stores_together(world: World) -> None:
    ids = [world.enqueue() for _ in range(7)]
    assert set(world.release()) == set(ids)

    def claim(tx: Connection) -> list[Ticket | None]:
        with ledger.together(tx, ids):
            return [ledger.claim(tx, one, SETTINGS, callback=True) for one in [*ids, ids[0]]]

    *tickets, second = world.do(claim)

    assert second is None
    assert [ticket and (ticket.job_id, ticket.fence, ticket.number) for ticket in tickets] == [
        (job_id, 1, 1) for job_id in ids
    ]
    for ticket in tickets:
        assert ticket is not None
        world.learn(ticket, done())
        left = world.row(ticket.job_id)
        assert world.attempt(ticket.job_id)["fence"] == left["fence"] == 1
    world.do(ledger.release_stores, 10, 30.0)

    def fetch(tx: Connection) -> list[bool]:
        with ledger.together(tx, ids):
            held = [ledger.claim_store(tx, one, SETTINGS) for one in ids]
            return [ledger.stored(tx, one, RESULT, SETTINGS) for one in held if one is not None]

    assert world.do(fetch) == [True] * 7
    assert {world.state(one) for one in ids} == {"succeeded"}


def test_a_dead_link_finds_the_result_that_the_same_page_brought(world: World) -> None:
    first = world.uncertain()
    world.ring(first.job_id)
    world.do(ledger.settle, SETTINGS)
    second = world.next_attempt(first.job_id)
    world.learn(first, done("task-1"))
    store = world.claim_store(first.job_id)

    def together(tx: Connection) -> None:
        with ledger.together(tx, [first.job_id]):
            hear(tx, second, done("task-2"))
            ledger.not_stored(tx, store, "link_dead", "403", SETTINGS, permanent=True)

    world.do(together)
    row = world.row(first.job_id)
    assert (row["state"], row["result_attempt"]) == ("storing", 2)


def test_a_page_of_fifty_callbacks_is_a_handful_of_statements(world: World) -> None:
    tickets = [world.submitting() for _ in range(50)]
    sent: list[str] = []
    event.listen(
        world.engine, "before_cursor_execute", lambda *told: sent.append(told[2].split()[0])
    )

    def together(tx: Connection) -> None:
        with ledger.together(tx, [ticket.job_id for ticket in tickets]):
            for ticket in tickets:
                hear(tx, ticket, done())

    world.do(together)
    assert [word for word in sent if word != "BEGIN"] == ["SELECT", "SELECT", "UPDATE", "UPDATE"]
    assert {world.state(ticket.job_id) for ticket in tickets} == {"storing"}


def test_a_job_that_is_not_on_the_page_does_not_exist(world: World) -> None:
    on, off = world.submitting(), world.submitting()

    def together(tx: Connection) -> Any:
        with ledger.together(tx, [on.job_id]):
            return hear(tx, off, done())

    assert world.do(together) is ledger.Heard.GONE


def test_late_claims_take_their_permits_from_one_look_at_the_gate(world: World) -> None:
    ids = [world.enqueue() for _ in range(5)]
    world.do(ledger.release_submits, KEY_ID, 5, SETTINGS.permit_ttl)
    with world.engine.begin() as tx:  # the messages were on their way for five seconds
        tx.execute(update(schema.job).values(due_at=after(SETTINGS.permit_ttl - 5)))
    rate_of_three = replace(SETTINGS, rate=12.0)
    sent: list[str] = []

    def claim(tx: Connection) -> list[Ticket | None]:
        with ledger.together(tx, ids):
            return [ledger.claim(tx, one, rate_of_three, callback=True) for one in ids]

    before = the_gate(world).at
    event.listen(world.engine, "before_cursor_execute", lambda *told: sent.append(told[2]))
    tickets = world.do(claim)

    assert [ticket is not None for ticket in tickets] == [True] * 3 + [False] * 2
    assert len([one for one in sent if one.startswith("UPDATE cutwork_gate")]) == 1
    assert len([one for one in sent if "FROM cutwork_gate" in one]) == 2  # to look, and to lock
    assert the_gate(world).free_at - before >= timedelta(seconds=3 / 12)


def the_gate(world: World) -> gate.Gate:
    found = world.do(gate.of, KEY_ID)
    assert found is not None
    return found


def test_a_row_that_goes_on_under_a_page_undoes_all_of_it(world: World) -> None:
    tickets = [world.submitting() for _ in range(2)]

    def together(tx: Connection) -> None:
        with ledger.together(tx, [ticket.job_id for ticket in tickets]):
            for ticket in tickets:
                hear(tx, ticket, done())
            # As a database would have to do that does not keep its locks.
            same = schema.job.c.id == tickets[1].job_id
            tx.execute(update(schema.job).where(same).values(fence=7, due_at=after(1)))

    with pytest.raises(OvertakenError, match="cutwork_job"):
        world.do(together)
    assert {world.state(ticket.job_id) for ticket in tickets} == {"submitting"}


def test_a_page_that_raises_writes_nothing(world: World) -> None:
    ticket = world.submitting()

    def together(tx: Connection) -> None:
        with ledger.together(tx, [ticket.job_id]):
            hear(tx, ticket, done())
            raise LookupError

    with pytest.raises(LookupError):
        world.do(together)
    assert world.state(ticket.job_id) == "submitting"
