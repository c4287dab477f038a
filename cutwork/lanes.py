"""How busy the system is: what the reconciler weighs before it releases more. Reads only."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, ScalarSelect, Select, and_, func, select, union_all

from cutwork.clock import now
from cutwork.schema import in_state, job, notice
from cutwork.states import ALARMED, AT_PROVIDER, State

MESSAGE, WORKER = "message", "worker"
NOTICES = "notices"


@dataclass(frozen=True)
class Lane:
    """One lane over all processes: jobs named in the broker, being worked on, and left lying."""

    messages: int = 0
    workers: int = 0
    lapsed: int = 0

    def room(self, cap: int) -> int:
        """How many more jobs may be released into the lane.

        While messages lapse unclaimed nobody seems to work, or the broker was wiped: then one
        job goes out at a time, so that a broker without consumers does not fill up with copies.
        """
        if self.lapsed:
            return 0 if self.messages else 1
        return max(0, cap - self.messages - self.workers)


# A job on its way to the provider still stands in ``queued`` while a message names it.
_WORKED_IN = {
    State.QUEUED: State.SUBMITTING,
    State.WAITING: State.WAITING,
    State.STORING: State.STORING,
}


def _first_alarm(state: State) -> ScalarSelect[Any]:
    alarms = select(job.c.due_at).where(in_state(state), job.c.due_at.is_not(None))
    return alarms.order_by(job.c.due_at).limit(1).scalar_subquery()


def _flying() -> Select[Any]:
    # Each of these has an alarm; saying so lets the index of unfinished jobs be used.
    there = and_(in_state(*AT_PROVIDER), job.c.due_at.is_not(None))
    soon = and_(in_state(State.QUEUED), job.c.lease == MESSAGE, job.c.due_at > now())
    # Two walks of two indexes in one statement: with an OR there might be none.
    found = union_all(*(select(job.c.key_id).where(one) for one in (there, soon))).subquery()
    return select(found.c.key_id, func.count().label("jobs")).group_by(found.c.key_id)


# Built once: a reconciler does little else, and building one costs three times as much as asking.
_FLYING = _flying()
_LAPSED = (job.c.due_at <= now()).label("lapsed")
_HELD = (
    select(job.c.state, job.c.lease, _LAPSED, func.count())
    .where(job.c.lease.is_not(None), in_state(*ALARMED))
    .group_by(job.c.state, job.c.lease, _LAPSED)
)
_STATES = sorted(ALARMED)
# Not EXISTS (… due_at <= now()): PostgreSQL may look for "any" among the finished jobs.
_FIRST_NOTICE = (
    select(notice.c.due_at)
    .where(notice.c.due_at.is_not(None))
    .order_by(notice.c.due_at)
    .limit(1)
    .scalar_subquery()
)
_RINGING = select(
    *((_first_alarm(state) <= now()).label(state.value) for state in _STATES),
    (now() >= _FIRST_NOTICE).label(NOTICES),
)


def due(tx: Connection) -> dict[str, bool]:
    """Whose alarms ring: for each state that has alarms, and for NOTICES, whether any is over."""
    return dict(zip((*_STATES, NOTICES), map(bool, tx.execute(_RINGING).one()), strict=True))


def busy(tx: Connection) -> dict[State, Lane]:
    """The lanes, under the state from which they are released."""
    counts = {(state, lease, bool(over)): count for state, lease, over, count in tx.execute(_HELD)}
    return {
        state: Lane(
            messages=counts.get((state, MESSAGE, False), 0),
            workers=counts.get((worked_in, WORKER, False), 0),
            lapsed=counts.get((state, MESSAGE, True), 0),
        )
        for state, worked_in in _WORKED_IN.items()
    }


def in_flight(tx: Connection) -> dict[str, int]:
    """Jobs that the provider has, may have, or is about to get, by key."""
    return {row.key_id: row.jobs for row in tx.execute(_FLYING)}
