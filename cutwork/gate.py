"""The gate: one row for each API key decides, for all processes together, what may go out now.

The rate is a GCRA in one column: ``free_at`` is the moment at which the permits given so far are
worked off, and a permit may be given while that moment is less than a burst ahead. Whoever gives
permits holds the row's lock until the jobs that use them are released in the same transaction.
Nobody ever sleeps on a gate.

The breaker stops a key that the provider refuses, or whose requests mostly fail. When its pause is
over it is half open: one job goes, the probe, and its answer decides. Then the rate grows back.
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from cutwork import schema
from cutwork.clock import after, now
from cutwork.events import Kind, record
from cutwork.settings import Settings

# Without a Retry-After: 1, 2, 4 … seconds for refusals with no answer between them.
_LONGEST_BACK_OFF, _MOST_THROTTLES = 60.0, 7
_SHORTEST_RETRY_AFTER, _LONGEST_RETRY_AFTER = 1.0, 3600.0
_FORGIVEN_AFTER = 60.0
# A refused key is seldom mended within seconds; its probes are a minute apart, and then an hour.
_REFUSED_PAUSE, _REFUSED_LONGEST = 60.0, 3600.0
# While the rate grows back, so many failures are enough.
_FAILURES_IN_RAMP = 2
_LEAST_SHARE_OF_RATE = 0.1
# Built once: building a statement costs more than sending it.
_MINE = schema.gate.c.key_id == bindparam("key")
_ALL = select(schema.gate, now().label("at"))
_ONE = _ALL.where(_MINE)
_ONE_LOCKED = _ONE.with_for_update()
_FREE = (
    _ALL.where(schema.gate.c.key_id.in_(bindparam("keys", expanding=True)))
    .order_by(schema.gate.c.key_id)
    .with_for_update(skip_locked=True)
)
_SPEND = (
    update(schema.gate)
    .where(_MINE)
    .values(free_at=bindparam("until", type_=schema.gate.c.free_at.type))
)

_CLEAN: dict[str, Any] = {
    "trips": 0,
    "probe": None,
    "probe_until": None,
    "ramp_at": None,
    "good": 0,
    "bad": 0,
    "counted_since": None,
}


@dataclass(frozen=True)
class Gate:
    """One key's gate as it was when its row was read; ``at`` is the database's time then."""

    key_id: str
    at: datetime
    free_at: datetime
    paused: bool
    closed_until: datetime | None
    reason: str | None
    trips: int = 0
    probe: UUID | None = None
    probe_until: datetime | None = None
    ramp_at: datetime | None = None
    bad: int = 0
    throttles: int = 0

    @property
    def open(self) -> bool:
        return not self.paused and (self.closed_until is None or self.closed_until <= self.at)

    @property
    def tripped(self) -> bool:
        """The breaker stopped this key, and no probe has come back well since."""
        return self.trips > 0 and self.ramp_at is None

    @property
    def half_open(self) -> bool:
        """Only the probe may go."""
        return self.tripped and self.open

    @property
    def watched(self) -> bool:
        """Whether answers have to be counted: something went wrong not long ago."""
        return self.trips > 0 or self.bad > 0 or self.throttles > 0

    @property
    def condition(self) -> str:
        """``open``, ``paused`` (by an operator), ``closed`` (429), ``tripped``, ``probing`` or
        ``ramping``."""
        if self.paused:
            return "paused"
        if self.tripped:
            return "probing" if self.open else "tripped"
        if not self.open:
            return "closed"
        return "ramping" if self.trips else "open"

    def admits(self, job_id: UUID) -> bool:
        """Whether a request for this job, which was released before, may still go."""
        return self.open and (not self.tripped or self.probe == job_id)

    def pace(self, settings: Settings) -> float:
        """The share (0 to 1) of the rate, and of the jobs in flight, that is allowed now."""
        if self.ramp_at is None:
            return 1.0
        grown = (self.at - self.ramp_at).total_seconds() / settings.breaker_ramp
        return min(1.0, max(_LEAST_SHARE_OF_RATE, grown))

    def slots(self, settings: Settings) -> int:
        """How many jobs may be with the provider at once."""
        return max(1, math.floor(settings.max_in_flight * self.pace(settings)))

    def permits(self, rate: float, share: float = 1.0) -> int:
        """How many requests may be released now, at the ``share`` of the rate that ``pace`` gives.

        What is not worked off yet counts at the whole rate, at which it was perhaps released.
        """
        if not self.open:
            return 0
        ahead = max(self.free_at - self.at, timedelta(0)).total_seconds()
        free = max(0, math.floor(burst(rate * share) - ahead * rate + 1e-9))
        if not self.tripped:
            return free
        probing = self.probe_until is not None and self.probe_until > self.at
        return 0 if probing else min(1, free)

    def opens_in(self, rate: float, share: float = 1.0) -> float | None:
        """Seconds until the next of these permits; None while somebody must resume the key."""
        if self.paused:
            return None
        closed = (self.closed_until - self.at).total_seconds() if self.closed_until else 0.0
        ahead = (self.free_at - self.at).total_seconds()
        return max(0.0, closed, ahead - (burst(rate * share) - 1) / rate)


def burst(rate: float) -> float:
    """How many permits may be given at once: a quarter of a second's worth, and more than one.

    The reconciler cannot wake for each of many permits a second, so it takes them by the handful;
    the quarter of a permit beyond one makes up for its waking late.
    """
    return max(1.25, rate * 0.25)


def fresh_for(rate: float) -> float:
    """Seconds from the release within which a worker may send without asking the gate again.

    Together with ``burst`` this bounds what the provider sees: in any window of t seconds no more
    than rate · (t + fresh_for) + burst requests, however long a message was on its way. It is half
    a permit's time where that is long: more would be thrown away than is gained.
    """
    return max(0.3, 0.5 / rate)


def ensure(tx: Connection, key_ids: Iterable[str]) -> None:
    """Make a gate for each key that has none."""
    known = set(tx.execute(select(schema.gate.c.key_id)).scalars())
    for key_id in sorted(set(key_ids) - known):
        new = {"key_id": key_id, "free_at": now(), "paused": False, "throttles": 0, **_CLEAN}
        with suppress(IntegrityError), tx.begin_nested():  # another process made it just now
            tx.execute(insert(schema.gate).values(new))


def lock(tx: Connection, key_ids: Iterable[str]) -> list[Gate]:
    """The keys' gates, locked; those that another reconciler has locked are left to it."""
    return [_gate(row) for row in tx.execute(_FREE, {"keys": sorted(key_ids)})]


def of(tx: Connection, key_id: str) -> Gate | None:
    """One key's gate, to look at: it may have closed since a job was released."""
    row = tx.execute(_ONE, {"key": key_id}).one_or_none()
    return None if row is None else _gate(row)


def read(tx: Connection) -> list[Gate]:
    """Every gate, to look at."""
    return [_gate(row) for row in tx.execute(_ALL.order_by(schema.gate.c.key_id))]


def spend(tx: Connection, gate: Gate, permits: int, rate: float) -> None:
    """Note that so many permits of a locked gate were used."""
    begin = max(gate.free_at, gate.at)
    tx.execute(_SPEND, {"key": gate.key_id, "until": begin + timedelta(seconds=permits / rate)})


class LatePermits:
    """Permits of one key for messages that were long on their way, from one look at its gate.

    The gate stays locked until the transaction ends; ``spend`` notes all that were taken.
    """

    def __init__(self, tx: Connection, key_id: str, settings: Settings) -> None:
        self._tx, self._gate, self._taken = tx, _locked(tx, key_id), 0
        self._rate, self._share = settings.rate, self._gate.pace(settings) if self._gate else 1.0

    def take(self) -> bool:
        """Whether there is another one now."""
        found = self._gate
        if found is not None:
            if found.permits(self._rate, self._share) - self._taken < 1 and not found.tripped:
                return False
            self._taken += 1
        return True

    def spend(self) -> None:
        if self._gate is not None and self._taken:
            spend(self._tx, self._gate, self._taken, self._rate * self._share)


def send_probe(tx: Connection, gate: Gate, job_id: UUID, seconds: float) -> None:
    """Note whose answer decides about a half-open gate, and for how long it is waited for."""
    _update(tx, gate.key_id, probe=job_id, probe_until=after(seconds))


def recall_probe(tx: Connection, key_id: str, job_id: UUID) -> None:
    """This job could not be sent: if it was to be the probe, another may go in its place now."""
    mine = (schema.gate.c.key_id == key_id, schema.gate.c.probe == job_id)
    tx.execute(update(schema.gate).where(*mine).values(probe=None, probe_until=None))


def answered(tx: Connection, key_id: str, job_id: UUID, settings: Settings) -> None:
    """The provider answered a request as it should; to be called for a ``watched`` gate.

    One such answer takes back what one 429 did to the next pause: where the provider refuses now
    and then whatever the rate, pauses stay short.
    """
    row = _locked_row(tx, key_id)
    if row is None:
        return
    found = _gate(row)
    if found.tripped and found.probe != job_id:
        return  # it was on its way before the breaker opened, and proves nothing of now
    # Nor does what comes while the gate is closed.
    values: dict[str, Any] = {}
    if row.throttles and found.open:
        values["throttles"] = row.throttles - 1
    if found.tripped:
        values |= _CLEAN | {"trips": row.trips, "ramp_at": now(), "reason": None}
        record(tx, Kind.CLOSED, "the probe was answered: the rate grows back", key_id=key_id)
    elif found.trips and found.pace(settings) >= 1:
        values |= _CLEAN
    elif found.trips or found.bad:
        values |= _counted(row, settings, good=1)
    if values:
        _update(tx, key_id, **values)


def failed(tx: Connection, key_id: str, job_id: UUID, reason: str, settings: Settings) -> None:
    """A request failed as requests fail when a provider is down; too many of them trip it."""
    row = _locked_row(tx, key_id)
    if row is None or _is_old_news(_gate(row), job_id):
        return
    found = _gate(row)
    values = _counted(row, settings, bad=1)
    enough = _FAILURES_IN_RAMP if found.trips else settings.breaker_failures
    share = values["bad"] / (values["bad"] + values["good"])
    if found.tripped or (values["bad"] >= enough and share >= settings.breaker_share):
        pause = min(settings.breaker_longest, settings.breaker_pause * 2.0 ** min(row.trips, 20))
        count = f"{values['bad']} of {values['bad'] + values['good']} requests failed"
        _trip(tx, row, pause, Kind.TRIPPED, f"{count}, the last: {reason}")
    else:
        _update(tx, key_id, **values)


def refuse(tx: Connection, key_id: str, job_id: UUID, message: str) -> None:
    """The provider does not accept the key: its jobs wait instead of burning."""
    row = _locked_row(tx, key_id)
    if row is None or _is_old_news(_gate(row), job_id):
        return
    pause = min(_REFUSED_LONGEST, _REFUSED_PAUSE * 2.0 ** min(row.trips, 20))
    _trip(tx, row, pause, Kind.REFUSED, f"the provider refused the key: {message}")


def throttle(tx: Connection, key_id: str, retry_after: float | None) -> float:
    """Close a gate because the provider said "too many"; returns for how many seconds.

    Answers that were on their way together count once: a closed gate closes further only if the
    provider asks for longer.
    """
    row = _locked_row(tx, key_id)
    if row is None:
        return retry_after or 1.0
    left = (row.closed_until - row.at).total_seconds() if row.closed_until else -math.inf
    recent = left > -_FORGIVEN_AFTER
    throttles = min(row.throttles + (left <= 0), _MOST_THROTTLES) if recent else 1
    seconds = min(_LONGEST_BACK_OFF, 2.0 ** (throttles - 1))
    if retry_after is not None:
        seconds = min(max(retry_after, _SHORTEST_RETRY_AFTER), _LONGEST_RETRY_AFTER)
    if left >= seconds or (left > 0 and retry_after is None):
        return left
    reason = f"the provider answered 429, closed for {seconds:.0f} s"
    # A probe that was throttled has said nothing: the next may go when the gate opens.
    values = {"throttles": throttles, "reason": reason, "probe": None, "probe_until": None}
    _update(tx, key_id, closed_until=after(seconds), **values)
    if left <= 0:
        record(tx, Kind.THROTTLED, reason, key_id=key_id)
    return seconds


def pause(tx: Connection, key_id: str, reason: str = "paused by an operator") -> bool:
    """Let nothing through until somebody resumes; False when it was paused already."""
    unpaused = update(schema.gate).where(schema.gate.c.key_id == key_id, ~schema.gate.c.paused)
    changed = tx.execute(unpaused.values(paused=True, reason=reason)).rowcount == 1
    if changed:
        record(tx, Kind.PAUSED, reason, key_id=key_id)
    return changed


def resume(tx: Connection, key_id: str) -> bool:
    """Open a gate, whatever closed it; False when it was open."""
    row = _locked_row(tx, key_id)
    if row is None or (_gate(row).open and not row.trips):
        return False
    _update(tx, key_id, **_CLEAN, paused=False, closed_until=None, throttles=0, reason=None)
    record(tx, Kind.RESUMED, row.reason or "", key_id=key_id)
    return True


def _is_old_news(found: Gate, job_id: UUID) -> bool:
    """Whether a failure speaks of the time before the breaker opened."""
    return found.tripped and (not found.open or found.probe != job_id)


def _counted(row: Row[Any], settings: Settings, *, good: int = 0, bad: int = 0) -> dict[str, Any]:
    """The counts with one more; they begin anew with each window."""
    since = row.counted_since
    window = timedelta(seconds=settings.breaker_window)
    if since is None or row.at - since > window:
        return {"good": good, "bad": bad, "counted_since": now()}
    return {"good": row.good + good, "bad": row.bad + bad}


def _trip(tx: Connection, row: Row[Any], seconds: float, kind: Kind, reason: str) -> None:
    trips = min(row.trips + 1, 30_000)
    values = _CLEAN | {"trips": trips, "closed_until": after(seconds), "reason": reason[:300]}
    _update(tx, row.key_id, **values)
    record(tx, kind, f"{reason}; the next try is in {seconds:.0f} s"[-500:], key_id=row.key_id)


def _locked_row(tx: Connection, key_id: str) -> Row[Any] | None:
    return tx.execute(_ONE_LOCKED, {"key": key_id}).one_or_none()


def _locked(tx: Connection, key_id: str) -> Gate | None:
    row = _locked_row(tx, key_id)
    return None if row is None else _gate(row)


def _gate(row: Row[Any]) -> Gate:
    return Gate(
        row.key_id,
        row.at,
        row.free_at,
        row.paused,
        row.closed_until,
        row.reason,
        row.trips,
        row.probe,
        row.probe_until,
        row.ramp_at,
        row.bad,
        row.throttles,
    )


def _update(tx: Connection, key_id: str, **values: object) -> None:
    tx.execute(update(schema.gate).where(schema.gate.c.key_id == key_id).values(**values))
