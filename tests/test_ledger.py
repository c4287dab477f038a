"""Each arrow of the state diagram, on every database, with the worker that comes too late."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import update

from cutwork import gate, ledger, schema
from cutwork.errors import JobNotFound, WrongState
from cutwork.ledger import Heard
from cutwork.report import Report
from cutwork.states import State
from tests.world import KEY_ID, LINK, RESULT, SETTINGS, World, done, failed, pending


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


# --- submits -----------------------------------------------------------------------------------


def test_a_released_job_is_claimed_once(world: World) -> None:
    job_id = world.enqueue()
    assert world.release() == [job_id]
    first = world.do(ledger.claim, job_id, SETTINGS, callback=True)
    second = world.do(ledger.claim, job_id, SETTINGS, callback=True)
    assert first is not None
    assert second is None
    assert world.state(job_id) == State.SUBMITTING
    assert world.attempt(job_id)["state"] == "sending"


def test_a_job_that_was_not_released_cannot_be_claimed(world: World) -> None:
    job_id = world.enqueue()
    assert world.do(ledger.claim, job_id, SETTINGS, callback=True) is None
    assert world.state(job_id) == State.QUEUED


def test_a_permit_that_ran_out_is_not_used(world: World) -> None:
    job_id = world.enqueue()
    world.release()
    world.ring(job_id)
    assert world.do(ledger.claim, job_id, SETTINGS, callback=True) is None
    assert world.count(schema.attempt) == 0


def test_a_released_job_is_not_released_again_before_its_permit_runs_out(world: World) -> None:
    job_id = world.enqueue()
    assert world.release() == [job_id]
    assert world.release() == []
    world.ring(job_id)
    assert world.release() == [job_id]


def test_a_recalled_job_is_due_at_once(world: World) -> None:
    job_id = world.enqueue()
    world.release()
    world.do(ledger.recall, [job_id])
    assert world.do(ledger.claim, job_id, SETTINGS, callback=True) is None
    assert world.release() == [job_id]


def test_lower_priorities_go_first_and_equals_in_the_order_they_came(world: World) -> None:
    last = world.enqueue(priority=9)
    second, third = world.enqueue(), world.enqueue()
    first = world.enqueue(priority=0)
    assert world.release() == [first, second, third, last]


def test_release_takes_no_more_than_it_may(world: World) -> None:
    world.enqueue(), world.enqueue()
    assert len(world.release(1)) == 1
    assert world.release(0) == []


def test_nothing_sent_puts_the_job_back_and_owes_nothing(world: World) -> None:
    ticket = world.submitting()
    assert world.do(ledger.not_sent, ticket, "no route", delay=0)
    assert world.state(ticket.job_id) == State.QUEUED
    assert world.attempt(ticket.job_id)["state"] == "void"


def test_a_rejected_request_fails_with_its_reason(world: World) -> None:
    ticket = world.submitting()
    assert world.do(ledger.rejected, ticket, "rejected_400", "bad field")
    job = world.job(ticket.job_id)
    assert job.state == State.FAILED
    assert job.error == {"code": "rejected_400", "message": "bad field"}
    assert job.finished_at is not None
    assert job.due_at is None


def test_an_unreadable_input_is_tried_again_and_then_held(world: World) -> None:
    job_id = world.enqueue()
    for _ in range(10):
        world.ring(job_id)
        world.release()
        assert world.do(ledger.put_back, job_id, "no such file")
    job = world.job(job_id)
    assert job.state == State.HELD
    assert job.error == {"code": "input_unreadable", "message": "no such file"}
    assert world.count(schema.attempt) == 0


@pytest.mark.parametrize("permanent", [False, True])
def test_a_probe_that_cannot_be_prepared_makes_room_for_another(
    world: World, permanent: bool
) -> None:
    job_id = world.enqueue()
    world.ring(job_id)
    world.release()
    with world.engine.begin() as tx:
        (found,) = gate.lock(tx, [KEY_ID])
        gate.send_probe(tx, found, job_id, 60.0)

    world.do(ledger.put_back, job_id, "no such file", permanent=permanent)

    with world.engine.begin() as tx:
        assert [one.probe for one in gate.lock(tx, [KEY_ID])] == [None]


# --- uncertain ---------------------------------------------------------------------------------


def test_a_lost_reply_makes_the_submit_uncertain_and_says_so(world: World) -> None:
    ticket = world.uncertain()
    assert world.state(ticket.job_id) == State.UNCERTAIN
    assert world.attempt(ticket.job_id)["state"] == "uncertain"
    assert world.events(ticket.job_id) == ["uncertain"]


def test_a_dead_workers_submit_becomes_uncertain_when_its_lease_runs_out(world: World) -> None:
    ticket = world.submitting()
    assert world.do(ledger.lapse, SETTINGS) == 0
    world.ring(ticket.job_id)
    assert world.do(ledger.lapse, SETTINGS) == 1
    assert world.state(ticket.job_id) == State.UNCERTAIN


def test_a_callback_proves_an_uncertain_submit(world: World) -> None:
    ticket = world.uncertain()
    assert world.learn(ticket, pending("task-9")) is Heard.MOVED
    assert world.state(ticket.job_id) == State.WAITING
    assert world.job(ticket.job_id).task_id == "task-9"


def test_the_reply_of_a_slow_worker_still_counts(world: World) -> None:
    ticket = world.submitting()
    world.ring(ticket.job_id)
    world.do(ledger.lapse, SETTINGS)
    assert world.learn(ticket, pending(), "reply") is Heard.MOVED
    assert world.state(ticket.job_id) == State.WAITING


def test_a_proof_that_comes_before_the_second_submit_saves_it(world: World) -> None:
    ticket = world.uncertain()
    world.ring(ticket.job_id)
    world.do(ledger.settle, SETTINGS)
    assert world.state(ticket.job_id) == State.QUEUED
    world.release()
    assert world.learn(ticket, pending()) is Heard.MOVED
    assert world.do(ledger.claim, ticket.job_id, SETTINGS, callback=True) is None
    assert world.state(ticket.job_id) == State.WAITING


@pytest.mark.parametrize(
    ("policy", "state"),
    [("resubmit", State.QUEUED), ("hold", State.HELD), ("fail", State.FAILED)],
)
def test_the_jobs_own_policy_decides_after_the_grace(
    world: World, policy: str, state: State
) -> None:
    ticket = world.uncertain(on_uncertain=policy)
    assert world.do(ledger.settle, SETTINGS) == 0
    world.ring(ticket.job_id)
    assert world.do(ledger.settle, SETTINGS) == 1
    assert world.state(ticket.job_id) == state


def test_a_job_is_held_when_its_paid_attempts_are_used_up(world: World) -> None:
    ticket = world.uncertain(max_paid_attempts=2)
    world.ring(ticket.job_id)
    world.do(ledger.settle, SETTINGS)
    second = world.next_attempt(ticket.job_id)
    world.do(ledger.lost, second, "again", SETTINGS)
    world.ring(ticket.job_id)
    world.do(ledger.settle, SETTINGS)
    assert world.state(ticket.job_id) == State.HELD
    assert world.events(ticket.job_id) == ["uncertain", "resubmitted", "uncertain", "held"]


# --- reports -----------------------------------------------------------------------------------


def test_the_early_callback_overtakes_the_reply_and_is_not_lost(world: World) -> None:
    ticket = world.submitting()
    assert world.learn(ticket, done("task-1")) is Heard.MOVED
    assert world.learn(ticket, pending("task-1"), "reply") is Heard.KNOWN
    assert world.state(ticket.job_id) == State.STORING
    assert world.job(ticket.job_id).task_id == "task-1"


def test_a_repeated_callback_changes_nothing_and_is_noted_once(world: World) -> None:
    ticket = world.waiting()
    assert world.learn(ticket, done()) is Heard.MOVED
    before = world.row(ticket.job_id)
    assert [world.learn(ticket, done()) for _ in range(3)] == [Heard.KNOWN] * 3
    assert world.row(ticket.job_id) == before
    assert world.events(ticket.job_id) == ["duplicate"]


def test_progress_after_the_end_changes_nothing(world: World) -> None:
    ticket = world.waiting()
    world.learn(ticket, done())
    assert world.learn(ticket, pending()) is Heard.KNOWN
    assert world.state(ticket.job_id) == State.STORING


def test_a_job_succeeds_with_its_files_and_who_decided(world: World) -> None:
    job_id = world.succeeded()
    job = world.job(job_id)
    assert job.state == State.SUCCEEDED
    assert job.decided_by == "callback"
    assert job.image == RESULT["files"]["image"]["uri"]
    assert job.error is None
    assert job.due_at is None


def test_a_callback_for_a_failed_job_brings_its_result_home(world: World) -> None:
    ticket = world.uncertain(on_uncertain="fail")
    world.ring(ticket.job_id)
    world.do(ledger.settle, SETTINGS)
    assert world.learn(ticket, done()) is Heard.MOVED
    assert world.state(ticket.job_id) == State.STORING
    assert "late" in world.events(ticket.job_id)


def test_a_cancelled_job_keeps_a_late_result_on_its_attempt_only(world: World) -> None:
    ticket = world.waiting()
    world.do(ledger.cancel, ticket.job_id)
    assert world.learn(ticket, done()) is Heard.LATE
    assert world.state(ticket.job_id) == State.CANCELLED
    assert world.attempt(ticket.job_id)["state"] == "succeeded"
    assert world.attempt(ticket.job_id)["report"]["image"] == LINK


def test_a_result_of_an_older_attempt_is_kept_and_the_second_charge_is_noted(
    world: World,
) -> None:
    first = world.uncertain()
    world.ring(first.job_id)
    world.do(ledger.settle, SETTINGS)
    second = world.next_attempt(first.job_id)
    world.learn(second, pending("task-2"), "reply")
    assert world.learn(first, done("task-1")) is Heard.MOVED
    assert world.row(first.job_id)["result_attempt"] == 1
    assert world.learn(second, done("task-2")) is Heard.NOTED
    assert "second_charge" in world.events(first.job_id)


def test_a_provider_failure_worth_another_try_is_tried_again(world: World) -> None:
    ticket = world.waiting()
    assert world.learn(ticket, failed(-9)) is Heard.MOVED
    assert world.state(ticket.job_id) == State.QUEUED
    second = world.next_attempt(ticket.job_id)
    world.learn(second, pending("task-2"), "reply")
    assert world.learn(second, failed(-9, "task-2")) is Heard.MOVED
    assert world.state(ticket.job_id) == State.FAILED


def test_a_source_that_could_not_be_fetched_is_tried_once_more(world: World) -> None:
    ticket = world.waiting(max_paid_attempts=9)
    world.learn(ticket, failed(-3))
    second = world.next_attempt(ticket.job_id)
    world.learn(second, failed(-3, None), "reply")
    job = world.job(ticket.job_id)
    assert job.state == State.FAILED
    assert job.error is not None
    assert job.error["code"] == "provider_-3"


def test_a_failure_that_cannot_be_helped_ends_the_job_at_once(world: World) -> None:
    ticket = world.waiting()
    world.learn(ticket, failed(-7))
    assert world.state(ticket.job_id) == State.FAILED


def test_a_failure_of_an_older_attempt_does_not_touch_the_present_one(world: World) -> None:
    first = world.uncertain()
    world.ring(first.job_id)
    world.do(ledger.settle, SETTINGS)
    world.next_attempt(first.job_id)
    assert world.learn(first, failed(-7)) is Heard.NOTED
    assert world.state(first.job_id) == State.SUBMITTING


def test_a_callback_that_names_another_task_completes_nothing(world: World) -> None:
    ticket = world.waiting()
    assert world.learn(ticket, done("task-of-somebody-else")) is Heard.WRONG_TASK
    assert world.state(ticket.job_id) == State.WAITING
    assert world.job(ticket.job_id).task_id == "task-1"


def test_the_reply_corrects_an_early_callback_that_lied_about_its_task(world: World) -> None:
    ticket = world.submitting()
    world.learn(ticket, done("task-of-somebody-else"))
    assert world.state(ticket.job_id) == State.STORING
    assert world.learn(ticket, pending("task-1"), "reply") is Heard.WRONG_TASK
    assert world.state(ticket.job_id) == State.WAITING
    assert world.job(ticket.job_id).task_id == "task-1"
    assert world.learn(ticket, done("task-1"), "poll") is Heard.MOVED


@pytest.mark.parametrize("trust", ["payload", "confirm"])
def test_of_two_callbacks_that_disagree_the_one_that_tells_an_end_is_asked_about(
    world: World, trust: str
) -> None:
    ticket, settings = world.uncertain(), replace(SETTINGS, callback_trust=trust)
    for report in (pending("task-of-somebody-else"), pending("task-1"), done("task-2")):
        world.do(ledger.hear, ticket.job_id, 1, report, settings)
        assert world.state(ticket.job_id) == State.WAITING
    assert world.claim_check(ticket.job_id).task_id == "task-2"


def test_a_claim_of_success_that_names_another_task_is_asked_about_though_the_job_failed(
    world: World,
) -> None:
    ticket = world.uncertain(on_uncertain="fail")
    world.learn(ticket, pending("task-of-somebody-else"))
    with world.engine.begin() as tx:
        same = schema.job.c.id == ticket.job_id
        tx.execute(update(schema.job).where(same).values(state="failed", due_at=None))
    assert world.learn(ticket, done("task-1")) is Heard.WRONG_TASK
    assert world.claim_check(ticket.job_id).task_id == "task-1"


def test_no_callback_renames_a_task_that_the_reply_named_however_long_its_trail(
    world: World,
) -> None:
    ticket = world.waiting()
    for _ in range(60):
        world.do(ledger.hear, ticket.job_id, 1, None, SETTINGS)
    assert len(world.attempt(ticket.job_id)["trail"]) == 50
    assert world.learn(ticket, done("task-2")) is Heard.WRONG_TASK
    assert world.claim_check(ticket.job_id).task_id == "task-1"


def test_a_task_that_only_a_callback_named_is_asked_about(world: World) -> None:
    ticket = world.uncertain()
    world.do(ledger.ring, ticket.job_id, 1, pending("task-1"))
    assert world.learn(ticket, done("task-1"), "poll") is Heard.MOVED


@pytest.mark.parametrize("report", [done(), failed()], ids=["done", "failed"])
def test_the_end_of_a_task_that_another_job_is_known_by_is_not_believed(
    world: World, report: Report
) -> None:
    other, ticket = world.waiting(), world.uncertain()
    world.do(ledger.ring, ticket.job_id, 1, done("task-1"))
    assert world.learn(ticket, report, "poll") is Heard.WRONG_TASK
    job = world.job(ticket.job_id)
    assert job.state == State.HELD
    assert job.error is not None
    assert job.error["code"] == "wrong_task"
    assert str(other.job_id) in job.error["message"]
    assert world.learn(other, report, "poll") is Heard.MOVED


def test_an_answer_about_anothers_task_does_not_stop_a_result_that_came_meanwhile(
    world: World,
) -> None:
    world.waiting()
    ticket = world.uncertain()
    world.learn(ticket, pending("task-1"))
    world.claim_check(ticket.job_id)
    assert world.learn(ticket, done("task-1")) is Heard.MOVED
    assert world.learn(ticket, done("task-1"), "poll") is Heard.WRONG_TASK
    assert world.state(ticket.job_id) == State.STORING


def test_no_fresh_link_is_taken_from_a_task_that_another_job_is_known_by(world: World) -> None:
    world.waiting()
    ticket = world.uncertain()
    assert world.learn(ticket, done("task-1")) is Heard.MOVED
    store = world.claim_store(ticket.job_id)
    world.do(ledger.not_stored, store, "link_dead", "403", SETTINGS, permanent=True)
    assert world.learn(ticket, done("task-1"), "poll") is Heard.WRONG_TASK
    job = world.job(ticket.job_id)
    assert job.state == State.HELD
    assert job.error is not None
    assert job.error["code"] == "result_gone"


def test_a_task_that_a_reply_may_still_claim_is_not_taken_yet(world: World) -> None:
    ticket, other = world.uncertain(), world.submitting()
    world.do(ledger.ring, ticket.job_id, 1, done("task-1"))
    assert world.learn(ticket, done("task-1"), "poll") is Heard.UNSURE
    assert world.state(ticket.job_id) == State.WAITING
    world.learn(other, pending("task-2"), "reply")
    assert world.learn(ticket, done("task-1"), "poll") is Heard.MOVED


def test_a_callback_without_what_was_asked_for_only_rings_the_alarm(world: World) -> None:
    ticket = world.waiting(output_type=3)
    report = replace(done(), mask=None)
    heard = world.do(ledger.hear, ticket.job_id, 1, report, SETTINGS)
    assert heard is Heard.NOTED
    assert world.state(ticket.job_id) == State.WAITING
    assert world.do(ledger.release_checks, KEY_ID, 10, 30.0) == [ticket.job_id]


def test_under_confirm_a_callback_only_rings_the_alarm(world: World) -> None:
    ticket = world.submitting()
    settings = replace(SETTINGS, callback_trust="confirm")
    assert world.do(ledger.hear, ticket.job_id, 1, done(), settings) is Heard.MOVED
    assert world.state(ticket.job_id) == State.WAITING
    assert world.job(ticket.job_id).task_id == "task-1"
    assert world.do(ledger.release_checks, KEY_ID, 10, 30.0) == [ticket.job_id]


def test_an_unreadable_callback_proves_that_the_submit_arrived(world: World) -> None:
    ticket = world.uncertain()
    assert world.do(ledger.hear, ticket.job_id, 1, None, SETTINGS) is Heard.MOVED
    assert world.state(ticket.job_id) == State.WAITING


def test_a_flood_of_hints_asks_the_provider_once(world: World) -> None:
    ticket = world.waiting()
    world.do(ledger.hear, ticket.job_id, 1, None, SETTINGS)
    assert world.do(ledger.release_checks, KEY_ID, 10, 30.0) == [ticket.job_id]
    check = world.do(ledger.claim_check, ticket.job_id, SETTINGS)
    assert check is not None
    world.do(ledger.unanswered, check, SETTINGS, "not yet")
    for _ in range(5):
        world.do(ledger.hear, ticket.job_id, 1, None, SETTINGS)
    assert world.do(ledger.release_checks, KEY_ID, 10, 30.0) == []


def test_a_report_about_a_purged_job_finds_nothing(world: World) -> None:
    nobody = UUID(int=7)
    assert world.do(ledger.learn, nobody, 1, done(), "callback", SETTINGS) is Heard.GONE
    assert world.do(ledger.hear, nobody, 1, None, SETTINGS) is Heard.GONE


# --- checks ------------------------------------------------------------------------------------


def test_checks_come_less_and_less_often(world: World) -> None:
    ticket = world.waiting()
    waits = []
    for _ in range(4):
        check = world.claim_check(ticket.job_id)
        assert world.do(ledger.unanswered, check, SETTINGS, "not yet")
        row = world.row(ticket.job_id)
        at = world.attempt(ticket.job_id)
        waits.append((row["due_at"] - at["accepted_at"]).total_seconds())
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]
    assert world.attempt(ticket.job_id)["checks"] == 4


def test_a_job_without_a_final_answer_is_held_in_the_end(world: World) -> None:
    world.settings = replace(SETTINGS, wait_timeout=0.0)
    ticket = world.waiting()
    for _ in range(5):
        assert world.state(ticket.job_id) == State.WAITING
        check = world.claim_check(ticket.job_id)
        world.do(ledger.unanswered, check, world.settings, "still at 4")
    job = world.job(ticket.job_id)
    assert job.state == State.HELD
    assert job.error is not None
    assert job.error["code"] == "no_answer"


def test_a_task_the_provider_forgot_is_asked_about_again_while_it_is_young(world: World) -> None:
    ticket = world.waiting()
    world.do(ledger.task_gone, world.claim_check(ticket.job_id), SETTINGS)
    assert world.state(ticket.job_id) == State.WAITING
    old = replace(SETTINGS, uncertain_grace=0.0)
    world.do(ledger.task_gone, world.claim_check(ticket.job_id), old)
    job = world.job(ticket.job_id)
    assert job.state == State.HELD
    assert job.error is not None
    assert job.error["code"] == "task_gone"


def test_a_check_that_was_overtaken_by_the_callback_changes_nothing(world: World) -> None:
    ticket = world.waiting()
    check = world.claim_check(ticket.job_id)
    world.learn(ticket, done())
    before = world.row(ticket.job_id)
    assert not world.do(ledger.unanswered, check, SETTINGS, "not yet")
    assert world.row(ticket.job_id) == before


def test_a_check_whose_lease_ran_out_cannot_reschedule_its_successors_job(world: World) -> None:
    ticket = world.waiting()
    slow = world.claim_check(ticket.job_id)
    world.claim_check(ticket.job_id)
    before = world.row(ticket.job_id)
    assert not world.do(ledger.unanswered, slow, SETTINGS, "not yet")
    assert world.row(ticket.job_id) == before


def test_a_job_whose_key_was_taken_away_waits_for_its_callback_and_is_held_in_the_end(
    world: World,
) -> None:
    ticket = world.waiting()
    rotated = replace(SETTINGS, api_tokens=("a-newer-key",))
    world.ring(ticket.job_id)
    assert world.do(ledger.adrift, SETTINGS) == 0
    assert world.do(ledger.adrift, rotated) == 1
    assert world.state(ticket.job_id) == State.WAITING
    assert world.do(ledger.adrift, rotated) == 0
    world.ring(ticket.job_id)
    world.do(ledger.adrift, replace(rotated, wait_timeout=0.0))
    job = world.job(ticket.job_id)
    assert job.state == State.HELD
    assert job.error is not None
    assert job.error["code"] == "key_gone"
    assert world.learn(ticket, done()) is Heard.MOVED


def test_a_refused_question_does_not_count_against_an_old_job(world: World) -> None:
    world.settings = replace(SETTINGS, wait_timeout=0.0)
    ticket = world.waiting()
    for _ in range(8):
        check = world.claim_check(ticket.job_id)
        world.do(ledger.unanswered, check, world.settings, "429", delay=0)
    assert world.state(ticket.job_id) == State.WAITING


def test_a_failure_that_was_known_is_not_asked_about_for_ever(world: World) -> None:
    ticket = world.waiting()
    world.learn(ticket, failed(-9))
    assert world.do(ledger.hear, ticket.job_id, 1, None, SETTINGS) is Heard.NOTED
    assert world.state(ticket.job_id) == State.QUEUED


def test_the_claim_of_a_success_of_a_failed_job_is_asked_about(world: World) -> None:
    settings = replace(SETTINGS, callback_trust="confirm")
    ticket = world.uncertain(on_uncertain="fail")
    world.ring(ticket.job_id)
    world.do(ledger.settle, settings)
    assert world.do(ledger.hear, ticket.job_id, 1, done(), settings) is Heard.MOVED
    assert world.do(ledger.release_checks, KEY_ID, 10, 30.0) == [ticket.job_id]
    assert world.learn(ticket, done(), "poll") is Heard.MOVED
    assert world.state(ticket.job_id) == State.STORING


def test_an_unreadable_callback_of_a_job_that_ended_without_its_tasks_end_is_asked_about(
    world: World,
) -> None:
    ticket = world.uncertain(on_uncertain="fail")
    world.ring(ticket.job_id)
    world.do(ledger.settle, SETTINGS)
    assert world.do(ledger.hear, ticket.job_id, 1, None, SETTINGS) is Heard.NOTED
    assert world.state(ticket.job_id) == State.FAILED
    world.learn(ticket, pending(), "reply")
    assert world.do(ledger.hear, ticket.job_id, 1, None, SETTINGS) is Heard.MOVED
    assert world.do(ledger.release_checks, KEY_ID, 10, 30.0) == [ticket.job_id]
    assert world.learn(ticket, done(), "poll") is Heard.MOVED


def test_an_unreadable_callback_of_a_task_that_failed_is_not_asked_about(world: World) -> None:
    ticket = world.waiting()
    world.learn(ticket, failed(-7))
    assert world.do(ledger.hear, ticket.job_id, 1, None, SETTINGS) is Heard.NOTED
    assert world.state(ticket.job_id) == State.FAILED


def test_a_failure_of_another_task_is_undone_by_the_reply(world: World) -> None:
    ticket = world.submitting()
    world.learn(ticket, failed(-7, "task-of-somebody-else"))
    assert world.state(ticket.job_id) == State.FAILED
    world.learn(ticket, pending("task-1"), "reply")
    assert world.state(ticket.job_id) == State.WAITING
    assert world.learn(ticket, done("task-1")) is Heard.MOVED


def test_a_permit_for_another_key_is_not_used(world: World) -> None:
    job_id = world.enqueue()
    world.release()
    claim = {"callback": True, "key_id": "00000000"}
    assert world.do(ledger.claim, job_id, SETTINGS, **claim) is None
    assert world.do(ledger.claim, job_id, SETTINGS, callback=True, key_id=KEY_ID) is not None


def test_nothing_is_sent_through_a_gate_that_closed_after_the_release(world: World) -> None:
    job_id = world.enqueue()
    world.release()
    world.do(gate.pause, KEY_ID)
    assert world.do(ledger.claim, job_id, SETTINGS, callback=True) is None
    world.do(gate.resume, KEY_ID)
    assert world.row(job_id)["lease"] is None  # another key may take it meanwhile
    assert world.release() == [job_id]
    assert world.do(ledger.claim, job_id, SETTINGS, callback=True) is not None


# --- results -----------------------------------------------------------------------------------


def test_results_are_fetched_in_the_order_of_their_expiry(world: World) -> None:
    first, second = world.waiting(), world.waiting()
    world.learn(second, done())
    world.learn(first, done())
    with world.engine.begin() as tx:
        soon = schema.job.c.created_at
        one = update(schema.job).where(schema.job.c.id == first.job_id)
        tx.execute(one.values(result_expires_at=soon))
    assert world.do(ledger.release_stores, 1, 30.0) == [first.job_id]


def test_a_stored_result_stays_ours_when_the_answer_to_the_commit_was_lost(world: World) -> None:
    ticket = world.storing()
    assert world.do(ledger.stored, ticket, RESULT, SETTINGS)
    assert world.do(ledger.stored, ticket, RESULT, SETTINGS)
    assert world.state(ticket.job_id) == State.SUCCEEDED


def test_a_second_result_that_was_paid_for_is_taken_when_the_first_is_gone(world: World) -> None:
    first = world.uncertain()
    world.ring(first.job_id)
    world.do(ledger.settle, SETTINGS)
    second = world.next_attempt(first.job_id)
    world.learn(second, pending("task-2"), "reply")
    world.learn(first, done("task-1"))
    world.learn(second, done("task-2", f"{LINK}&second"))
    ticket = world.claim_store(first.job_id)
    world.do(ledger.not_stored, ticket, "link_dead", "403", SETTINGS, permanent=True)
    again = world.claim_store(first.job_id)
    assert again.number == 2
    assert again.report is not None
    assert again.report.image == f"{LINK}&second"


def test_a_slow_workers_result_loses_against_the_one_that_took_over(world: World) -> None:
    slow = world.storing()
    world.ring(slow.job_id)
    fast = world.claim_store(slow.job_id)
    assert not world.do(ledger.stored, slow, RESULT, SETTINGS)
    assert world.do(ledger.stored, fast, RESULT, SETTINGS)
    assert world.state(slow.job_id) == State.SUCCEEDED


def test_a_passing_fault_of_storing_is_tried_again(world: World) -> None:
    ticket = world.storing()
    world.do(
        ledger.not_stored, ticket, "unreachable", "the host is away", SETTINGS, permanent=False
    )
    assert world.state(ticket.job_id) == State.STORING
    world.ring(ticket.job_id)
    assert world.do(ledger.stored, world.claim_store(ticket.job_id), RESULT, SETTINGS)


def test_a_lasting_fault_of_storing_holds_the_job(world: World) -> None:
    ticket = world.storing()
    world.do(ledger.not_stored, ticket, "host_refused", "not allowed", SETTINGS, permanent=True)
    job = world.job(ticket.job_id)
    assert job.state == State.HELD
    assert job.error is not None
    assert job.error["code"] == "host_refused"


def test_a_dead_link_is_asked_for_anew_and_only_a_question_brings_it(world: World) -> None:
    ticket = world.storing()
    world.do(ledger.not_stored, ticket, "link_dead", "403", SETTINGS, permanent=True)
    assert world.state(ticket.job_id) == State.WAITING
    assert world.learn(ticket, done()) is Heard.KNOWN
    assert world.state(ticket.job_id) == State.WAITING
    fresh = f"{LINK}&fresh"
    assert world.learn(ticket, done(image=fresh), "poll") is Heard.MOVED
    again = world.claim_store(ticket.job_id)
    assert again.report is not None
    assert again.report.image == fresh


def test_a_link_that_stays_dead_holds_the_job(world: World) -> None:
    ticket = world.storing()
    for _ in range(2):
        world.do(ledger.not_stored, ticket, "link_dead", "403", SETTINGS, permanent=True)
        assert world.learn(ticket, done(), "poll") is Heard.MOVED
        ticket = world.claim_store(ticket.job_id)
    world.do(ledger.not_stored, ticket, "link_dead", "403", SETTINGS, permanent=True)
    job = world.job(ticket.job_id)
    assert job.state == State.HELD
    assert job.error is not None
    assert job.error["code"] == "result_gone"


# --- operators ---------------------------------------------------------------------------------


def test_a_cancelled_job_is_not_sent(world: World) -> None:
    job_id = world.enqueue()
    world.release()
    world.do(ledger.cancel, job_id)
    assert world.do(ledger.claim, job_id, SETTINGS, callback=True) is None
    assert world.state(job_id) == State.CANCELLED
    world.do(ledger.cancel, job_id)


def test_a_job_cancelled_while_it_is_sent_leaves_an_uncertain_attempt(world: World) -> None:
    ticket = world.submitting()
    world.do(ledger.cancel, ticket.job_id)
    assert world.attempt(ticket.job_id)["state"] == "uncertain"

    world.learn(ticket, pending(), "reply")

    assert world.attempt(ticket.job_id)["state"] == "accepted"
    assert world.state(ticket.job_id) == State.CANCELLED


def test_what_is_finished_cannot_be_cancelled_and_nobody_cannot_be_retried(world: World) -> None:
    job_id = world.succeeded()
    with pytest.raises(WrongState, match="cannot cancel job"):
        world.do(ledger.cancel, job_id)
    with pytest.raises(WrongState, match="cannot retry job"):
        world.do(ledger.retry, job_id, SETTINGS)
    with pytest.raises(JobNotFound):
        world.do(ledger.cancel, UUID(int=1))


def test_a_retried_job_may_be_paid_for_once_more(world: World) -> None:
    ticket = world.waiting()
    world.learn(ticket, failed(-7))
    assert world.do(ledger.retry, ticket.job_id, SETTINGS) == State.QUEUED
    second = world.next_attempt(ticket.job_id)
    assert second.number == 2
    assert world.row(ticket.job_id)["max_paid_attempts"] == 2


def test_a_retry_fetches_a_result_that_was_paid_for_instead_of_paying_again(
    world: World,
) -> None:
    ticket = world.waiting()
    world.do(ledger.cancel, ticket.job_id)
    world.learn(ticket, done())
    assert world.do(ledger.retry, ticket.job_id, SETTINGS) == State.STORING
    assert world.do(ledger.stored, world.claim_store(ticket.job_id), RESULT, SETTINGS)
    assert world.count(schema.attempt) == 1


def test_a_purge_takes_finished_jobs_with_their_attempts_and_events(world: World) -> None:
    job_id, waiting = world.succeeded(), world.waiting()
    with world.engine.connect() as tx:
        assert [row.id for row in ledger.purgeable(tx, 0.0)] == [job_id]
        assert ledger.purgeable(tx, 3600.0) == []
    assert world.do(ledger.purge, [job_id, waiting.job_id]) == 1
    assert world.count() == 1
    assert world.count(schema.attempt) == 1
