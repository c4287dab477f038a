"""The story of a job in each state, and why it does not go on."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from cutwork import gate, jobs, ledger, schema
from cutwork.clock import after
from cutwork.errors import JobNotFound
from cutwork.explain import Explanation, explain
from cutwork.provider import Unavailable
from cutwork.settings import Settings
from cutwork.worker.checking import record
from tests.world import KEY_ID, SETTINGS, World, done, failed, pending


@pytest.fixture
def world(empty_database: object) -> Iterator[World]:
    assert callable(empty_database)
    made = World.at(empty_database("sqlite"))
    yield made
    made.engine.dispose()


def told(world: World, job_id: UUID, settings: Settings = SETTINGS) -> Explanation:
    with world.engine.connect() as tx:
        return explain(tx, job_id, settings)


def words(story: Explanation) -> list[str]:
    return [one.what for one in story.timeline]


def overdue(world: World, job_id: UUID, seconds: float = 60) -> None:
    with world.engine.begin() as tx:
        same = schema.job.c.id == job_id
        tx.execute(update(schema.job).where(same).values(due_at=after(-seconds)))


def test_the_timeline_of_an_ordinary_job(world: World) -> None:
    story = told(world, world.succeeded())

    asked = ["enqueued", "intent", "post", "reply", "callback", "decided", "charge"]
    assert words(story) == [*asked, "lease", "stored"]
    assert [one.at for one in story.timeline] == sorted(one.at for one in story.timeline)
    assert any("task task-1" in one.detail for one in story.timeline)
    assert any("by callback, charged" in one.detail for one in story.timeline)
    assert story.waits == "It waits for nothing."
    assert story.next == "Nothing more."


def test_each_check_is_told_with_the_lease_that_it_was_made_under(world: World) -> None:
    job_id = world.waiting().job_id
    for answer in (Unavailable("HTTP 502: bad gateway"), pending(), done()):
        ticket = world.claim_check(job_id)
        world.do(record, answer=answer, ticket=ticket, settings=world.settings)

    story = told(world, job_id)

    checks = [one.detail for one in story.timeline if one.what == "check"]
    assert checks == [
        "attempt 1, HTTP 502: bad gateway",
        "attempt 1, the provider is not done (state 4)",
        "attempt 1, done (state 1)",
    ]
    leases = [one.detail for one in story.timeline if one.what == "lease"]
    assert leases == [f"attempt 1, for a check, fence {fence}" for fence in (2, 3, 4)]


def test_the_lease_that_a_worker_holds_now_is_told(world: World) -> None:
    ticket = world.storing()

    last = told(world, ticket.job_id).timeline[-1]

    assert last.what == "lease"
    assert f"a worker has it in hand (storing), fence {ticket.fence}, good until" in last.detail


def test_a_lease_that_was_lost_is_told(world: World) -> None:
    job_id = world.storing().job_id
    world.ring(job_id)
    world.claim_store(job_id)

    (lost,) = (one for one in told(world, job_id).timeline if one.what == "lease_lost")

    assert lost.detail == "the worker that had it in hand (storing) never came back"


def test_a_submit_of_unknown_outcome_is_told_with_what_it_may_cost(world: World) -> None:
    job_id = world.uncertain().job_id

    story = told(world, job_id)

    assert any(one.what == "no reply" and "did not come" in one.detail for one in story.timeline)
    assert any(one.detail == "attempt 1 may have been charged" for one in story.timeline)


@pytest.mark.parametrize(("delay", "happened"), [(None, ["not sent"]), (2.0, ["post", "reply"])])
def test_a_post_is_told_unless_it_provably_never_left(
    world: World, delay: float | None, happened: list[str]
) -> None:
    ticket = world.submitting()
    world.do(ledger.not_sent, ticket, "because", delay=delay)

    assert words(told(world, ticket.job_id)) == ["enqueued", "intent", *happened, "decided"]


def test_a_trail_does_not_grow_for_ever_and_keeps_what_the_reply_said(world: World) -> None:
    ticket = world.waiting()
    for _ in range(60):
        world.learn(ticket, pending())

    entries = world.attempt(ticket.job_id)["trail"]

    assert len(entries) == 50
    assert [one["what"] for one in entries] == ["reply", *["callback"] * 49]


def test_a_stopped_key_says_when_it_is_tried_again(world: World) -> None:
    job_id = world.enqueue()
    world.do(gate.refuse, KEY_ID, job_id, "out of credit")

    waits = told(world, job_id).waits

    assert waits.startswith(f"Key {KEY_ID} is stopped, and tried again in ")
    assert "out of credit" in waits


def test_a_budget_that_is_used_up_says_until_when(world: World) -> None:
    world.waiting()
    job_id = world.enqueue()

    waits = told(world, job_id, replace(world.settings, daily_budget=1)).waits

    assert "Today's budget of 1 submits (CUTWORK_DAILY_BUDGET) is used up" in waits
    assert "at 00:00 UTC" in waits


def test_second_tries_that_are_stopped_say_so(world: World) -> None:
    careful = replace(world.settings, guard_count=1, guard_share=1.0)
    tickets = [world.uncertain() for _ in range(3)]
    for ticket in tickets:
        world.ring(ticket.job_id)
    world.do(ledger.settle, careful)

    story = told(world, tickets[0].job_id, careful)

    assert story.state == "uncertain"
    assert "no second try is paid for: 3 of 3 submits" in story.waits


def test_no_link_is_told(world: World) -> None:
    job_id = world.enqueue(image_url="https://shop.example/a.png?signature=hush")
    ticket = world.claim(world.release()[0])
    world.learn(ticket, done())

    text = str(told(world, job_id).to_json())

    assert "https://shop.example/a.png" in text
    assert "hush" not in text
    assert "signature" not in text


def test_an_unknown_job_is_said_to_be_unknown(world: World) -> None:
    with pytest.raises(JobNotFound):
        told(world, uuid4())


def test_events_stand_in_the_timeline(world: World) -> None:
    ticket = world.uncertain()

    story = told(world, ticket.job_id)

    assert words(story)[-1] == "uncertain"
    assert "may or may not have reached the provider (the reply did not come)" in story.stands
    assert story.waits.startswith("It waits up to 120 s for a callback")
    assert "the policy (resubmit) does, in 120 s" in story.next


def test_a_free_queue_has_nothing_in_its_way(world: World) -> None:
    story = told(world, world.enqueue())

    assert story.waits == "Nothing is in its way: it goes on within a moment."
    assert story.next == "It is sent as soon as nothing is in its way."


def test_a_paused_key_says_how_to_resume(world: World) -> None:
    world.do(gate.pause, KEY_ID)

    assert told(world, world.enqueue()).waits == (
        f"Key {KEY_ID} is paused (paused by an operator): `cutwork resume` lets jobs go."
    )


def test_a_throttled_key_says_for_how_long(world: World) -> None:
    world.do(gate.throttle, KEY_ID, 30.0)

    waits = told(world, world.enqueue()).waits

    assert waits.startswith(f"Key {KEY_ID} is closed for ")
    assert "429" in waits


def test_a_key_at_its_rate_says_so(world: World) -> None:
    with world.engine.begin() as tx:
        (one,) = gate.lock(tx, [KEY_ID])
        gate.spend(tx, one, 20, SETTINGS.rate)

    assert "is at its rate of 2/s for " in told(world, world.enqueue()).waits


def test_a_full_provider_says_so(world: World) -> None:
    world.waiting()
    settings = Settings(api_tokens=SETTINGS.api_tokens, max_in_flight=1)

    story = told(world, world.enqueue(), settings)

    assert story.waits == f"Key {KEY_ID} has 1 in flight, which is as many as it may have."


def test_one_open_key_of_two_is_enough(world: World) -> None:
    settings = Settings(api_tokens=(*SETTINGS.api_tokens, "another"))
    world.do(gate.ensure, settings.keys)
    world.do(gate.pause, KEY_ID)

    assert told(world, world.enqueue(), settings).waits.startswith("Nothing is in its way")


def test_no_key_at_all_says_what_to_set(world: World) -> None:
    world.do(lambda tx: tx.execute(schema.gate.delete()))

    assert "see that CUTWORK_API_TOKENS is set" in told(world, world.enqueue()).waits


def test_a_scheduled_job_says_when(world: World) -> None:
    job_id = world.enqueue()
    overdue(world, job_id, -3600)

    story = told(world, job_id)

    assert story.waits in ("It is scheduled: it waits 3600 s for its time.",
                           "It is scheduled: it waits 3599 s for its time.")  # fmt: skip
    assert " UTC." in story.next


def test_a_back_off_says_after_which_error(world: World) -> None:
    ticket = world.submitting()
    world.do(ledger.not_sent, ticket, "the provider cannot be reached", delay=30.0)

    story = told(world, ticket.job_id)

    assert story.waits.endswith("s before the next try, after: the provider cannot be reached.")
    assert any("no task was made, not charged" in one.detail for one in story.timeline)


def test_others_that_go_first_are_counted(world: World) -> None:
    job_id = world.enqueue(priority=9)
    world.enqueue(priority=0)

    assert told(world, job_id).waits == "Others go before it: 1."


def test_a_released_job_waits_for_a_worker(world: World) -> None:
    job_id = world.enqueue()
    world.release()

    assert told(world, job_id).waits == "It waits for a worker to take it from the broker."


def test_a_released_job_that_nobody_takes_points_at_the_workers(world: World) -> None:
    job_id, other = world.enqueue(), world.enqueue()
    world.release(1)
    overdue(world, job_id)

    assert "no worker took it" in told(world, job_id).waits
    assert "The submit lane is stuck, 1 released" in told(world, other).waits


def test_a_busy_lane_says_so(world: World) -> None:
    settings = Settings(api_tokens=SETTINGS.api_tokens, submit_lane=1)
    world.submitting()

    story = told(world, world.enqueue(), settings)

    assert story.waits == "The submit lane is full, with 1 in it."


def test_a_job_that_nobody_releases_points_at_the_reconciler(world: World) -> None:
    job_id = world.enqueue()
    overdue(world, job_id)

    assert told(world, job_id).waits == (
        "It is due since 60 s and nobody released it: see that a reconciler runs."
    )


def test_a_waiting_job_says_when_it_is_asked_about(world: World) -> None:
    story = told(world, world.waiting().job_id)

    assert story.stands == "The provider works on it (task task-1)."
    assert "if nothing is heard it is asked in 10 s" in story.waits


def test_a_task_whose_key_was_taken_away_says_so(world: World) -> None:
    ticket = world.waiting()
    overdue(world, ticket.job_id)

    story = told(world, ticket.job_id, Settings(api_tokens=("another",)))

    assert f"Its key {KEY_ID} is not among CUTWORK_API_TOKENS" in story.waits


def test_a_failed_download_says_why_it_waits(world: World) -> None:
    ticket = world.storing()
    world.do(
        ledger.not_stored,
        ticket,
        "unreachable",
        "the host is away",
        world.settings,
        permanent=False,
    )

    story = told(world, ticket.job_id)

    assert story.waits.endswith("before the result is fetched again, after: the host is away.")


def test_what_a_person_must_decide_is_told(world: World) -> None:
    held = world.storing()
    world.do(
        ledger.not_stored, held, "too_large", "it is too large", world.settings, permanent=True
    )
    over = world.waiting()
    world.learn(over, failed())
    cancelled = world.enqueue()
    with world.engine.begin() as tx:
        jobs.cancel(tx, cancelled)

    assert told(world, held.job_id).stands == (
        "It is held for a person (too_large: it is too large)."
    )
    assert told(world, held.job_id).waits == "It waits for a person."
    assert told(world, over.job_id).stands.startswith("It failed (provider_-7: ")
    assert told(world, cancelled).stands == "It was cancelled."
    assert "`cutwork retry`" in told(world, cancelled).next


def test_a_worker_at_work_is_told(world: World) -> None:
    sending, storing = world.submitting(), world.storing()

    assert told(world, sending.job_id).stands.startswith("A worker is sending attempt 1")
    assert told(world, storing.job_id).waits == "It waits for the worker that has it in hand."
    assert "a worker has it in hand" in told(world, storing.job_id).next
