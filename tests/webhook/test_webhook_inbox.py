"""Callbacks that come together share a commit, and none takes the others with it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from cutwork import database, jobs
from cutwork.ledger import Heard
from cutwork.report import Report
from cutwork.webhook.inbox import Answer, Hearing, Inbox
from tests.services.waiting import run_until
from tests.webhook.desk import DONE, Desk

DATABASES = ("sqlite", "postgresql", "mariadb")
REPORT = Report.read(DONE)
# Of two batches. PostgreSQL first completes at once what it can, which is none of these.
COMMITS = {"sqlite": 2, "mariadb": 2, "postgresql": 4}


@pytest.fixture
def make_inbox() -> Iterator[Callable[[Desk], tuple[Inbox, list[str]]]]:
    """An inbox of a desk, and the commits that it makes."""
    made: list[tuple[Engine, Inbox]] = []

    def make(desk: Desk) -> tuple[Inbox, list[str]]:
        engine = database.engine(desk.url, pool_size=3, patient=False)
        commits: list[str] = []
        event.listen(engine, "commit", lambda _connection: commits.append("commit"))
        made.append((engine, Inbox(engine, desk.settings)))
        return made[-1][1], commits

    yield make
    for engine, inbox in made:
        inbox.close()
        engine.dispose()


def hold(inbox: Inbox, desk: Desk) -> tuple[threading.Event, Answer]:
    """Keep the inbox busy with a callback of its own until the event is set."""
    entered, free = threading.Event(), threading.Event()
    name = "_write" if inbox._line is None else "_complete"
    step = getattr(inbox, name)

    def slow(*args: object) -> object:
        entered.set()
        assert free.wait(10)
        return step(*args)

    setattr(inbox, name, slow)
    first = inbox.put(Hearing(desk.send()[0], 1, REPORT))
    assert entered.wait(10)
    return free, first


@pytest.mark.parametrize("kind", DATABASES)
def test_callbacks_that_come_together_share_a_commit(
    make_desk: Callable[..., Desk], make_inbox: Callable[..., tuple[Inbox, list[str]]], kind: str
) -> None:
    desk = make_desk(kind)
    inbox, commits = make_inbox(desk)
    ids = [desk.send()[0] for _ in range(40)]
    free, first = hold(inbox, desk)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda one: inbox.put(Hearing(one, 1, REPORT)), ids))

    free.set()

    assert {answer.result(10) for answer in [first, *answers]} == {Heard.MOVED}
    assert len(commits) == COMMITS[kind]
    assert {desk.job(job_id).state for job_id in ids} == {"storing"}


def test_a_callback_alone_does_not_wait_for_company(
    make_desk: Callable[..., Desk], make_inbox: Callable[..., tuple[Inbox, list[str]]]
) -> None:
    desk = make_desk()
    inbox, commits = make_inbox(desk)

    for _ in range(3):
        assert inbox.put(Hearing(desk.send()[0], 1, REPORT)).result(10) is Heard.MOVED

    assert len(commits) == 3


def test_whoever_came_before_the_end_is_answered(
    make_desk: Callable[..., Desk], make_inbox: Callable[..., tuple[Inbox, list[str]]]
) -> None:
    desk = make_desk()
    inbox, _ = make_inbox(desk)
    ids = [desk.send()[0] for _ in range(3)]
    free, first = hold(inbox, desk)
    behind = [inbox.put(Hearing(job_id, 1, REPORT)) for job_id in ids]
    threading.Timer(0.05, free.set).start()

    inbox.close()

    assert [answer.result(0) for answer in [first, *behind]] == [Heard.MOVED] * 4


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_same_callback_twice_in_a_batch_counts_once(
    make_desk: Callable[..., Desk], make_inbox: Callable[..., tuple[Inbox, list[str]]], kind: str
) -> None:
    desk = make_desk(kind)
    inbox, commits = make_inbox(desk)
    job_id, _ = desk.send()
    free, _first = hold(inbox, desk)
    twice = [inbox.put(Hearing(job_id, 1, REPORT)) for _ in range(2)]

    free.set()

    assert sorted(answer.result(10) for answer in twice) == [Heard.KNOWN, Heard.MOVED]
    assert len(commits) == COMMITS[kind]
    assert desk.attempt(job_id).callbacks == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_one_bad_callback_does_not_take_the_others_with_it(
    make_desk: Callable[..., Desk], make_inbox: Callable[..., tuple[Inbox, list[str]]], kind: str
) -> None:
    desk = make_desk(kind)
    inbox, _ = make_inbox(desk)
    good = [desk.send()[0] for _ in range(5)]
    spoilt_id = desk.send()[0]
    free, _first = hold(inbox, desk)
    answers = [inbox.put(Hearing(one, 1, REPORT)) for one in good[:3]]
    broken = Report.read({**DONE, "task_id": "t"})
    object.__setattr__(broken, "verdict", "no verdict")
    spoilt = inbox.put(Hearing(spoilt_id, 1, broken))
    answers += [inbox.put(Hearing(one, 1, REPORT)) for one in good[3:]]

    free.set()

    assert {answer.result(10) for answer in answers} == {Heard.MOVED}
    with pytest.raises(KeyError):
        spoilt.result(10)
    assert {desk.job(job_id).state for job_id in good} == {"storing"}


def test_callbacks_of_jobs_that_are_gone_are_told_so_among_others(
    make_desk: Callable[..., Desk], make_inbox: Callable[..., tuple[Inbox, list[str]]]
) -> None:
    desk = make_desk()
    inbox, _ = make_inbox(desk)
    job_id, _ = desk.send()
    free, _first = hold(inbox, desk)
    gone = inbox.put(Hearing(uuid4(), 1, REPORT))
    there = inbox.put(Hearing(job_id, 1, None))

    free.set()

    assert (gone.result(10), there.result(10)) == (Heard.GONE, Heard.MOVED)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_job_that_an_app_has_locked_does_not_hold_the_others_up(
    make_desk: Callable[..., Desk], make_inbox: Callable[..., tuple[Inbox, list[str]]], kind: str
) -> None:
    desk = make_desk(kind)
    inbox, _ = make_inbox(desk)
    locked, others = desk.send()[0], [desk.send()[0] for _ in range(3)]
    free, _first = hold(inbox, desk)
    with desk.engine.connect() as app:
        jobs.cancel(app, locked)
        stuck = inbox.put(Hearing(locked, 1, REPORT))
        answers = [inbox.put(Hearing(one, 1, REPORT)) for one in others]
        free.set()
        assert [answer.result(20) for answer in answers] == [Heard.MOVED] * 3
        with pytest.raises(OperationalError):
            stuck.result(20)
        app.rollback()

    assert inbox.put(Hearing(locked, 1, REPORT)).result(10) is Heard.MOVED


def test_a_database_that_another_writer_has_locked_is_waited_for(
    make_desk: Callable[..., Desk], make_inbox: Callable[..., tuple[Inbox, list[str]]]
) -> None:
    desk = make_desk()
    inbox, _ = make_inbox(desk)
    job_id: UUID = desk.send()[0]
    with desk.engine.connect() as writer:
        writer.execute(text("SELECT 1"))  # BEGIN IMMEDIATE
        answer = inbox.put(Hearing(job_id, 1, REPORT))
        with pytest.raises(TimeoutError):
            answer.result(0.3)
        writer.rollback()

    assert answer.result(10) is Heard.MOVED


def test_nobody_queues_behind_a_commit_that_is_stuck(
    make_desk: Callable[..., Desk],
    make_inbox: Callable[..., tuple[Inbox, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cutwork.webhook.inbox._STUCK_AFTER", 0.05)
    desk = make_desk()
    inbox, _ = make_inbox(desk)
    free, first = hold(inbox, desk)

    def refused() -> bool:
        answer = inbox.put(Hearing(uuid4(), 1, REPORT))
        try:
            return not answer.result(0)
        except TimeoutError as error:
            return "does not answer" in str(error)

    run_until(refused, 5.0, "a callback is sent away at once")
    free.set()

    assert first.result(10) is Heard.MOVED
    run_until(lambda: not refused(), 5.0, "callbacks are taken again")
