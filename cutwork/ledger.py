"""Every statement that changes a job: a verb each, meant to be a transaction each.

A verb takes a connection in a transaction and commits nothing. It locks the job's row, asks
``cutwork.states`` where the event leads, and writes with one compare-and-set on id, state and
fence; a verb that comes too late changes nothing and says so. Nobody holds a transaction across
HTTP: a worker claims in one, and reports in another. ``database.transact`` runs a verb as one.

    alarms      wake, lapse, settle, release_submits, release_checks, release_stores, recall,
                drop_messages
    submits     claim, put_back, not_sent, rejected, lost
    reports     learn (whoever brings the news: a reply, a callback, a check), hear, ring,
                complete (what hear does with nearly all, in one statement)
    checks      claim_check, unanswered, task_gone, adrift
    results     claim_store, stored, not_stored
    apps        insert_jobs, withdraw
    operators   cancel, retry, purge, forget

The statements that they share, and the compare-and-set, are in ``cutwork.rows``.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    or_,
    select,
    union_all,
    update,
)

from cutwork import arrivals, census, completion, gate, guard, pace, policy, rows, tracing, turns
from cutwork.clock import after, now
from cutwork.database import among
from cutwork.errors import InputPurged, JobNotFound, WrongState
from cutwork.events import Kind, record
from cutwork.gate import Gate
from cutwork.lanes import MESSAGE, WORKER
from cutwork.page import After, page
from cutwork.report import Report, Verdict, failure
from cutwork.request import Request, outputs_of
from cutwork.rows import Seen
from cutwork.schema import in_state, job, notice
from cutwork.settings import Settings
from cutwork.states import DONE, RESTING, Attempt, Event, State, before, knows_more

PRIORITIES = range(10)
_RELINKS = 2
_PREPARATIONS = 10
# So many questions in a row stay without a final answer before an old job is held.
_QUESTIONS = 5
# A callback that is only a reason to ask does so at most once in so many seconds.
_RING_PAUSE = 2.0
# A second try that the guard stops is looked at again so many seconds later.
_GUARDED = 30.0
_STATE_OF = {
    Verdict.PENDING: Attempt.ACCEPTED,
    Verdict.DONE: Attempt.SUCCEEDED,
    Verdict.FAILED: Attempt.FAILED,
}

# What log lines about an attempt name, and the app's ``traceparent``.
About = tuple[dict[str, Any], str | None]


class Heard(StrEnum):
    """What became of a report."""

    MOVED = "moved"  # the job went on
    NOTED = "noted"  # we know more, the job stands where it stood
    KNOWN = "known"  # nothing new: a duplicate, or out of order
    LATE = "late"  # the job was over; the result is kept on the attempt
    WRONG_TASK = "wrong_task"  # it speaks of another task: nothing of it is believed
    UNSURE = "unsure"  # it may speak of another attempt's task: ask again later
    GONE = "gone"  # no such job or attempt any more


@dataclass(frozen=True)
class Ticket:
    """A worker's proof that this job is in its hands: good while ``fence`` is the row's.

    ``watched`` says that the key's gate wants to hear how the request went; ``trace`` is the
    ``traceparent`` of the app's span.
    """

    job_id: UUID
    fence: int
    number: int
    key_id: str
    task_id: str | None
    request: Request
    report: Report | None
    watched: bool = False
    trace: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What each log line and each span about it names."""
        return _facts(self.job_id, self.number, self.key_id, self.trace)


def together(tx: Connection, job_ids: Iterable[UUID]) -> AbstractContextManager[None]:
    """In the block, verbs about these jobs read once and write once for all of them.

    Verbs that end a job by an operator's word, or look for jobs themselves, have no place there.
    A job that is not among them does not exist for the verbs. Raises OvertakenError at the end, and
    nothing is written, if a row changed that was locked: that is a fault of ours, or of the
    database.
    """
    return page(tx, job_ids)


def known(tx: Connection, job_id: UUID, number: int) -> About:
    """What log lines about an attempt name, and the app's ``traceparent``.

    It is for jobs of ``together``, where it costs no statement.
    """
    row = rows.locked(tx, job_id)
    if row is None:
        return _facts(job_id, number, None, None), None
    made = rows.attempt_of(tx, job_id, number)
    return _facts(job_id, number, made.key_id if made else None, row.trace), row.trace


# --- alarms ------------------------------------------------------------------------------------


# The order is that of an index which holds nobody else; due_at alone is also the backlog's.
_ASLEEP = rows.first_due(State.QUEUED, job.c.turn.is_(None), order=(job.c.turn, job.c.due_at))


def wake(tx: Connection) -> int:
    """Queued jobs whose time has come get their turns; returns how many.

    A job that was at the head of the queue before comes back there.
    """
    asleep = tx.execute(_ASLEEP).all()
    fresh: dict[tuple[str, int], list[UUID]] = {}
    given: list[dict[str, Any]] = []
    for row in asleep:
        if row.attempt or row.tries:
            given.append({"job": row.id, "place": turns.served(tx, row.priority)})
        else:
            fresh.setdefault((row.owner, row.priority), []).append(row.id)
    for (owner, priority), ids in fresh.items():
        places = turns.next_turns(tx, owner, priority, len(ids))
        given += [{"job": one, "place": at} for one, at in zip(ids, places, strict=True)]
    if given:
        same = job.c.id == bindparam("job")  # and no more: the rows are locked
        tx.execute(update(job).where(same).values(turn=bindparam("place")), given)
    return len(given)


def lapse(tx: Connection, settings: Settings) -> int:
    """Submits whose worker died, or lost its reply, become uncertain; returns how many."""
    late = rows.due_rows(tx, State.SUBMITTING)
    for row in late:
        _lose(tx, row, "the worker's lease ran out", settings)
    return len(late)


def settle(tx: Connection, settings: Settings) -> int:
    """Uncertain submits whose grace is over get what the policy says; returns how many."""
    late = rows.due_rows(tx, State.UNCERTAIN)
    stopped = guard.stops_second_tries(tx, settings) if late else None
    for row in late:
        _apply_policy(tx, row, settings, stopped)
    return len(late)


def release_submits(
    tx: Connection, key_id: str, limit: int, permit: float, lapsed: bool = False
) -> list[UUID]:
    """Name the next queued jobs to a worker, for this key, valid for ``permit`` seconds.

    Here and in the next two, ``lapsed`` takes those that were named before and that nobody claimed.
    """
    candidates = (
        _heads_of_queue(tx, limit + rows.SPARE) if not lapsed else _due_in(State.QUEUED, lapsed)
    )
    return rows.release(tx, State.QUEUED, candidates, limit, permit, key_id=key_id)


def release_checks(
    tx: Connection, key_id: str, limit: int, permit: float, lapsed: bool = False
) -> list[UUID]:
    """Name waiting jobs of this key whose callback is overdue."""
    candidates = _due_in(State.WAITING, lapsed).where(job.c.key_id == key_id)
    return rows.release(tx, State.WAITING, candidates.order_by(job.c.due_at), limit, permit)


def release_stores(tx: Connection, limit: int, permit: float, lapsed: bool = False) -> list[UUID]:
    """Name jobs whose result is ready, earliest expiry first."""
    candidates = _due_in(State.STORING, lapsed).order_by(job.c.result_expires_at)
    return rows.release(tx, State.STORING, candidates, limit, permit)


def recall(tx: Connection, job_ids: Sequence[UUID]) -> None:
    """Make released jobs due again, because their message could not be published."""
    tx.execute(
        update(job)
        .where(job.c.id.in_(job_ids), job.c.lease == MESSAGE)
        .values(lease=None, due_at=now())
    )


def drop_messages(tx: Connection, key_ids: Sequence[str]) -> None:
    """Forget lapsed messages about waiting jobs of closed keys; the jobs stay due.

    A lapsed message makes its lane careful, and that of a paused key could not be sent again to end
    it: the other keys' checks would wait for as long as the pause.
    """
    lapsed = rows.due_rows(tx, State.WAITING, job.c.lease == MESSAGE, job.c.key_id.in_(key_ids))
    ids = [row.id for row in lapsed]
    tx.execute(update(job).where(job.c.id.in_(ids), job.c.lease == MESSAGE).values(lease=None))


# --- submits -----------------------------------------------------------------------------------


def claim(
    tx: Connection, job_id: UUID, settings: Settings, *, callback: bool, key_id: str | None = None
) -> Ticket | None:
    """queued → submitting, with the intent written as an attempt: call it before the first byte.

    None when the job is not this worker's to send: somebody claimed it, it went on, its permit ran
    out or was given anew for another key than ``key_id``, or the key's gate has closed since.
    """
    row = rows.locked(tx, job_id)
    if row is None or row.state != State.QUEUED or not rows.is_named(row):
        return None
    if key_id not in (None, row.key_id) or _must_wait(tx, row, settings):
        return None
    door = _admitted(tx, row, row.key_id, settings)
    if door is None:
        return None
    number, fence = row.attempt + 1, row.fence + 1
    lease = settings.submit_timeout + settings.lease_margin
    changes = {"attempt": number, "fence": fence, "lease": WORKER}
    if not rows.move(tx, row, Event.CLAIMED, due=lease, **changes):
        return None
    rows.add_attempt(
        tx,
        job_id=job_id,
        number=number,
        state=Attempt.SENDING,
        key_id=row.key_id,
        fence=fence,
        callback=callback,
        checks=0,
        callbacks=0,
        relinks=0,
    )
    request = Request.from_json(row.request)
    return Ticket(job_id, fence, number, row.key_id, None, request, None, door.watched, row.trace)


def put_back(tx: Connection, job_id: UUID, reason: str, *, permanent: bool = False) -> bool:
    """A released job cannot even be prepared (its picture cannot be read): later, then held.

    ``permanent`` says that trying again cannot help.
    """
    row = rows.locked(tx, job_id)
    if row is None or row.state != State.QUEUED or row.lease != MESSAGE:
        return False
    if row.key_id is not None:
        gate.recall_probe(tx, row.key_id, job_id)
    if permanent or row.tries + 1 >= _PREPARATIONS:
        return rows.hold(tx, row, "input_unreadable", reason)
    due, tries = policy.back_off(row.tries), rows.one_more(row.tries)
    return rows.touch(tx, row, due=due, tries=tries, error=reason[:500], turn=None)


def not_sent(tx: Connection, ticket: Ticket, reason: str, *, delay: float | None = None) -> bool:
    """submitting → queued: nothing was accepted, nothing is owed.

    ``delay`` says that the provider answered, and for how long it is to be left alone.
    """
    row = _void(tx, ticket, reason, "not sent" if delay is None else "reply")
    if row is None:
        return False
    due = policy.back_off(row.tries) if delay is None else delay
    return rows.move(
        tx, row, Event.NOT_SENT, due=due, tries=rows.one_more(row.tries), error=reason[:500]
    )


def rejected(tx: Connection, ticket: Ticket, code: str, reason: str) -> bool:
    """submitting → failed: the provider will never take this request."""
    row = _void(tx, ticket, reason, "reply")
    if row is None:
        return False
    return rows.move(tx, row, Event.REJECTED, **rows.fault(code, reason), decided_by="reply")


def lost(tx: Connection, ticket: Ticket, reason: str, settings: Settings) -> bool:
    """submitting → uncertain: it may have been accepted, and nobody knows."""
    row = _held_by(tx, ticket)
    return row is not None and _lose(tx, row, reason, settings)


# --- reports -----------------------------------------------------------------------------------


def learn(
    tx: Connection, job_id: UUID, number: int, report: Report, via: str, settings: Settings
) -> Heard:
    """The one function that completes a job, whoever brings the news.

    ``via`` is ``reply``, ``callback`` or ``poll``. Any order and any repetition of the same reports
    ends in the same rows: an attempt's state only rises, and the job follows it.
    """
    row, made = rows.locked(tx, job_id), rows.attempt_of(tx, job_id, number)
    if row is None or made is None:
        return Heard.GONE
    also = _news(row, made, report, via, settings)
    if made.task_id and report.task_id and made.task_id != report.task_id:
        rows.set_attempt(tx, made, **also)
        return _wrong_task(tx, row, made, report, via)
    doubt = _doubt(tx, row, made, report, settings) if via == "poll" else None
    if doubt is not None:
        rows.set_attempt(tx, made, **also)
        return doubt
    known = _STATE_OF[report.verdict]
    detail = report.detail
    if not rows.learn_attempt(tx, made, known, report=report, via=via, detail=detail, also=also):
        return _repeated(tx, row, made, report, via, settings)
    match report.verdict:
        case Verdict.DONE:
            return _done(tx, row, number, via, settings)
        case Verdict.FAILED if number == row.attempt:
            return _failed(tx, row, report, via, settings)
        case Verdict.PENDING if number == row.attempt:
            first = partial(pace.first_check, settings, row.kind, callback=made.callback)
            due = rows.seconds(tx, ("first check", row.kind, made.callback), first)
            moved = rows.move(tx, row, Event.ACCEPTED, due=due, tries=0, error=None)
            return Heard.MOVED if moved else Heard.NOTED
    return Heard.NOTED


def hear(
    tx: Connection, job_id: UUID, number: int, report: Report | None, settings: Settings
) -> Heard:
    """An authentic callback: it completes the job if it is trusted and brings what was asked for.

    Anything less is a reason to ask the provider now.
    """
    if report is None or settings.callback_trust != "payload":
        return ring(tx, job_id, number, report)
    if report.verdict is Verdict.DONE:
        row = rows.locked(tx, job_id)
        if row is not None and not report.has(outputs_of(row.request)):
            return ring(tx, job_id, number, report)
    return learn(tx, job_id, number, report, "callback", settings)


def complete(
    tx: Connection, news: Sequence[tuple[UUID, int, Report | None]], settings: Settings
) -> list[About | None]:
    """waiting → storing for those callbacks that are as nearly all are: one statement for them.

    ``news`` has the job, the attempt and the report of each. Gives what ``known`` does for those
    whose job went on, and None for the others, which are for ``hear``. It needs no transaction
    around it. Only PostgreSQL has such a statement; it raises DataError, and nothing is written, if
    an attempt goes on in the same moment.
    """
    usual: dict[UUID, tuple[int, Report]] = {}
    if settings.callback_trust == "payload":
        for place, (job_id, number, report) in enumerate(news):
            if number == 1 and report is not None and report.verdict is Verdict.DONE:
                usual.setdefault(job_id, (place, report))  # another one about it repeats it
    about: list[About | None] = [None] * len(news)
    if usual:
        told = {job_id: (report, _words(report)) for job_id, (_, report) in usual.items()}
        for row in completion.complete(tx, told, settings.result_ttl):
            place, _ = usual[row.job_id]
            about[place] = _facts(row.job_id, 1, row.key_id, row.trace), row.trace
    return about


def ring(tx: Connection, job_id: UUID, number: int, report: Report | None) -> Heard:
    """A callback that proves nothing but that the provider knows the attempt: ask it now.

    It was accepted, so it is not paid for again. Where no reply told a task id, the callback's is
    taken, because it will be asked about. At most one question in two seconds, however many rings.
    """
    row, made = rows.locked(tx, job_id), rows.attempt_of(tx, job_id, number)
    if row is None or made is None:
        return Heard.GONE
    task_id = _task_to_ask(made, report)
    proof = Report(Verdict.PENDING, task_id=task_id)
    also = rows.heard(made, "it proves nothing by itself, so the provider is asked")
    known = Attempt.ACCEPTED
    learned = rows.learn_attempt(tx, made, known, report=proof, via="callback", also=also)
    if not learned:
        rows.set_attempt(tx, made, task_id=task_id)
    if number != row.attempt:
        return Heard.NOTED
    if learned and rows.move(tx, row, Event.ACCEPTED, due=0, tries=0, error=None):
        return Heard.MOVED
    said_done = report is not None and report.verdict is Verdict.DONE
    may_be_done = task_id and knows_more(Attempt.FAILED, Attempt(made.state))
    if (said_done or may_be_done) and _ask_late(tx, row, made):
        return Heard.MOVED
    _ask_soon(tx, row, made)
    return Heard.NOTED


# --- checks ------------------------------------------------------------------------------------


def claim_check(tx: Connection, job_id: UUID, settings: Settings) -> Ticket | None:
    """Take a waiting job in hand to ask about it; None when it is not this worker's to ask."""
    return _take(tx, job_id, State.WAITING, settings)


def unanswered(
    tx: Connection, ticket: Ticket, settings: Settings, reason: str, *, delay: float | None = None
) -> bool:
    """A check brought nothing final: ask again later, less and less often, and not for ever.

    ``delay`` says that the provider was not really asked (it refused the key, or the rate): that
    does not count against the job.
    """
    row = _held_by(tx, ticket)
    if row is None or row.state != State.WAITING:
        return False
    made = rows.attempt_of(tx, ticket.job_id, ticket.number)
    if made is None:
        return False
    asked = rows.trail(made, "check", reason, **_hands(row, settings))
    rows.set_attempt(tx, made, checks=rows.one_more(made.checks), **asked)
    age = rows.age_of(made)
    learned = rows.once(tx, ("pace", row.kind), lambda: pace.read(tx, row.kind))
    wait = pace.next_check(learned, settings, row.tries, age, callback=made.callback)
    if delay is not None:
        return rows.touch(tx, row, due=max(wait, delay), error=reason[:500])
    if age > settings.wait_timeout and row.tries + 1 >= _QUESTIONS:
        waited = f"no final answer in {settings.wait_timeout:.0f} s; the last was: {reason}"
        return rows.hold(tx, row, "no_answer", waited)
    return rows.touch(tx, row, due=wait, tries=rows.one_more(row.tries), error=reason[:500])


def task_gone(tx: Connection, ticket: Ticket, settings: Settings) -> bool:
    """The provider does not know the task: for a young one ask again, an old one is held."""
    row = _held_by(tx, ticket)
    if row is None or row.state != State.WAITING:
        return False
    if rows.age_of(rows.attempt_of(tx, ticket.job_id, ticket.number)) <= settings.uncertain_grace:
        return unanswered(tx, ticket, settings, "the provider does not know the task (404)")
    reason = f"the provider no longer knows task {ticket.task_id}; it may have been charged"
    return rows.hold(tx, row, "task_gone", reason)


def adrift(tx: Connection, settings: Settings) -> int:
    """Waiting jobs whose API key nobody has any more: a callback may still come, a check cannot.

    They are looked at now and then, and held when the provider must have forgotten them.
    """
    late = rows.due_rows(tx, State.WAITING, job.c.key_id.not_in(list(settings.keys)))
    for row in late:
        made = rows.attempt_of(tx, row.id, row.attempt)
        reason = f"API key {row.key_id}, which submitted it, is no longer in CUTWORK_API_TOKENS"
        if rows.age_of(made) > settings.wait_timeout:
            rows.hold(tx, row, "key_gone", reason)
        else:
            rows.touch(tx, row, due=settings.check_max_interval, error=reason)
    return len(late)


# --- results -----------------------------------------------------------------------------------


def claim_store(tx: Connection, job_id: UUID, settings: Settings) -> Ticket | None:
    """Take a finished task's result in hand to fetch it; None when somebody else does."""
    return _take(tx, job_id, State.STORING, settings)


def stored(tx: Connection, ticket: Ticket, result: Mapping[str, Any], settings: Settings) -> bool:
    """storing → succeeded: the files are in our own storage, as ``result`` describes them."""
    row = _held_by(tx, ticket)
    if row is None:
        return False
    if row.state == State.SUCCEEDED:  # by us: the commit was done, and its answer lost
        return True
    kept = {**result, **_hands(row, settings)}
    return rows.move(tx, row, Event.STORED, result=kept, error=None, error_code=None)


def not_stored(
    tx: Connection, ticket: Ticket, code: str, reason: str, settings: Settings, *, permanent: bool
) -> bool:
    """The result could not be fetched or kept.

    It is tried again while its link lives; a dead link is asked for anew; the rest is held.
    """
    row = _held_by(tx, ticket)
    if row is None or row.state != State.STORING:
        return False
    if made := rows.attempt_of(tx, ticket.job_id, ticket.number):
        told = rows.trail(made, "not stored", f"{code}: {reason}", **_hands(row, settings))
        rows.set_attempt(tx, made, **told)
    if code == "link_dead":
        return _ask_for_link(tx, row, ticket, reason, settings)
    if permanent:
        return rows.hold(tx, row, code, reason)
    if row.result_expires_at is None or row.result_expires_at <= row.at:
        return _ask_for_link(tx, row, ticket, f"{reason}; the link has died since", settings)
    due = policy.back_off(row.tries)
    return rows.touch(tx, row, due=due, tries=rows.one_more(row.tries), error=reason[:500])


# --- operators ---------------------------------------------------------------------------------


def insert_jobs(
    tx: Connection, jobs: Sequence[Mapping[str, Any]], common: Mapping[str, Any]
) -> set[UUID]:
    """Write new jobs of one owner and priority, a thousand to a statement.

    ``common`` are the columns that they share; without a ``due_at`` among them they are due now.
    Returns the ids that were passed over: a job whose idempotency key exists is not written.
    """
    return arrivals.insert(tx, jobs, common)


def withdraw(tx: Connection, job_ids: Iterable[UUID]) -> None:
    """Take back jobs that this very transaction wrote: their call failed after all."""
    mine = delete(job).where(among(tx.dialect.name, job.c.id))
    tx.execute(mine, {"those": list(job_ids)})


def cancel(tx: Connection, job_id: UUID) -> None:
    """Anything unfinished → cancelled. A result that still comes is kept on its attempt.

    Raises:
        JobNotFound: no such job.
        WrongState: it is finished.
    """
    row = rows.locked(tx, job_id)
    if row is None:
        raise JobNotFound(job_id)
    if row.state == State.CANCELLED:
        return
    if not rows.move(tx, row, Event.CANCEL, decided_by="operator"):
        raise WrongState(job_id, row.state, "cancel", rows.names(before(Event.CANCEL)))
    if row.state == State.SUBMITTING and (made := rows.attempt_of(tx, job_id, row.attempt)):
        # Its lease ended with the job's alarm: if its worker dies now, nobody else will say so.
        doubt = "cancelled while it was being sent"
        also = rows.trail(made, "cancelled", doubt)
        rows.learn_attempt(tx, made, Attempt.UNCERTAIN, detail=doubt, also=also)
    record(tx, Kind.CANCELLED, f"it was {row.state}", job_id=job_id)


def retry(tx: Connection, job_id: UUID, settings: Settings) -> State:
    """Send a job again by hand; returns where it went.

    A result that the provider made and whose link should live is fetched (``storing``); otherwise
    the job is submitted, and paid for, again (``queued``).

    Raises:
        JobNotFound: no such job.
        WrongState: it is not failed, held or cancelled.
        InputPurged: it would be submitted again, and its source picture was deleted.
    """
    row = rows.locked(tx, job_id)
    if row is None:
        raise JobNotFound(job_id)
    clean: dict[str, Any] = {"tries": 0, "error": None, "error_code": None}
    clean["decided_by"] = "operator"  # whom the guard does not stop
    gone = row.result_attempt if row.error_code == "result_gone" else None
    made = rows.fetchable(tx, job_id, settings, but=gone)
    if made is not None:
        expires = made.finished_at + timedelta(seconds=settings.result_ttl)
        clean |= {"result_attempt": made.number, "result_expires_at": expires}
        moved, target = rows.move(tx, row, Event.RETRY_STORE, **clean), State.STORING
        detail = f"the result of attempt {made.number} is fetched again"
    elif row.state in before(Event.RETRY) and rows.input_purged(tx, job_id):
        raise InputPurged(job_id)
    else:
        paid = rows.paid_of(rows.attempts_of(tx, job_id))
        clean["max_paid_attempts"] = max(row.max_paid_attempts or 0, paid + 1)
        moved, target = rows.move(tx, row, Event.RETRY, **clean), State.QUEUED
        detail = f"submitted again after {paid} attempts that were or may have been paid for"
    if not moved:
        raise WrongState(job_id, row.state, "retry", rows.names(before(Event.RETRY)))
    record(tx, Kind.RETRIED, detail, job_id=job_id)
    return target


def purgeable(
    tx: Connection,
    age: float,
    limit: int = 1000,
    *,
    files: str = "",
    younger: float | None = None,
    owner: str | None = None,
    beyond: Row[Any] | None = None,
) -> list[Row[Any]]:
    """Jobs that finished more than ``age`` seconds ago, and less than ``younger``, oldest first.

    Not those of which somebody is still to be told, unless one ``owner`` is asked for: his are to
    be forgotten. ``files`` is ``input`` or ``result``: jobs that have such files in storage still.
    ``beyond`` continues after a row that this gave.
    """
    columns = select(
        *(job.c[name] for name in ("id", "request", "result", "finished_at")),
        *(job.c[name] for name in ("input_purged_at", "result_purged_at")),
    )
    old = and_(job.c.state.in_(rows.names(DONE)), job.c.finished_at < after(-age))
    if files:
        old = and_(old, job.c[f"{files}_purged_at"].is_(None))
    if files == "result":
        old = and_(old, job.c.state == State.SUCCEEDED)
    if younger is not None:
        old = and_(old, job.c.finished_at >= after(-younger))
    if owner is not None:
        old = and_(old, job.c.owner == owner)
    else:
        untold = exists().where(notice.c.job_id == job.c.id, notice.c.due_at.is_not(None))
        old = and_(old, ~untold)
    if beyond is not None:
        when, one = beyond.finished_at, beyond.id
        later = and_(job.c.finished_at == when, job.c.id > one)
        old = and_(old, job.c.finished_at >= when, or_(job.c.finished_at > when, later))
    return list(tx.execute(columns.where(old).order_by(job.c.finished_at, job.c.id).limit(limit)))


def unfinished_of(tx: Connection, owner: str) -> list[UUID]:
    """An owner's jobs that are not over: unfinished and held ones."""
    going = and_(job.c.owner == owner, job.c.state.not_in(rows.names(DONE)))
    return list(tx.execute(select(job.c.id).where(going).order_by(job.c.id)).scalars())


def purge(tx: Connection, job_ids: Sequence[UUID]) -> int:
    """Delete finished jobs with their attempts and events; returns how many.

    What the metrics count of them goes on being counted.
    """
    condition = and_(job.c.id.in_(job_ids), job.c.state.in_(rows.names(DONE)))
    locked = select(job.c.id).where(condition).order_by(job.c.id).with_for_update()
    gone = list(tx.execute(locked).scalars())
    if not gone:
        return 0
    census.keep(tx, gone)
    return tx.execute(delete(job).where(job.c.id.in_(gone))).rowcount


def forget(tx: Connection, job_ids: Sequence[UUID], files: str) -> int:
    """Note that the ``input`` or ``result`` files of jobs were deleted; returns of how many.

    Whatever the job's state is now: somebody may have retried it while the file went.
    """
    column = job.c[f"{files}_purged_at"]
    known = and_(job.c.id.in_(job_ids), column.is_(None))
    return tx.execute(update(job).where(known).values({column: now()})).rowcount


# --- how the verbs decide ------------------------------------------------------------------------


def _facts(job_id: UUID, number: int, key_id: str | None, trace: str | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"job": job_id, "attempt": number}
    if key_id is not None:
        facts["key"] = key_id
    if (found := tracing.trace_id(trace)) is not None:
        facts["trace"] = found
    return facts


def _heads_of_queue(tx: Connection, limit: int) -> Select[Any]:
    if tx.dialect.name in ("mysql", "mariadb"):
        return _heads_of_each_priority(limit)
    return _in_turn().order_by(job.c.priority, job.c.turn)


@cache  # building it costs ten times as much as asking
def _heads_of_each_priority(limit: int) -> Select[Any]:
    """One short walk for each priority: MariaDB's index also holds the jobs that have no turn."""
    each = [
        _in_turn(job.c.priority, job.c.turn)
        .where(job.c.priority == priority)
        .order_by(job.c.turn)
        .limit(limit)
        .subquery()
        for priority in PRIORITIES
    ]
    heads = union_all(*(select(head) for head in each)).subquery()
    return select(heads.c.id).order_by(heads.c.priority, heads.c.turn)


def _in_turn(*also: ColumnElement[Any]) -> Select[Any]:
    # Not due_at alone: a database may then prefer the index of alarms, and read the whole backlog.
    free = or_(job.c.lease.is_(None), job.c.due_at <= now())
    return select(job.c.id, *also).where(in_state(State.QUEUED), job.c.turn.is_not(None), free)


def _admitted(tx: Connection, row: Seen, key_id: str, settings: Settings) -> Gate | None:
    """The key's gate, if it still lets this released job through.

    If not, the job is due again at once, so that another key can take it.
    """
    door = rows.once(tx, ("gate", key_id), lambda: gate.of(tx, key_id))
    if door is not None and door.admits(row.id):
        waited = settings.permit_ttl - (row.due_at - row.at).total_seconds()
        fresh = waited <= gate.fresh_for(settings.rate)
        if fresh or rows.take_late_permit(tx, key_id, settings):
            return door
    rows.touch(tx, row, due=0)
    return None


def _must_wait(tx: Connection, row: Seen, settings: Settings) -> bool:
    """Whether this is a second try, and the guard stops those; an operator's are his own."""
    if not row.attempt or row.decided_by == "operator":
        return False
    if all(one.state != Attempt.UNCERTAIN for one in rows.attempts_of(tx, row.id)):
        return False
    reason = guard.stops_second_tries(tx, settings)
    if reason is None:
        return False
    guard.note(tx, reason, settings)
    return rows.touch(tx, row, due=_guarded(settings), error=reason[:500], turn=None)


def _guarded(settings: Settings) -> float:
    return policy.jitter(min(_GUARDED, settings.guard_window))


def _hands(row: Seen, settings: Settings) -> dict[str, Any]:
    """Under which lease a worker checked or stored: its fence and when it began."""
    if row.lease != WORKER or row.state not in (State.WAITING, State.STORING):
        return {}
    began = row.due_at - timedelta(seconds=_lease(State(row.state), settings))
    return {"fence": row.fence, "since": began.isoformat()}


def _news(row: Seen, made: Seen, report: Report, via: str, settings: Settings) -> dict[str, Any]:
    """What a report leaves in its attempt's trail, whether or not it brings anything new."""
    told = _words(report)
    if via == "callback":
        return rows.heard(made, told)
    if via == "poll":
        return rows.trail(made, "check", told, **_hands(row, settings))
    task = f"task {report.task_id}, {told}" if report.task_id else told
    return rows.trail(made, "reply", task)


def _words(report: Report) -> str:
    return report.verdict if report.state is None else f"{report.verdict} (state {report.state})"


def _due_in(state: State, lapsed: bool) -> Select[Any]:
    due = select(job.c.id).where(rows.is_due(state))
    return due.where(job.c.lease == MESSAGE) if lapsed else due


def _held_by(tx: Connection, ticket: Ticket) -> Seen | None:
    """The job, locked, if the ticket is still good: nobody has claimed it since."""
    row = rows.locked(tx, ticket.job_id)
    return row if row is not None and row.fence == ticket.fence else None


def _lease(state: State, settings: Settings) -> float:
    """Seconds for which a worker has a waiting or storing job in hand."""
    longest = settings.query_timeout if state is State.WAITING else 2 * settings.result_timeout
    return longest + settings.lease_margin


def _take(tx: Connection, job_id: UUID, state: State, settings: Settings) -> Ticket | None:
    row = rows.locked(tx, job_id)
    if row is None or row.state != state or not rows.is_named(row):
        return None
    number = row.result_attempt if state is State.STORING else row.attempt
    made = rows.attempt_of(tx, job_id, number)
    door = None
    if state is State.WAITING and made is not None:
        door = _admitted(tx, row, made.key_id, settings)
        if door is None:
            return None
    fence = row.fence + 1
    values = {"fence": fence, "lease": WORKER, "due_at": After(_lease(state, settings))}
    if made is None or not rows.compare_and_set(tx, row, values):
        return None
    request = Request.from_json(row.request)
    report = Report.from_json(made.report) if made.report else None
    watched = door is not None and door.watched
    told = (made.task_id, request, report, watched, row.trace)
    return Ticket(job_id, fence, number, made.key_id, *told)


def _void(tx: Connection, ticket: Ticket, reason: str, what: str) -> Seen | None:
    """No task was made: note it on the attempt, and give the job if it is still in our hands."""
    row, made = _held_by(tx, ticket), rows.attempt_of(tx, ticket.job_id, ticket.number)
    if made is not None:
        also = rows.trail(made, what, f"no task was made: {reason}")
        rows.learn_attempt(tx, made, Attempt.VOID, detail=reason, also=also)
    return row


def _lose(tx: Connection, row: Seen, reason: str, settings: Settings) -> bool:
    made = rows.attempt_of(tx, row.id, row.attempt)
    could_call_back = made is not None and made.callback
    grace = settings.uncertain_grace if could_call_back else 0.0
    if not rows.move(tx, row, Event.LOST, due=grace, error=reason[:500]):
        return False
    if made is not None:
        also = rows.trail(made, "no reply", reason)
        rows.learn_attempt(tx, made, Attempt.UNCERTAIN, detail=reason, also=also)
    record(tx, Kind.UNCERTAIN, reason, job_id=row.id, attempt=row.attempt, key_id=row.key_id)
    return True


def _apply_policy(tx: Connection, row: Seen, settings: Settings, stopped: str | None) -> None:
    chosen = row.on_uncertain or settings.on_uncertain
    paid = rows.paid_of(rows.attempts_of(tx, row.id))
    allowed = row.max_paid_attempts or settings.max_paid_attempts
    reason = f"attempt {row.attempt} stayed uncertain ({row.error})"
    match policy.after_uncertain(chosen, paid, allowed):
        case Event.RESUBMIT if stopped:
            guard.note(tx, stopped, settings)
            rows.touch(tx, row, due=_guarded(settings), error=stopped[:500])
        case Event.RESUBMIT:
            rows.move(tx, row, Event.RESUBMIT)
            detail = f"{reason}: it may be charged twice"
            record(tx, Kind.RESUBMITTED, detail, job_id=row.id, attempt=row.attempt)
        case Event.GIVE_UP:
            rows.move(
                tx, row, Event.GIVE_UP, decided_by="policy", **rows.fault("uncertain", reason)
            )
        case Event.HOLD:
            rows.hold(tx, row, "uncertain", reason)


def _done(tx: Connection, row: Seen, number: int, via: str, settings: Settings) -> Heard:
    others = rows.attempts_of(tx, row.id, but=number)
    if any(one.state == Attempt.SUCCEEDED for one in others):
        record(tx, Kind.SECOND_CHARGE, "", job_id=row.id, attempt=number)
    moved = rows.move(
        tx,
        row,
        Event.DONE,
        tries=0,
        result_attempt=number,
        result_expires_at=After(settings.result_ttl),
        decided_by=via,
        error=None,
        error_code=None,
    )
    if row.state in RESTING:
        record(tx, Kind.LATE, f"the job was {row.state}", job_id=row.id, attempt=number)
    if moved:
        return Heard.MOVED
    return Heard.LATE if row.state in RESTING else Heard.NOTED


def _failed(tx: Connection, row: Seen, report: Report, via: str, settings: Settings) -> Heard:
    state = report.state or -1
    made = rows.attempts_of(tx, row.id)
    same = sum(one.provider_state == state and one.number != row.attempt for one in made)
    allowed = row.max_paid_attempts or settings.max_paid_attempts
    event, delay = policy.after_failure(state, same, rows.paid_of(made), allowed)
    fault = failure(state)
    reason = f"{fault.sentence}: {report.detail}" if report.detail else fault.sentence
    if event is Event.FAILED_RETRY:
        moved = rows.move(tx, row, event, due=delay, error=reason[:500])
        if moved:
            record(tx, Kind.PROVIDER_FAILED, reason, job_id=row.id, attempt=row.attempt)
    else:
        moved = rows.move(tx, row, event, decided_by=via, **rows.fault(fault.code, reason))
    return Heard.MOVED if moved else Heard.NOTED


def _repeated(
    tx: Connection, row: Seen, made: Seen, report: Report, via: str, settings: Settings
) -> Heard:
    if report.task_id and not made.task_id:
        rows.set_attempt(tx, made, task_id=report.task_id)
    # Only our own question can bring a fresh link: a repeated callback brings the dead one again.
    asked_for = via == "poll" and row.state == State.WAITING and row.result_attempt == made.number
    if asked_for and report.verdict is Verdict.DONE:
        rows.set_attempt(tx, made, report=report.to_json())
        expires = After(settings.result_ttl)
        rows.move(tx, row, Event.DONE, tries=0, result_expires_at=expires)
        return Heard.MOVED
    if via == "callback" and made.callbacks == 1 and report.verdict is not Verdict.PENDING:
        record(tx, Kind.DUPLICATE, report.verdict, job_id=row.id, attempt=made.number)
    return Heard.KNOWN


def _wrong_task(tx: Connection, row: Seen, made: Seen, report: Report, via: str) -> Heard:
    """Two reports of one attempt name two tasks. The provider's reply to our own POST is right.

    Another report is only a reason to ask. If one came before the reply and was believed, what it
    brought is not this job's picture: it is dropped, and the right task is asked about.
    """
    detail = f"{via} says {report.task_id}, known was {made.task_id}"
    record(tx, Kind.WRONG_TASK, detail, job_id=row.id, attempt=made.number)
    if via != "reply":
        named = _task_to_ask(made, report) if via == "callback" else made.task_id
        if named != made.task_id:
            rows.set_attempt(tx, made, task_id=named)
            if report.verdict is Verdict.DONE and made.number == row.attempt:
                _ask_late(tx, row, made)
        _ask_soon(tx, row, made)
        return Heard.WRONG_TASK
    values = {"task_id": report.task_id, "report": None, "finished_at": None}
    rows.set_attempt(tx, made, state=Attempt.ACCEPTED, **values)
    if row.result_attempt == made.number:
        rows.move(tx, row, Event.LINK_DEAD, tries=0, result_attempt=None, decided_by=None)
    elif made.state == Attempt.FAILED and made.number == row.attempt:
        # The failure was another task's: ours is still being worked on.
        again: dict[str, Any] = {"tries": 0, "error": None, "error_code": None, "decided_by": None}
        if not rows.move(tx, row, Event.ACCEPTED, **again):
            rows.move(tx, row, Event.LATE_NEWS, **again)
    return Heard.WRONG_TASK


def _task_to_ask(made: Seen, report: Report | None) -> str | None:
    """Which task an attempt is asked about, a callback having come: the one that the reply named.

    Without a reply it is the first that a callback named; one that tells an end knows better.
    """
    told = report.task_id if report else None
    if made.task_id is None or report is None or told is None:
        return made.task_id or told
    ends = report.verdict is not Verdict.PENDING and knows_more(Attempt.FAILED, Attempt(made.state))
    return told if ends and not rows.named_by_reply(made) else made.task_id


def _doubt(
    tx: Connection, row: Seen, made: Seen, report: Report, settings: Settings
) -> Heard | None:
    """Why the provider's answer may be about another attempt's task; None when it is not.

    The question named the task as our POST's reply did, and all is well; or as a callback did,
    which can name any. What another attempt is known by is not this one's, and while others are
    being sent, one of their replies may still claim it.
    """
    if report.verdict is Verdict.PENDING or rows.named_by_reply(made):
        return None
    others = rows.claimants(tx, made, settings)
    if (owner := next((one for one in others if one.task_id is not None), None)) is None:
        return Heard.UNSURE if others else None
    whose = f"attempt {owner.number} of job {owner.job_id}"
    detail = f"a callback said {made.task_id}, which is known as that of {whose}"
    record(tx, Kind.WRONG_TASK, detail, job_id=row.id, attempt=made.number)
    reason = f"{detail}; our own task is unknown, and may have been charged"
    if row.state != State.WAITING:  # a callback brought the end while we asked
        return Heard.WRONG_TASK
    if made.state == Attempt.SUCCEEDED:  # the link that it brought is dead, as a retry has to know
        rows.hold(tx, row, "result_gone", reason)
    else:
        rows.hold(tx, row, "wrong_task", reason)
    return Heard.WRONG_TASK


def _ask_soon(tx: Connection, row: Seen, made: Seen) -> None:
    """Bring a waiting job's question forward, but not closer than a pause after the last ring."""
    if row.state != State.WAITING or row.lease is not None:
        return
    since = made.at - timedelta(seconds=_RING_PAUSE)
    pause = _RING_PAUSE if made.heard_at is not None and made.heard_at > since else 0.0
    if row.due_at > made.at + timedelta(seconds=pause):
        rows.touch(tx, row, due=pause)


def _ask_late(tx: Connection, row: Seen, made: Seen) -> bool:
    """A failed or held job may be done after all: the provider is asked, nobody pays."""
    clean: dict[str, Any] = {"tries": 0, "error": None, "error_code": None, "decided_by": None}
    if not rows.move(tx, row, Event.LATE_NEWS, **clean):
        return False
    record(tx, Kind.LATE, f"the job was {row.state}", job_id=row.id, attempt=made.number)
    return True


def _ask_for_link(
    tx: Connection, row: Seen, ticket: Ticket, reason: str, settings: Settings
) -> bool:
    other = rows.fetchable(tx, row.id, settings, but=ticket.number)
    if other is not None:
        expires = other.finished_at + timedelta(seconds=settings.result_ttl)
        changes = {"result_attempt": other.number, "result_expires_at": expires, "tries": 0}
        return rows.touch(tx, row, due=0, error=reason[:500], **changes)
    made = rows.attempt_of(tx, ticket.job_id, ticket.number)
    # The attempt that is asked about is the job's present one: an older attempt's link stays dead.
    askable = made is not None and made.task_id is not None and ticket.number == row.attempt
    if made is None or not askable or made.relinks >= _RELINKS:
        return rows.hold(tx, row, "result_gone", reason)
    rows.set_attempt(tx, made, relinks=rows.one_more(made.relinks))
    record(tx, Kind.LINK_DEAD, reason, job_id=row.id, attempt=made.number)
    return rows.move(tx, row, Event.LINK_DEAD, tries=0, error=reason[:500])
