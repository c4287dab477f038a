"""Callbacks that are as nearly all are: one statement does what the verbs would have done."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text, update
from sqlalchemy.exc import DataError

from cutwork import ledger, schema
from cutwork.ledger import Heard, Ticket
from cutwork.report import Report
from cutwork.rows import LONGEST_TRAIL, MOST
from cutwork.states import State
from cutwork.webhook.inbox import Hearing, Inbox
from tests.world import LINK, RESULT, SETTINGS, World, done, failed, pending

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def world(empty_database: Callable[[str], str]) -> Iterator[World]:
    made = World.at(empty_database("postgresql"))
    yield made
    made.engine.dispose()


def complete(world: World, *news: tuple[UUID, int, Report | None]) -> list[Any]:
    return world.do(lambda tx: ledger.complete(tx, news, world.settings))


def change(world: World, table: Any, job_id: UUID, **values: Any) -> None:
    column = table.c.id if table is schema.job else table.c.job_id
    with world.engine.begin() as tx:
        tx.execute(update(table).where(column == job_id).values(**values))


# --- how a job can stand when its callback comes -------------------------------------------------


def checked(world: World) -> UUID:
    return world.claim_check(world.waiting().job_id).job_id


def named(world: World) -> UUID:
    job_id = world.waiting().job_id
    world.ring(job_id)
    world.do(ledger.release_checks, *SETTINGS.keys, 10, 30.0)
    return job_id


def rung(world: World) -> UUID:
    ticket = world.waiting()
    world.do(ledger.ring, ticket.job_id, 1, pending())
    return ticket.job_id


def asked_in_vain(world: World) -> UUID:
    ticket = world.claim_check(world.waiting().job_id)
    assert world.do(ledger.unanswered, ticket, SETTINGS, "still at work")
    return ticket.job_id


def without_a_trail(world: World) -> UUID:
    job_id = world.waiting().job_id
    change(world, schema.attempt, job_id, trail=None, accepted_at=None, detail="half done")
    return job_id


def known_from_a_callback(world: World) -> UUID:
    ticket = world.uncertain()
    assert world.do(ledger.ring, ticket.job_id, 1, pending()) is Heard.MOVED
    return ticket.job_id


def wanted(output_type: int | None) -> Callable[[World], UUID]:
    def make(world: World) -> UUID:
        job_id = world.waiting(output_type=output_type or 2).job_id
        if output_type is None:
            asked = {k: v for k, v in world.row(job_id)["request"].items() if k != "output_type"}
            change(world, schema.job, job_id, request=asked)
        return job_id

    return make


def with_a_full_trail(world: World) -> UUID:
    job_id = world.waiting().job_id
    (first,) = world.attempt(job_id)["trail"]
    change(world, schema.attempt, job_id, trail=[first] * LONGEST_TRAIL)
    return job_id


def called_too_often(world: World) -> UUID:
    job_id = world.waiting().job_id
    change(world, schema.attempt, job_id, callbacks=MOST)
    return job_id


def linked_anew(world: World) -> UUID:
    ticket = world.storing()
    assert world.do(ledger.not_stored, ticket, "link_dead", "410", SETTINGS, permanent=False)
    assert world.state(ticket.job_id) is State.WAITING
    return ticket.job_id


def tried_again(world: World) -> UUID:
    ticket = world.waiting()
    assert world.learn(ticket, failed(-9)) is Heard.MOVED
    second = world.next_attempt(ticket.job_id)
    assert world.learn(second, pending(), "reply") is Heard.MOVED
    return ticket.job_id


def made_twice(world: World) -> UUID:
    ticket = world.uncertain(on_uncertain="hold")
    world.ring(ticket.job_id)
    assert world.do(ledger.settle, SETTINGS) == 1
    assert world.do(ledger.retry, ticket.job_id, SETTINGS) is State.QUEUED  # which nobody stops
    second = world.next_attempt(ticket.job_id)
    assert world.learn(second, pending("task-2"), "reply") is Heard.MOVED
    assert world.do(ledger.ring, ticket.job_id, 1, pending()) is Heard.NOTED
    assert world.attempt(ticket.job_id)["state"] == "accepted"
    return ticket.job_id


def without_a_task(world: World) -> UUID:
    job_id = world.waiting().job_id
    change(world, schema.attempt, job_id, task_id=None)
    return job_id


def fetched(world: World) -> UUID:
    job_id = world.succeeded()
    change(world, schema.job, job_id, result=RESULT)  # it says when: that is the job's own
    return job_id


def held(world: World) -> UUID:
    job_id = world.enqueue()
    assert job_id in world.release()
    assert world.do(ledger.put_back, job_id, "no such file", permanent=True)
    return job_id


def refused(world: World) -> UUID:
    ticket = world.waiting()
    assert world.learn(ticket, failed()) is Heard.MOVED
    return ticket.job_id


def cancelled(world: World) -> UUID:
    ticket = world.waiting()
    world.do(ledger.cancel, ticket.job_id)
    return ticket.job_id


def of(make: Callable[[World], Ticket]) -> Callable[[World], UUID]:
    return lambda world: make(world).job_id


USUAL: dict[str, Callable[[World], UUID]] = {
    "waiting": of(World.waiting),
    "named for a check": named,
    "being checked": checked,
    "rung": rung,
    "asked in vain": asked_in_vain,
    "without a trail": without_a_trail,
    "known from a callback": known_from_a_callback,
    "a picture and a mask": wanted(1),
    "a mask": wanted(3),
}
OTHERS: dict[str, Callable[[World], UUID]] = {
    "queued": World.enqueue,
    "submitting": of(World.submitting),
    "uncertain": of(World.uncertain),
    "storing": of(World.storing),
    "succeeded": fetched,
    "held": held,
    "failed": refused,
    "cancelled": cancelled,
    "linked anew": linked_anew,
    "tried again": tried_again,
    "made twice": made_twice,
    "without a task": without_a_task,
    "with a full trail": with_a_full_trail,
    "called too often": called_too_often,
    "of unknown output": wanted(None),
}
ONE_LINK = replace(done(), mask=None)
REPORTS: dict[str, tuple[int, Report | None]] = {
    "done": (1, replace(done(), detail="all is well", seconds=2.5, image_width=64)),
    "only a picture": (1, ONE_LINK),
    "only a mask": (1, replace(done(), image=None)),
    "of another task": (1, done("task-2")),
    "of no task": (1, done(None)),
    "failed": (1, failed()),
    "pending": (1, pending()),
    "unreadable": (1, None),
    "of a second attempt": (2, done()),
}


def is_usual(situation: str, said: str) -> bool:
    enough = {
        "done": set(USUAL),
        "only a picture": USUAL.keys() - {"a mask", "a picture and a mask"},
        "only a mask": {"a mask"},
    }
    return situation in enough.get(said, ())


@pytest.mark.parametrize("situation", [*USUAL, *OTHERS])
def test_it_leaves_the_rows_that_the_verbs_leave(world: World, situation: str) -> None:
    make = {**USUAL, **OTHERS}[situation]
    for said, (number, report) in REPORTS.items():
        one, other = make(world), make(world)

        by_verbs = world.do(ledger.hear, one, number, report, SETTINGS)
        (about,) = complete(world, (other, number, report))

        assert (about is not None) == is_usual(situation, said), said
        if about is None:
            assert world.do(ledger.hear, other, number, report, SETTINGS) is by_verbs
        else:
            assert by_verbs is Heard.MOVED
        assert world.story(other) == world.story(one), said


def test_its_moments_are_those_of_the_databases_clock(world: World) -> None:
    job_id = world.waiting().job_id

    complete(world, (job_id, 1, done()))

    row, made = world.row(job_id), world.attempt(job_id)
    (told,) = [entry for entry in made["trail"] if entry["what"] == "callback"]
    at = datetime.fromisoformat(told["at"])
    assert at == made["heard_at"] == made["finished_at"] == row["due_at"]
    assert row["result_expires_at"] - at == timedelta(seconds=SETTINGS.result_ttl)
    assert at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)


def test_it_tells_what_log_lines_name(world: World) -> None:
    ticket = world.waiting()
    change(world, schema.job, ticket.job_id, trace=TRACE)

    (about,) = complete(world, (ticket.job_id, 1, done()))

    assert about == (ticket.facts | {"trace": TRACE.split("-")[1]}, TRACE)


def test_of_many_each_gets_its_own_and_the_others_are_left(world: World) -> None:
    ids = [world.waiting().job_id for _ in range(5)]
    links = [f"{LINK}&n={n}" for n in range(5)]
    refused_id, nobody = refused(world), uuid4()
    news: list[tuple[UUID, int, Report | None]] = [
        (one, 1, done(image=link)) for one, link in zip(ids, links, strict=True)
    ]
    news[2:2] = [(refused_id, 1, done()), (nobody, 1, done()), (ids[0], 1, done())]

    about = complete(world, *news)

    assert [one is not None for one in about] == [True, True, False, False, False, *[True] * 3]
    assert [world.attempt(one)["report"]["image"] for one in ids] == links
    assert world.state(refused_id) is State.FAILED


def test_callbacks_that_are_not_trusted_complete_nothing(world: World) -> None:
    job_id = world.waiting().job_id
    world.settings = replace(SETTINGS, callback_trust="verify")

    assert complete(world, (job_id, 1, done())) == [None]
    assert world.state(job_id) is State.WAITING


# --- somebody else is just at the same job -------------------------------------------------------


def meanwhile(world: World, first: Callable[[Connection], Any], job_id: UUID) -> list[Any]:
    """``first`` has the job when its callback comes, and commits while it is waited for."""
    with ThreadPoolExecutor(1) as pool:
        with world.engine.connect() as tx:
            first(tx)
            coming = pool.submit(complete, world, (job_id, 1, done()))
            until_somebody_waits(world)
            tx.commit()
        return coming.result(10)


def until_somebody_waits(world: World) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )
    pause = threading.Event()
    for _ in range(500):
        with world.engine.connect() as tx:
            if tx.execute(waiting).scalar_one():
                return
        pause.wait(0.01)
    raise AssertionError("nobody waits for the job")


def test_a_job_that_went_on_is_left(world: World) -> None:
    job_id = world.waiting().job_id

    assert meanwhile(world, lambda tx: ledger.cancel(tx, job_id), job_id) == [None]

    assert world.state(job_id) is State.CANCELLED
    assert world.attempt(job_id)["state"] == "accepted"


def test_what_was_noted_meanwhile_stays(world: World) -> None:
    job_id = world.waiting().job_id

    (about,) = meanwhile(world, lambda tx: ledger.ring(tx, job_id, 1, pending()), job_id)

    made = world.attempt(job_id)
    assert about is not None
    assert (made["state"], made["callbacks"]) == ("succeeded", 2)
    assert [entry["what"] for entry in made["trail"]] == ["reply", "callback", "callback"]


def reply_of_another_task(tx: Connection, job_id: UUID) -> None:
    heard = ledger.learn(tx, job_id, 1, pending("task-2"), "reply", SETTINGS)
    assert heard is Heard.WRONG_TASK


def test_a_picture_is_not_taken_when_the_reply_just_names_another_task(world: World) -> None:
    job_id = known_from_a_callback(world)

    with pytest.raises(DataError, match="an attempt went on"):
        meanwhile(world, lambda tx: reply_of_another_task(tx, job_id), job_id)

    assert world.state(job_id) is State.WAITING
    assert world.attempt(job_id)["state"] == "accepted"


def test_callbacks_are_heard_alone_when_one_was_overtaken(world: World) -> None:
    job_id, others = known_from_a_callback(world), [world.waiting().job_id for _ in range(3)]
    inbox = Inbox(world.engine, SETTINGS)
    hearings = [Hearing(one, 1, done()) for one in [job_id, *others]]
    with ThreadPoolExecutor(1) as pool:
        with world.engine.connect() as tx:
            reply_of_another_task(tx, job_id)
            coming = pool.submit(inbox._settle, hearings)
            until_somebody_waits(world)
            tx.commit()
        coming.result(10)

    heard = [one.answer.result(0) for one in hearings]
    assert heard == [Heard.WRONG_TASK, *[Heard.MOVED] * 3]
