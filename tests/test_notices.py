"""Who is to be told of a job: written with its end, told at least once, and in nobody's way."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, event, insert, select, update

from cutwork import database, explain, jobs, lanes, ledger, notices, purging, schema
from cutwork.clock import after
from cutwork.errors import InvalidInput
from cutwork.ledger import Heard
from cutwork.notices import Notice, Told
from cutwork.states import State
from cutwork.storage import Storage
from tests.world import RESULT, SETTINGS, World, done, failed

URL = "https://shop.example/hooks/cut?who=me"
SILENT = Told("no answer within 10 s", silent=True)
DAY = 86400.0


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def rows(world: World, job_id: UUID | None = None) -> list[dict[str, Any]]:
    query = select(schema.notice).order_by(schema.notice.c.created_at, schema.notice.c.id)
    if job_id is not None:
        query = query.where(schema.notice.c.job_id == job_id)
    with world.engine.connect() as tx:
        return [dict(row._mapping) for row in tx.execute(query)]


def release(world: World) -> list[UUID]:
    return database.transact(world.engine, notices.release, world.settings)


def claim(world: World, ids: list[UUID]) -> list[Notice]:
    return database.transact(world.engine, notices.claim, ids, world.settings)


def settle(world: World, *outcomes: tuple[Notice, Told]) -> None:
    database.transact(world.engine, notices.settle, outcomes, world.settings)


def taken(world: World) -> Notice:
    """The one notice that is due, in a worker's hands."""
    (one,) = claim(world, release(world))
    return one


def ring(world: World) -> None:
    """Let every notice that is still to be told be due now."""
    with world.engine.begin() as tx:
        open_ = schema.notice.c.due_at.is_not(None)
        tx.execute(update(schema.notice).where(open_).values(due_at=after(-1)))


def open_all(world: World) -> None:
    """Let the time be over for which silent hosts are left alone."""
    with world.engine.begin() as tx:
        tx.execute(update(schema.subscriber).values(closed_until=after(-1)))


def hold(world: World) -> UUID:
    ticket = world.storing(notify=URL)
    world.do(ledger.not_stored, ticket, "too_large", "large", world.settings, permanent=True)
    return ticket.job_id


def fail(world: World) -> UUID:
    ticket = world.waiting(notify=URL, max_paid_attempts=1)
    world.learn(ticket, failed())
    return ticket.job_id


def cancel(world: World) -> UUID:
    job_id = world.enqueue(notify=URL)
    world.do(ledger.cancel, job_id)
    return job_id


ENDS: dict[State, Callable[[World], UUID]] = {
    State.SUCCEEDED: lambda world: world.succeeded(notify=URL),
    State.HELD: hold,
    State.FAILED: fail,
    State.CANCELLED: cancel,
}


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("state", ENDS)
def test_whoever_is_named_is_told_of_each_end(world: World, state: State, together: bool) -> None:
    world.together = together
    job_id = ENDS[state](world)
    assert world.state(job_id) is state
    (one,) = rows(world, job_id)
    assert (one["state"], one["host"], one["tries"]) == (state, "shop.example", 0)
    assert one["due_at"] is not None


def test_nobody_is_told_of_a_job_that_names_nobody_or_is_not_over(world: World) -> None:
    world.succeeded()
    world.waiting(notify=URL)
    assert rows(world) == []


def test_a_job_that_ends_again_is_told_of_again(world: World) -> None:
    job_id = fail(world)
    world.do(ledger.retry, job_id, world.settings)
    ticket = world.next_attempt(job_id)
    world.learn(ticket, done())
    assert world.do(ledger.stored, world.claim_store(job_id), RESULT, world.settings)
    assert [one["state"] for one in rows(world, job_id)] == ["failed", "succeeded"]


def test_an_end_that_is_rolled_back_is_told_to_nobody(world: World) -> None:
    job_id = world.enqueue(notify=URL)
    with world.engine.connect() as tx, tx.begin() as undone:
        ledger.cancel(tx, job_id)
        undone.rollback()
    assert rows(world) == []


def test_news_that_come_twice_are_told_once(world: World) -> None:
    ticket = world.waiting(notify=URL, max_paid_attempts=1)
    assert world.learn(ticket, failed()) is Heard.MOVED
    world.learn(ticket, failed())
    world.learn(ticket, failed(), "poll")
    assert len(rows(world)) == 1


def test_a_notice_goes_out_once_and_is_over_when_it_was_heard(world: World) -> None:
    cancel(world)
    ids = release(world)
    assert len(ids) == 1
    assert release(world) == []
    (one,) = claim(world, ids)
    assert (one.target, one.state, one.tries) == (URL, "cancelled", 1)
    assert claim(world, ids) == []
    settle(world, (one, Told()))
    (row,) = rows(world)
    assert row["told_at"] is not None
    assert (row["due_at"], row["lease"], row["error"]) == (None, None, None)
    ring(world)
    assert release(world) == []


def test_what_was_heard_is_written_at_once_and_nobody_elses_with_it(world: World) -> None:
    for _ in range(6):
        cancel(world)
    (lost, failed, *heard) = claim(world, release(world))
    with world.engine.begin() as tx:
        tx.execute(update(schema.notice).where(schema.notice.c.id == lost.id).values(tries=2))
    written: list[str] = []
    event.listen(world.engine, "before_cursor_execute", lambda *said: written.append(str(said[2])))

    settle(world, *((one, Told()) for one in (lost, *heard)), (failed, Told("it answered 404")))

    assert len([one for one in written if one.startswith("UPDATE cutwork_notice")]) == 2
    assert {row["id"] for row in rows(world) if row["told_at"]} == {one.id for one in heard}


def test_a_message_that_is_lost_is_sent_again(world: World) -> None:
    cancel(world)
    ids = release(world)
    ring(world)
    assert claim(world, ids) == []  # too late: its permit is over
    assert release(world) == ids
    assert len(claim(world, ids)) == 1


def test_a_lease_is_long_enough_to_tell_all_of_a_message_one_after_the_other(world: World) -> None:
    for _ in range(3):
        cancel(world)
    claimed = claim(world, release(world))
    assert len(claimed) == 3
    longest = timedelta(seconds=3 * world.settings.notify_timeout)
    assert all(row["due_at"] - claimed[0].at > longest for row in rows(world))


def test_a_worker_that_dies_is_followed_by_another_and_says_nothing_any_more(world: World) -> None:
    cancel(world)
    first = taken(world)
    ring(world)
    second = taken(world)
    assert (first.tries, second.tries) == (1, 2)
    settle(world, (first, Told()))
    assert rows(world)[0]["told_at"] is None
    settle(world, (second, Told()))
    assert rows(world)[0]["told_at"] is not None


def test_a_try_in_vain_is_repeated_later_and_later(world: World) -> None:
    cancel(world)
    pauses = []
    for _ in range(4):
        ring(world)
        open_all(world)
        one = taken(world)
        settle(world, (one, Told("it answered 404")))
        (row,) = rows(world)
        pauses.append((row["due_at"] - one.at).total_seconds())
        assert (row["error"], row["lease"]) == ("it answered 404", None)
    expected = list(notices.PAUSES[:4])
    assert pauses == [pytest.approx(pause, rel=0.1, abs=2.0) for pause in expected]


def test_who_says_when_to_come_again_is_believed(world: World) -> None:
    cancel(world)
    one = taken(world)
    settle(world, (one, Told("it answered 503", retry_after=600.0, silent=True)))
    assert rows(world)[0]["due_at"] - one.at >= timedelta(seconds=599)


def test_after_a_day_it_is_given_up_and_said(world: World) -> None:
    job_id = cancel(world)
    with world.engine.begin() as tx:
        tx.execute(update(schema.notice).values(created_at=after(-DAY)))
    settle(world, (taken(world), SILENT))
    (row,) = rows(world)
    assert (row["due_at"], row["told_at"], row["error"]) == (None, None, SILENT.fault)
    assert "untold" in world.events(job_id)


def test_who_wants_to_hear_no_more_is_told_no_more(world: World) -> None:
    job_id = cancel(world)
    settle(world, (taken(world), Told("it answered 410: it wants to hear no more", final=True)))
    assert rows(world)[0]["due_at"] is None
    assert "untold" in world.events(job_id)


def test_a_silent_host_is_left_alone_and_stands_in_nobodys_way(world: World) -> None:
    for _ in range(20):
        cancel(world)
    for _ in range(notices._PATIENCE):
        (one, *rest) = claim(world, release(world))
        settle(world, (one, SILENT), *((other, SILENT) for other in rest))
    other = world.enqueue(notify="https://other.example/hook")
    world.do(ledger.cancel, other)
    (free,) = claim(world, release(world))
    assert free.job_id == other
    assert release(world) == []
    with world.engine.connect() as tx:
        assert not lanes.due(tx)[lanes.NOTICES]  # put off, so that nobody looks at them


def test_a_host_that_nobody_has_tried_for_a_day_is_forgotten(world: World) -> None:
    for age, host in ((-DAY - 60, "gone.example"), (-DAY + 60, "silent.example")):
        known = {"host": host, "failures": 9, "closed_until": after(age)}
        with world.engine.begin() as tx:
            tx.execute(insert(schema.subscriber).values(**known))
    cancel(world)

    settle(world, (taken(world), SILENT))

    with world.engine.connect() as tx:
        hosts = set(tx.execute(select(schema.subscriber.c.host)).scalars())
    assert hosts == {"silent.example", notices.host_of(URL)}


def test_of_one_host_those_that_fail_keep_no_others_from_their_turn(world: World) -> None:
    job_ids = [cancel(world) for _ in range(2 * world.settings.notify_lane)]
    first = claim(world, release(world))
    settle(world, *((one, SILENT) for one in first))
    ring(world)
    open_all(world)
    second = claim(world, release(world))
    assert {one.job_id for one in [*first, *second]} == set(job_ids)


def test_of_a_host_that_stays_silent_those_are_given_up_too_that_were_never_tried(
    world: World,
) -> None:
    job_ids = [cancel(world) for _ in range(12)]
    for _ in range(notices._PATIENCE):
        ring(world)
        settle(world, *((one, SILENT) for one in claim(world, release(world))))
    with world.engine.begin() as tx:
        old = schema.notice.c.job_id.in_(job_ids[:10])
        tx.execute(update(schema.notice).where(old).values(created_at=after(-DAY)))
    ring(world)
    assert release(world) == []
    over = [row for row in rows(world) if row["due_at"] is None]
    assert {row["job_id"] for row in over} == set(job_ids[:10])
    assert all(row["error"] and row["told_at"] is None for row in over)
    assert [world.events(one).count("untold") for one in job_ids] == [1] * 10 + [0] * 2


def test_a_host_that_answers_again_is_told_everything(world: World) -> None:
    for _ in range(4):
        cancel(world)
    for _ in range(notices._PATIENCE):
        ring(world)
        settle(world, *((one, SILENT) for one in claim(world, release(world))))
    told = 0
    for _ in range(4):
        ring(world)
        open_all(world)
        claimed = claim(world, release(world))
        settle(world, *((one, Told()) for one in claimed))
        told += len(claimed)
    assert told == 4
    assert world.count(schema.subscriber) == 0


def test_the_lane_is_no_wider_than_it_is_set(world: World) -> None:
    for _ in range(10):
        cancel(world)
    assert len(release(world)) == world.settings.notify_lane
    assert release(world) == []


def test_while_messages_lapse_one_goes_out_at_a_time(world: World) -> None:
    for _ in range(10):
        cancel(world)
    release(world)
    ring(world)
    assert len(release(world)) == 1
    assert release(world) == []


def test_what_the_broker_did_not_take_is_due_again(world: World) -> None:
    cancel(world)
    ids = release(world)
    database.transact(world.engine, notices.recall, ids)
    assert release(world) == ids


def test_a_job_of_which_somebody_is_to_be_told_is_not_purged(world: World, tmp_path: Any) -> None:
    cancel(world)
    storage = Storage.at(tmp_path.as_uri())
    with world.engine.begin() as tx:
        tx.execute(update(schema.job).values(finished_at=after(-DAY)))
    assert purging.purge(world.engine, storage, 1.0, dry_run=False).jobs == 0
    settle(world, (taken(world), Told()))
    assert purging.purge(world.engine, storage, 1.0, dry_run=False).jobs == 1
    assert world.count(schema.notice) == 0


def test_the_story_says_who_was_told_and_no_secret(world: World) -> None:
    job_id = cancel(world)
    settle(world, (taken(world), Told("it answered 404")))
    ring(world)
    settle(world, (taken(world), Told()))
    with world.engine.connect() as tx:
        told = explain.explain(tx, job_id, world.settings).timeline
    lines = {one.what: one.detail for one in told}
    assert "https://shop.example/hooks/cut is to be told" in lines["notice"]
    assert "after 2 tries" in lines["told"]
    assert "who=me" not in str(told) + str(world.job(job_id).to_json())


@pytest.mark.parametrize(
    "target",
    ["", "no task", "ftp://shop.example/x", "https://user:pass@shop.example/", "https://", 7,
     "http://[shop.example/", "https://shop.example/" + "x" * 500, "task;drop"],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_at_once(target: Any) -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(InvalidInput, match="notify"), engine.connect() as tx:
        jobs.enqueue(tx, image_url="https://shop.example/a.jpg", notify=target)
    engine.dispose()


UNFIT = (
    "http://[shop.example/", "https://shop.example:" + "0" * 400 + "80/", "ftp://shop.example/",
    "https://user:hunter2@shop.example/", "https://shop .example/", "no task;", " ",
)  # fmt: skip


@pytest.mark.parametrize("target", UNFIT)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_job_ends_whatever_sql_wrote_of_whom_to_tell(
    world: World, monkeypatch: pytest.MonkeyPatch, end: Callable[[World], UUID], target: str
) -> None:
    monkeypatch.setattr(jobs, "_target", lambda _: target)
    job_id = end(world)
    (one,) = rows(world, job_id)
    assert "hunter2" not in one["host"]
    with world.engine.connect() as tx:
        assert "hunter2" not in str(explain.explain(tx, job_id, world.settings))


def test_a_port_with_noughts_is_a_host_that_fits_its_column(world: World) -> None:
    job_id = world.enqueue(notify="https://shop.example:" + "0" * 400 + "80/hook")
    world.do(ledger.cancel, job_id)
    assert taken(world).host.startswith("shop.example:")


def test_a_task_and_a_url_are_kept_with_the_job(world: World) -> None:
    for target in ("shop.tasks.cut_done", "done", URL, "http://hooks:8080/x"):
        assert world.job(world.enqueue(notify=target)).notify == target


def test_settings_bound_the_time_and_the_lane(database_url: str) -> None:
    world = World.at(database_url, replace(SETTINGS, notify_for=60.0, notify_lane=1))
    cancel(world)
    cancel(world)
    (one,) = claim(world, release(world))
    settle(world, (one, Told("it answered 503", retry_after=120.0)))
    assert [row["due_at"] is None for row in rows(world)].count(True) == 1
    world.engine.dispose()
