"""Protections that stand behind others, each alone: no ordinary run shows that they are there."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.exc import OperationalError

from cutwork import gate, guard, ledger, rows, schema
from cutwork.provider import Accepted
from cutwork.states import State
from cutwork.storage import Storage
from cutwork.webhook.inbox import Hearing, Inbox
from cutwork.worker.group import Group
from cutwork.worker.reconciler import Reconciler
from cutwork.worker.submitting import orders, submit
from cutwork.worker.tools import Tools
from tests.house import House
from tests.world import KEY_ID, SETTINGS, World, done


@pytest.fixture
def world(empty_database: Any) -> Iterator[World]:
    made = World.at(empty_database("sqlite"))
    yield made
    made.engine.dispose()


@pytest.mark.parametrize("column", ["state", "fence"])
def test_a_row_that_went_on_is_not_written(world: World, column: str) -> None:
    job_id = world.enqueue()
    with world.engine.begin() as tx:
        seen = rows.locked(tx, job_id)
    on = {"state": State.HELD, "fence": 7}[column]
    with world.engine.begin() as tx:
        tx.execute(update(schema.job).values({column: on}))

    with world.engine.begin() as tx:
        assert seen is not None
        assert not rows.compare_and_set(tx, seen, {"error": "from an older time"})
    assert world.row(job_id)["error"] is None


def test_a_worker_whose_job_was_sent_again_changes_nothing(world: World) -> None:
    slow = world.uncertain()
    world.ring(slow.job_id)
    world.do(ledger.settle, SETTINGS)
    second = world.next_attempt(slow.job_id)
    before = world.row(slow.job_id)

    assert not world.do(ledger.not_sent, slow, "nothing was sent after all")

    assert world.row(slow.job_id) == before
    assert second.fence > slow.fence


def test_a_claim_is_a_lease_that_ends(world: World) -> None:
    ticket = world.submitting()
    row = world.row(ticket.job_id)

    assert row["due_at"] - row["created_at"] < timedelta(hours=1)


def test_the_intent_is_committed_before_the_post(world: World, tmp_path: Path) -> None:
    seen = []

    class Looking:
        def submit(self, *_: object, **__: object) -> Accepted:
            seen.append(world.count(schema.attempt))
            return Accepted("task-1", None)

    job_id = world.enqueue()
    world.release()
    storage, group = Storage.at(tmp_path.as_uri()), Group(world.engine)
    tools = Tools(SETTINGS, world.engine, Looking(), storage, group)  # type: ignore[arg-type]
    submit(tools, *orders(tools, [job_id]))

    assert seen == [1]


def test_a_results_file_is_its_claims_own(empty_database: Any, tmp_path: Path) -> None:
    with House(empty_database("sqlite"), tmp_path, faults={"schedule": {}}) as house:
        job_id = house.enqueue()
        (job,) = house.settle(job_id)
        with house.engine.connect() as tx:
            row = tx.execute(select(schema.job.c.result, schema.job.c.fence)).one()

    assert job.state is State.SUCCEEDED
    for name, one in row.result["files"].items():
        assert one["uri"].rpartition("/")[2].startswith(f"{name}-{row.fence}.")


def test_an_overdue_job_is_asked_about_in_an_otherwise_empty_system(world: World) -> None:
    ticket = world.waiting()
    world.ring(ticket.job_id)
    sent = []
    reconciler = Reconciler(world.engine, SETTINGS, lambda *told: sent.append(told))
    reconciler.run_once()
    reconciler.close()

    assert sent == [("check", [ticket.job_id])]


def test_failures_in_a_row_open_the_breaker(world: World) -> None:
    ticket = world.submitting()
    for _ in range(SETTINGS.breaker_failures):
        world.do(gate.failed, KEY_ID, ticket.job_id, "no connection", SETTINGS)

    found = world.do(gate.of, KEY_ID)
    assert found is not None
    assert found.tripped
    assert found.permits(100.0) == 0


def test_a_half_open_gate_admits_its_probe_alone(world: World) -> None:
    probe, other = world.submitting(), world.submitting()
    for _ in range(SETTINGS.breaker_failures):
        world.do(gate.failed, KEY_ID, probe.job_id, "no connection", SETTINGS)
    with world.engine.begin() as tx:  # the pause is over
        tx.execute(update(schema.gate).values(closed_until=None))

    found = world.do(gate.of, KEY_ID)
    assert found is not None
    assert (found.half_open, found.permits(100.0)) == (True, 1)
    world.do(gate.send_probe, found, probe.job_id, 60.0)

    found = world.do(gate.of, KEY_ID)
    assert found is not None
    assert found.permits(100.0) == 0
    assert found.admits(probe.job_id)
    assert not found.admits(other.job_id)


def test_many_uncertain_submits_stop_every_second_try(world: World) -> None:
    settings = replace(SETTINGS, guard_count=1)
    tickets = [world.uncertain(on_uncertain="resubmit") for _ in range(2)]
    for ticket in tickets:
        world.ring(ticket.job_id)

    assert world.do(guard.stops_second_tries, settings) is not None
    world.do(ledger.settle, settings)

    assert {world.state(ticket.job_id) for ticket in tickets} == {State.UNCERTAIN}


def test_a_callback_whose_commit_fails_is_not_answered(world: World) -> None:
    ticket = world.waiting()

    def broken(_connection: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("the disk is full"))

    event.listen(world.engine, "commit", broken)
    inbox = Inbox(world.engine, SETTINGS)
    answer = inbox.put(Hearing(ticket.job_id, 1, done()))

    with pytest.raises(OperationalError, match="the disk is full"):
        answer.result(30)
    inbox.close()
    event.remove(world.engine, "commit", broken)
    assert world.state(ticket.job_id) is State.WAITING
