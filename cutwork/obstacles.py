"""Why a job does not go on right now: its own alarm, its key's gate, its lane, or nobody there.

The reconciler decides by the same facts (``gate``, ``lanes``); here they become a sentence.
"""

from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select

from cutwork import budget, gate, lanes
from cutwork.clock import now
from cutwork.gate import Gate
from cutwork.lanes import MESSAGE, WORKER
from cutwork.schema import in_state, job
from cutwork.settings import Settings
from cutwork.states import RESTING, State

# A reconciler that runs releases what may go within a fraction of this, in seconds.
_SLOW = 5.0
_LANE = {State.QUEUED: "submit", State.WAITING: "check", State.STORING: "store"}


def waits_for(tx: Connection, row: Row[Any], settings: Settings) -> str:
    """One sentence; ``row`` is a job's row with the database's time as ``at``."""
    state = State(row.state)
    if state in RESTING:
        return "It waits for nothing." if state is not State.HELD else "It waits for a person."
    overdue = (row.at - row.due_at).total_seconds() if row.due_at else 0.0
    if row.lease == MESSAGE:
        if overdue <= 0:
            return "It waits for a worker to take it from the broker."
        return (
            "It was released, and no worker took it: "
            "see that a worker for its lane runs, and that the broker is up."
        )
    if row.lease == WORKER and overdue <= 0:
        return "It waits for the worker that has it in hand."
    if overdue <= 0:
        return _alarm(row, state)
    if state in _LANE:
        return _blocked(tx, row, state, settings) or _nobody(overdue)
    return _nobody(overdue)


def _alarm(row: Row[Any], state: State) -> str:
    seconds = f"{(row.due_at - row.at).total_seconds():.0f} s"
    match state:
        case State.QUEUED if row.tries or row.attempt:
            return f"It waits {seconds} before the next try, after: {row.error}."
        case State.QUEUED:
            return f"It is scheduled: it waits {seconds} for its time."
        case State.UNCERTAIN if (row.error or "").startswith("no second try"):
            return f"It waits {seconds} before that is looked at again: {row.error}."
        case State.UNCERTAIN:
            return f"It waits up to {seconds} for a callback that proves the submit."
        case State.WAITING:
            return f"It waits for the provider; if nothing is heard it is asked in {seconds}."
        case State.STORING if row.error:
            return f"It waits {seconds} before the result is fetched again, after: {row.error}."
    return f"It waits {seconds}."


def _nobody(overdue: float) -> str:
    if overdue <= _SLOW:
        return "Nothing is in its way: it goes on within a moment."
    return f"It is due since {overdue:.0f} s and nobody released it: see that a reconciler runs."


def _blocked(tx: Connection, row: Row[Any], state: State, settings: Settings) -> str:
    """What keeps a due job from being released; "" when nothing does."""
    if state is not State.STORING and (said := _gated(tx, row, state, settings)):
        return said
    if state is State.QUEUED and budget.left(tx, settings) == 0:
        hours = budget.renews_in(row.at) / 3600
        return (
            f"Today's budget of {settings.daily_budget} submits (CUTWORK_DAILY_BUDGET) is used up: "
            f"it goes on in {hours:.1f} h, at 00:00 UTC."
        )
    caps = {
        State.QUEUED: settings.submit_lane,
        State.WAITING: settings.check_lane,
        State.STORING: settings.store_lane,
    }
    lane = lanes.busy(tx)[state]
    if lane.lapsed:
        return (
            f"The {_LANE[state]} lane is stuck, {lane.lapsed} released and taken by no worker: "
            "see that one runs, and that the broker is up."
        )
    if lane.room(caps[state]) == 0:
        return f"The {_LANE[state]} lane is full, with {lane.messages + lane.workers} in it."
    return _ahead(tx, row) if state is State.QUEUED else ""


def _gated(tx: Connection, row: Row[Any], state: State, settings: Settings) -> str:
    gates = gate.read(tx)
    if state is State.WAITING:  # a task is asked about with the key that submitted it
        if settings.keys and row.key_id not in settings.keys:
            return f"Its key {row.key_id} is not among CUTWORK_API_TOKENS: put it back there."
        gates = [one for one in gates if one.key_id == row.key_id]
    elif settings.keys:
        gates = [one for one in gates if one.key_id in settings.keys]
    if not gates:
        return "No key has a gate yet: see that CUTWORK_API_TOKENS is set and a reconciler runs."
    flying = lanes.in_flight(tx) if state is State.QUEUED else {}
    told = [_closed(one, flying.get(one.key_id, 0), settings) for one in gates]
    return "" if not all(told) else f"{'; '.join(told)}."


def _closed(one: Gate, flying: int, settings: Settings) -> str:
    """Why the gate lets nothing through; "" when it is open."""
    if one.paused:
        return f"Key {one.key_id} is paused ({one.reason}): `cutwork resume` lets jobs go"
    share = one.pace(settings)
    opens_in, permits = one.opens_in(settings.rate, share) or 0.0, one.permits(settings.rate, share)
    if one.tripped and not one.open:
        return f"Key {one.key_id} is stopped, and tried again in {opens_in:.0f} s ({one.reason})"
    if not one.open:
        return f"Key {one.key_id} is closed for {opens_in:.0f} s ({one.reason})"
    if one.tripped and not permits:
        return f"Key {one.key_id} is stopped but for one job that tries it ({one.reason})"
    if flying >= one.slots(settings):
        return f"Key {one.key_id} has {flying} in flight, which is as many as it may have"
    if not permits:
        rate = settings.rate * share
        return f"Key {one.key_id} is at its rate of {rate:g}/s for {opens_in:.1f} s"
    return ""


def _ahead(tx: Connection, row: Row[Any]) -> str:
    sooner = or_(
        job.c.priority < row.priority,
        and_(job.c.priority == row.priority, job.c.turn < (row.turn or 0)),
    )
    due = and_(in_state(State.QUEUED), job.c.due_at <= now(), job.c.lease.is_(None))
    ahead = tx.execute(select(func.count()).select_from(job).where(due, sooner)).scalar_one()
    return f"Others go before it: {ahead}." if ahead else ""
