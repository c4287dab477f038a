"""The ledger's private half: the few statements that its verbs are made of.

Nobody but ``cutwork.ledger`` imports this module; CI checks that.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Row,
    Select,
    Update,
    and_,
    bindparam,
    or_,
    select,
    update,
)

from cutwork import database, gate, notices
from cutwork.clock import after, now
from cutwork.events import Kind, record
from cutwork.job import beyond_snapshot
from cutwork.lanes import MESSAGE, WORKER
from cutwork.page import AT_ONCE, ATTEMPTS, INTENTS, JOBS, After, Line, change, open_on
from cutwork.report import Report, Verdict
from cutwork.schema import attempt, in_state, job
from cutwork.settings import Settings
from cutwork.states import DONE, PAID, RESTING, Attempt, Event, State, knows_more
from cutwork.states import after as leads_to

T = TypeVar("T")
Seen = Row[Any] | Line

BATCH = 100
# So many candidates more are looked at than are released, in case the first ones are locked.
SPARE = 20
LONGEST_TRAIL = 50
# What the columns of counts hold.
MOST = 30_000
_LOCKED = JOBS.where(job.c.id == bindparam("job")).with_for_update()
_ATTEMPT = ATTEMPTS.where(
    attempt.c.job_id == bindparam("job"), attempt.c.number == bindparam("number")
)


def locked(tx: Connection, job_id: UUID) -> Seen | None:
    if (page := open_on(tx)) is not None:
        return page.job(job_id)
    row: Seen | None = tx.execute(_LOCKED, {"job": job_id}).one_or_none()
    return row


def move(
    tx: Connection,
    row: Seen,
    event: Event,
    *,
    due: float | ColumnElement[float] = 0.0,
    **changes: Any,
) -> bool:
    """The compare-and-set behind every arrow."""
    target = leads_to(State(row.state), event)
    if target is None:
        return False
    values: dict[str, Any] = {"state": target, "lease": None, "due_at": After(due), **changes}
    if target in RESTING:
        values["due_at"] = None
    if target is State.QUEUED:
        values["turn"] = None  # it gets one when it is due
    values["finished_at"] = AT_ONCE if target in DONE else None
    if not compare_and_set(tx, row, values):
        return False
    if target in RESTING and row.notify:
        _owe(tx, {"job_id": row.id, "state": target, "notify": row.notify})
    return True


def _owe(tx: Connection, owed: dict[str, Any]) -> None:
    """Somebody is to be told; a page writes all of its notices at its end."""
    if (page := open_on(tx)) is None:
        notices.add(tx, [owed])
        return

    def begin() -> list[dict[str, Any]]:
        every: list[dict[str, Any]] = []
        page.at_end.append(lambda: notices.add(tx, every))
        return every

    page.once("owed", begin).append(owed)


def touch(tx: Connection, row: Seen, *, due: float, **changes: Any) -> bool:
    """Set another alarm for a job that stays in its state, and let go of it."""
    return compare_and_set(tx, row, {"lease": None, "due_at": After(due), **changes})


def compare_and_set(tx: Connection, row: Seen, values: dict[str, Any]) -> bool:
    if (page := open_on(tx)) is not None and isinstance(row, Line):
        return page.change_job(row, values)
    return change(tx, job, (row.id, row.state, row.fence), values)


def is_named(row: Seen) -> bool:
    """Whether a message names the job, and its permit has not run out."""
    return bool(row.lease == MESSAGE and row.due_at > row.at)


def is_due(state: State) -> ColumnElement[bool]:
    return and_(in_state(state), job.c.due_at <= now())


def first_due(
    state: State,
    *also: ColumnElement[bool],
    order: Iterable[ColumnElement[Any]] = (job.c.due_at,),
) -> Select[Any]:
    """Jobs whose alarm rings, locked; those that somebody else has locked are left to them."""
    rows = select(job).where(is_due(state), *also).order_by(*order).limit(BATCH)
    return rows.with_for_update(skip_locked=True)


def due_rows(tx: Connection, state: State, *also: ColumnElement[bool]) -> Sequence[Row[Any]]:
    return tx.execute(first_due(state, *also)).all()


def release(
    tx: Connection,
    state: State,
    candidates: Select[Any],
    limit: int,
    permit: float,
    **changes: Any,
) -> list[UUID]:
    """Lock what can be locked of the candidates, and hand it to the broker.

    A row that somebody has locked (an app's transaction that cancels, a callback) is left for the
    next round instead of waited for.
    """
    if limit <= 0:
        return []
    got = _lock_first(tx, state, candidates, limit)
    for row in got:
        if row.lease == WORKER:
            detail = f"the worker that had it in hand ({state}) never came back"
            record(tx, Kind.LEASE_LOST, detail, job_id=row.id, attempt=row.attempt)
    ids = [row.id for row in got]
    if ids:
        named = _naming(tx.dialect.name, tuple(changes))
        tx.execute(named, {"those": ids, "permit": permit, **changes})
    return ids


@cache
def _naming(dialect: str, also: tuple[str, ...]) -> Update:
    # The rows are locked, so their state need not be asked for again; a server that thinks that few
    # jobs have it would go through all of them, looking for the ids.
    values = {"lease": MESSAGE, "due_at": after(bindparam("permit", type_=Float))}
    values |= {name: bindparam(name, type_=job.c[name].type) for name in also}
    return update(job).where(database.among(dialect, job.c.id)).values(**values)


def _lock_first(
    tx: Connection, state: State, candidates: Select[Any], limit: int
) -> Sequence[Row[Any, Any, Any]]:
    wanted = (job.c.id, job.c.lease, job.c.attempt)
    if tx.dialect.name not in ("mysql", "mariadb"):
        free = candidates.with_only_columns(*wanted).limit(limit)
        return tx.execute(free.with_for_update(skip_locked=True)).all()
    # There a SELECT locks all that it walks over, and a UNION cannot lock at all.
    ids = list(tx.execute(candidates.limit(limit + SPARE)).scalars())
    if not ids:
        return []
    free = select(*wanted).where(job.c.id.in_(ids), is_due(state))
    unlocked = {row.id: row for row in tx.execute(free.with_for_update(skip_locked=True))}
    return [unlocked[job_id] for job_id in ids if job_id in unlocked][:limit]


def once(tx: Connection, question: Hashable, ask: Callable[[], T]) -> T:
    """The answer; a page asks once, so what changes it meanwhile counts from the next page on."""
    page = open_on(tx)
    answer: T = page.once(question, ask) if page else ask()
    return answer


def seconds(
    tx: Connection, question: Hashable, expression: Callable[[], ColumnElement[float]]
) -> float | ColumnElement[float]:
    """The expression, for a statement to compute along; for a page it is computed once."""
    if (page := open_on(tx)) is None:
        return expression()
    return float(page.once(question, lambda: tx.execute(select(expression())).scalar_one()))


def take_late_permit(tx: Connection, key_id: str, settings: Settings) -> bool:
    """Take a fresh permit for a message that was long on its way; False when there is none now."""
    page = open_on(tx)
    if page is None:
        alone = gate.LatePermits(tx, key_id, settings)
        taken = alone.take()
        alone.spend()
        return taken

    def look() -> gate.LatePermits:
        permits = gate.LatePermits(tx, key_id, settings)
        page.at_end.append(permits.spend)
        return permits

    return once(tx, ("late permits", key_id), look).take()


def input_purged(tx: Connection, job_id: UUID) -> bool:
    """Whether the job's source picture was deleted from our storage."""
    purged = select(job.c.id).where(job.c.id == job_id, job.c.input_purged_at.is_not(None))
    return tx.execute(purged).one_or_none() is not None


def add_attempt(tx: Connection, **values: Any) -> None:
    """The intent of a submit, as of now."""
    if (page := open_on(tx)) is not None:
        page.add_attempt(values)
    else:
        tx.execute(INTENTS, values)


def attempt_of(tx: Connection, job_id: UUID, number: int) -> Seen | None:
    if (page := open_on(tx)) is not None:
        return page.attempt(job_id, number)
    return tx.execute(_ATTEMPT, {"job": job_id, "number": number}).one_or_none()


def attempts_of(tx: Connection, job_id: UUID, *, but: int | None = None) -> Sequence[Seen]:
    """The job's attempts, ``but`` one."""
    if (page := open_on(tx)) is not None:
        return page.attempts(job_id, but)
    columns = select(attempt.c.number, attempt.c.state, attempt.c.provider_state)
    made = tx.execute(beyond_snapshot(tx, columns.where(attempt.c.job_id == job_id)))
    return [one for one in made if one.number != but]


def paid_of(made: Iterable[Seen]) -> int:
    return sum(one.state in PAID for one in made)


def age_of(made: Seen | None) -> float:
    """Seconds since the provider took the task, or since we meant to send it."""
    return (made.at - (made.accepted_at or made.intended_at)).total_seconds() if made else 0.0


def fetchable(
    tx: Connection, job_id: UUID, settings: Settings, *, but: int | None = None
) -> Seen | None:
    """The job's latest attempt, ``but`` one, whose result was made and whose link should live."""
    if (page := open_on(tx)) is not None:  # the database does not know yet what the page decided
        age = timedelta(seconds=settings.result_ttl)
        made = page.attempts(job_id, but)
        good = [one for one in made if one.state == Attempt.SUCCEEDED and one.report is not None]
        alive = [one for one in good if one.finished_at > one.at - age]
        return max(alive, key=lambda one: int(one.number), default=None)
    ours = and_(attempt.c.job_id == job_id, attempt.c.state == Attempt.SUCCEEDED)
    lives = and_(attempt.c.finished_at > after(-settings.result_ttl), attempt.c.report.is_not(None))
    newest = select(attempt).where(ours, lives).order_by(attempt.c.number.desc())
    if but is not None:
        newest = newest.where(attempt.c.number != but)
    return tx.execute(beyond_snapshot(tx, newest.limit(1))).one_or_none()


def named_by_reply(made: Seen) -> bool:
    """Whether the attempt's task is known from the reply to its POST, as far as the trail goes."""
    told = [entry["detail"] for entry in made.trail or () if entry["what"] == "reply"]
    return any(detail.startswith(f"task {made.task_id},"[:200]) for detail in told)


def claimants(tx: Connection, made: Seen, settings: Settings) -> list[Seen]:
    """Other attempts that are known by its task, and those in sending, whose task may be the same.

    Only those which are so young that the provider could still answer for their tasks; what has
    begun since this transaction did may be missing.
    """
    age = settings.submit_timeout + settings.wait_timeout + settings.result_ttl
    same = or_(attempt.c.task_id == made.task_id, attempt.c.state == Attempt.SENDING)
    other = or_(attempt.c.job_id != made.job_id, attempt.c.number != made.number)
    columns = select(attempt.c.job_id, attempt.c.number, attempt.c.task_id)
    young = attempt.c.intended_at > after(-age)
    return list(tx.execute(columns.where(young, same, other)))


def set_attempt(tx: Connection, made: Seen, **values: Any) -> None:
    if (page := open_on(tx)) is not None and isinstance(made, Line):
        page.change_attempt(made, values)
        return
    change(tx, attempt, (made.job_id, made.number), values)


def trail(made: Seen, what: str, detail: str = "", **facts: Any) -> dict[str, Any]:
    """The attempt's trail with one entry more, as a column to write along with others."""
    entry = {"at": made.at.isoformat(), "what": what, "detail": detail[:200], **facts}
    entries = [*(made.trail or []), entry]
    if len(entries) > LONGEST_TRAIL:  # what the reply said is looked up: it is never the one to go
        entries.remove(next(one for one in entries if one["what"] != "reply"))
    return {"trail": entries}


def heard(made: Seen, detail: str) -> dict[str, Any]:
    """What a callback changes in its attempt whatever it says."""
    return {
        "callbacks": one_more(made.callbacks),
        "heard_at": AT_ONCE,
        **trail(made, "callback", detail),
    }


def learn_attempt(
    tx: Connection,
    made: Seen,
    known: Attempt,
    *,
    detail: str = "",
    report: Report | None = None,
    via: str | None = None,
    also: Mapping[str, Any],
) -> bool:
    """Raise what is known of an attempt; later words that know less change nothing but ``also``."""
    if not knows_more(known, Attempt(made.state)):
        set_attempt(tx, made, **also)
        return False
    values: dict[str, Any] = {**also, "state": known, "detail": detail[:500] or made.detail}
    if via is not None:
        values["decided_by"] = via
    if report is not None:
        values["provider_state"] = report.state
        if report.task_id and report.task_id != made.task_id:
            values["task_id"] = report.task_id
        if made.accepted_at is None:
            values["accepted_at"] = AT_ONCE
        if report.verdict is not Verdict.PENDING:
            values["report"], values["seconds"] = report.to_json(), report.seconds
    if known in (Attempt.VOID, Attempt.FAILED, Attempt.SUCCEEDED):
        values["finished_at"] = AT_ONCE
    set_attempt(tx, made, **values)
    return True


def hold(tx: Connection, row: Seen, code: str, reason: str) -> bool:
    if not move(tx, row, Event.HOLD, **fault(code, reason)):
        return False
    record(tx, Kind.HELD, f"{code}: {reason}", job_id=row.id, attempt=row.attempt or None)
    return True


def fault(code: str, reason: str) -> dict[str, Any]:
    return {"error_code": code, "error": reason[:500]}


def one_more(count: int) -> int:
    return min(count + 1, MOST)


def names(states: Iterable[State]) -> list[str]:
    return sorted(state.value for state in states)
