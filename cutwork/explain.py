"""The story of one job: what happened when, where it stands, what it waits for, what comes next.

Everything is read from its row, its attempts and its events; no link, token or key is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from cutwork import schema, sources
from cutwork.clock import now
from cutwork.errors import JobNotFound
from cutwork.lanes import WORKER
from cutwork.obstacles import waits_for
from cutwork.settings import Settings
from cutwork.states import Attempt, State

_CHARGED = {
    Attempt.SUCCEEDED: "charged",
    Attempt.FAILED: "the provider failed, not charged",
    Attempt.VOID: "no task was made, not charged",
}
_FOR = {"check": "for a check", "not stored": "for the download"}
_ENDINGS = {
    State.SUCCEEDED: "stored",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}


@dataclass(frozen=True)
class Moment:
    """Something that happened; ``what`` is a stable word, ``detail`` is for people."""

    at: datetime
    what: str
    detail: str = ""


@dataclass(frozen=True)
class Explanation:
    """A sentence each for where it stands, what it waits for and what comes next."""

    job_id: UUID
    state: str
    at: datetime
    timeline: tuple[Moment, ...]
    stands: str
    waits: str
    next: str

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON-able values; times in ISO 8601."""
        return {
            "id": str(self.job_id),
            "state": self.state,
            "at": self.at.isoformat(),
            "timeline": [
                {"at": one.at.isoformat(), "what": one.what, "detail": one.detail}
                for one in self.timeline
            ],
            "stands": self.stands,
            "waits": self.waits,
            "next": self.next,
        }


def explain(tx: Connection, job_id: UUID, settings: Settings) -> Explanation:
    """The story as the database knows it.

    Raises:
        JobNotFound: no such job.
    """
    columns = select(schema.job, now().label("at"))
    row = tx.execute(columns.where(schema.job.c.id == job_id)).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    same = schema.attempt.c.job_id == job_id
    query = select(schema.attempt).where(same).order_by(schema.attempt.c.number)
    attempts = list(tx.execute(query))
    events = tx.execute(select(schema.event).where(schema.event.c.job_id == job_id))
    told = list(tx.execute(select(schema.notice).where(schema.notice.c.job_id == job_id)))
    moments = [_enqueued(row)]
    for made in attempts:
        moments += _told(made)
    moments += [Moment(one.at, one.kind, one.detail or "") for one in events]
    moments += [*_in_hand(row), *_download(row), *_endings(row), *_purges(row)]
    for one in told:
        moments += _notice(row, one)
    return Explanation(
        job_id=job_id,
        state=row.state,
        at=row.at,
        timeline=tuple(sorted(moments, key=lambda one: one.at)),
        stands=_stands(row, attempts),
        waits=waits_for(tx, row, settings),
        next=_next(row, settings),
    )


def _enqueued(row: Row[Any]) -> Moment:
    request = row.request
    if picture := request.get("image_file"):
        source = f"a {picture['format']} of {picture['width']}x{picture['height']}"
    else:
        source = sources.shown(request.get("image_url") or "")
    kind = request.get("type") or "foreground to be found"
    return Moment(row.created_at, "enqueued", f"{kind}, from {source}")


def _in_hand(row: Row[Any]) -> list[Moment]:
    """The lease that a worker holds now; those before it are in the attempts' trails."""
    if row.lease != WORKER or row.due_at is None:
        return []
    until = f"fence {row.fence}, good until {row.due_at:%H:%M:%S} UTC"
    return [Moment(row.at, "lease", f"a worker has it in hand ({row.state}), {until}")]


def _endings(row: Row[Any]) -> list[Moment]:
    if row.finished_at is None:
        return []
    by = f"decided by {row.decided_by}" if row.decided_by else ""
    return [Moment(row.finished_at, _ENDINGS.get(State(row.state), row.state), by)]


def _purges(row: Row[Any]) -> list[Moment]:
    """What was deleted of it, and when."""
    gone = (("the source picture", row.input_purged_at), ("the results", row.result_purged_at))
    told = "deleted from storage, as it was kept long enough"
    return [Moment(at, "purged", f"{what}, {told}") for what, at in gone if at is not None]


def _download(row: Row[Any]) -> list[Moment]:
    """The lease under which the result was brought home."""
    result = row.result or {}
    if "since" not in result:
        return []
    fence = f"for the download, fence {result['fence']}"
    return [Moment(datetime.fromisoformat(result["since"]), "lease", fence)]


def _notice(row: Row[Any], one: Row[Any]) -> list[Moment]:
    """Who is, or was, to be told of an end of the job."""
    who = sources.shown(row.notify) if "://" in row.notify else f"task {row.notify}"
    owed = Moment(one.created_at, "notice", f"{who} is to be told that it is {one.state}")
    tries = f"after {one.tries} tries" if one.tries != 1 else "at the first try"
    if one.told_at is not None:
        return [owed, Moment(one.told_at, "told", f"{who} heard that it is {one.state}, {tries}")]
    if one.due_at is None:
        return [owed]
    fault = f"{one.error}; " if one.error else ""
    again = f"{fault}again at {one.due_at:%H:%M:%S} UTC" if one.tries else "not yet"
    return [owed, Moment(row.at, "untold", f"{who} was not told that it is {one.state} ({again})")]


def _told(made: Row[Any]) -> list[Moment]:
    """The moments of one attempt, in the order in which they belong if the clock is too coarse."""
    name = f"attempt {made.number}"
    how = "with a callback URL" if made.callback else "without a callback URL"
    trail = made.trail or ()
    told = [Moment(made.intended_at, "intent", f"{name}, key {made.key_id}, fence {made.fence}")]
    if all(entry["what"] != "not sent" for entry in trail):
        sent = f"{name}, {how}, right after its intent was committed"
        told.append(Moment(made.intended_at, "post", sent))
    for entry in trail:
        told += _step(name, made, entry)
    if made.finished_at is not None:
        told.append(Moment(made.finished_at, "decided", f"{name}, {_outcome(made)}"))
    if made.state == Attempt.SUCCEEDED and made.finished_at is not None:
        told.append(Moment(made.finished_at, "charge", f"{name} was charged"))
    elif made.state == Attempt.UNCERTAIN:
        told.append(Moment(made.intended_at, "charge", f"{name} may have been charged"))
    return told


def _step(name: str, made: Row[Any], entry: Mapping[str, Any]) -> list[Moment]:
    """One entry of a trail; a check's also says since when a worker had it in hand."""
    at = datetime.fromisoformat(entry["at"])
    what, detail = entry["what"], ", ".join(filter(None, (name, entry["detail"])))
    if what in ("reply", "no reply", "not sent"):
        detail += f", after {(at - made.intended_at).total_seconds():.2f} s"
    told = [Moment(at, what, detail)]
    if since := entry.get("since"):
        begun = datetime.fromisoformat(since)
        told.insert(0, Moment(begun, "lease", f"{name}, {_FOR[what]}, fence {entry['fence']}"))
    return told


def _outcome(made: Row[Any]) -> str:
    words = [_CHARGED.get(Attempt(made.state), made.state)]
    if made.decided_by:
        words.insert(0, f"by {made.decided_by}")
    if made.checks:
        words.append(f"after {made.checks} fruitless checks" if made.checks > 1 else
                     "after a fruitless check")  # fmt: skip
    if made.detail:
        words.append(made.detail)
    return ", ".join(words)


def _stands(row: Row[Any], attempts: list[Row[Any]]) -> str:
    last = attempts[-1] if attempts else None
    fault = ": ".join(text for text in (row.error_code, row.error) if text)
    match State(row.state):
        case State.QUEUED:
            sent = f"attempt {row.attempt} did not end it" if last else "nothing was sent yet"
            return f"It is queued; {sent}{f' ({fault})' if fault else ''}."
        case State.SUBMITTING:
            return f"A worker is sending attempt {row.attempt} to the provider."
        case State.UNCERTAIN:
            return (
                f"Attempt {row.attempt} may or may not have reached the provider ({fault}), "
                "and may be charged."
            )
        case State.WAITING:
            task = last.task_id if last and last.task_id else "unknown to us"
            return f"The provider works on it (task {task})."
        case State.STORING:
            return "The provider is done; the result is not in our storage yet."
        case State.HELD:
            return f"It is held for a person ({fault})."
        case State.SUCCEEDED if row.result_purged_at is not None:
            deleted = f"{row.result_purged_at:%Y-%m-%d}"
            return f"It succeeded (decided by {row.decided_by}); its files were deleted {deleted}."
        case State.SUCCEEDED:
            return f"It succeeded; its files are stored (decided by {row.decided_by})."
        case State.FAILED:
            return f"It failed ({fault})."
    return "It was cancelled."


def _next(row: Row[Any], settings: Settings) -> str:
    when = _when(row)
    match State(row.state):
        case State.QUEUED:
            return f"It is sent {when}."
        case State.SUBMITTING:
            return f"The reply decides; without one it becomes uncertain {when}."
        case State.UNCERTAIN:
            policy = row.on_uncertain or settings.on_uncertain
            return f"A callback that proves it decides; else the policy ({policy}) does, {when}."
        case State.WAITING:
            return f"A callback completes it; else the provider is asked {when}."
        case State.STORING:
            return f"The result is fetched {when}."
        case State.HELD | State.FAILED | State.CANCELLED if row.input_purged_at is not None:
            return "Nothing; it cannot be submitted again, its source picture was deleted."
        case State.HELD | State.FAILED | State.CANCELLED:
            return "Nothing by itself; `cutwork retry` sends it again, and says if that costs."
    return "Nothing more."


def _when(row: Row[Any]) -> str:
    if row.due_at is None or row.due_at <= row.at:
        return "as soon as nothing is in its way"
    seconds = (row.due_at - row.at).total_seconds()
    if row.lease == "message":
        return "when a worker takes it"
    if row.lease == "worker" and row.state != State.SUBMITTING:
        return "now, a worker has it in hand"
    return f"in {seconds:.0f} s, at {row.due_at:%H:%M:%S} UTC"
