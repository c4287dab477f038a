"""The alarm clock: whose time has come? Push those alarms forward, commit, send messages.

New work, a retry, a lost message, a dead worker, a lost callback, a failed download: each is an
alarm that rings, and is repaired by the same few lines. Several reconcilers may run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from uuid import UUID

from sqlalchemy import Connection, Engine

from cutwork import budget, database, gate, lanes, ledger, log, notices, pace
from cutwork.gate import Gate
from cutwork.lanes import Lane
from cutwork.settings import Settings
from cutwork.states import State

Publish = Callable[[str, Sequence[UUID]], None]
Released = dict[str, list[UUID]]

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.08
# More jobs than this at once share messages, so that a backlog costs few of them; and so do those
# that follow each other in a wide lane, of which a message holds a fiftieth.
_MESSAGES = 16
_SHARES = 50
_LOOKS_OF_AN_EYE = 200
_LEARN_EVERY = timedelta(seconds=2)


class Reconciler:
    """``publish(lane, job_ids)`` sends one message, and raises when the broker did not take it.

    ``idle`` says whether the latest look found no alarm that rings.
    """

    def __init__(self, engine: Engine, settings: Settings, publish: Publish) -> None:
        self._engine, self._settings, self._publish = engine, settings, publish
        self.idle = False
        self._gated = False
        self._eye: Connection | None = None
        self._looks = 0
        self._pause = _SHORTEST_PAUSE
        self._seen_at = self._learned_at = datetime.min.replace(tzinfo=UTC)

    def run_once(self) -> float:
        """Release what is due and may go; returns the seconds until it is worth looking again."""
        if not self._gated:
            database.transact(self._engine, gate.ensure, self._settings.keys)
            self._gated = True
        due = self._look()
        self.idle = not any(due.values())
        if due[State.SUBMITTING]:
            database.transact(self._engine, ledger.lapse, self._settings)
        if due[State.UNCERTAIN]:
            database.transact(self._engine, ledger.settle, self._settings)
        released: Released = {}
        opens_in = _LONGEST_PAUSE
        if due[State.STORING]:
            released |= database.transact(self._engine, self._release_stores)
        if due[State.WAITING]:
            database.transact(self._engine, ledger.adrift, self._settings)
        if due[State.WAITING] or due[State.QUEUED]:
            requests, opens_in = database.transact(self._engine, self._release_requests, due)
            released |= requests
        if due[lanes.NOTICES]:
            told = database.transact(self._engine, notices.release, self._settings)
            released |= {notices.LANE: told}
        self._send(released)
        self._learn()
        return self._rest(any(released.values()), opens_in)

    def close(self) -> None:
        """Give back the connection that was kept."""
        if self._eye is not None:
            self._eye.close()
            self._eye = None

    def _look(self) -> dict[str, bool]:
        """The one question of an idle system, on a connection that is kept for it.

        Not for ever: it may lead to a server that was cut off, and shows what was true before.
        """
        self._looks += 1
        if self._looks % _LOOKS_OF_AN_EYE == 0:
            self.close()
        if self._eye is None:
            self._eye = database.read_only(self._engine).connect()
        try:
            return lanes.due(self._eye)
        except BaseException:
            self._eye.invalidate()
            self._eye = None
            raise
        finally:
            if self._eye is not None:
                self._eye.rollback()  # a kept snapshot would never show anything new

    def _release_stores(self, tx: Connection) -> Released:
        lane, settings = lanes.busy(tx)[State.STORING], self._settings
        room = lane.room(settings.store_lane)
        return {"store": ledger.release_stores(tx, room, settings.permit_ttl, lane.lapsed > 0)}

    def _release_requests(self, tx: Connection, due: Mapping[str, bool]) -> tuple[Released, float]:
        """Checks before submits, from one budget for each key; also when the next permit is."""
        settings = self._settings
        # The gates are locked first: what is counted after that, no other reconciler changes.
        gates = gate.lock(tx, settings.keys)
        ledger.wake(tx)
        busy, flying = lanes.busy(tx), lanes.in_flight(tx)
        checking, submitting = busy[State.WAITING], busy[State.QUEUED]
        check_room = checking.room(settings.check_lane)
        submit_room = submitting.room(settings.submit_lane)
        submit_room = min(submit_room, self._affordable(tx, submitting, gates))
        released: Released = {"check": [], "submit": []}
        closed = [one.key_id for one in gates if not one.open]
        if closed and checking.lapsed:
            ledger.drop_messages(tx, closed)
        for one in gates:
            share, ttl = one.pace(settings), settings.permit_ttl
            permits = one.permits(settings.rate, share)
            room = min(permits, check_room) if due[State.WAITING] else 0
            checks = ledger.release_checks(tx, one.key_id, room, ttl, checking.lapsed > 0)
            slots = one.slots(settings) - flying.get(one.key_id, 0)
            room = min(permits - len(checks), submit_room, slots)
            submits = ledger.release_submits(tx, one.key_id, room, ttl, submitting.lapsed > 0)
            self._account(tx, one, [*checks, *submits], settings.rate * share)
            check_room, submit_room = check_room - len(checks), submit_room - len(submits)
            released["check"] += checks
            released["submit"] += submits
        self._seen_at = max((one.at for one in gates), default=self._seen_at)
        waits = [one.opens_in(settings.rate, one.pace(settings)) for one in gates]
        return released, min((wait for wait in waits if wait), default=_LONGEST_PAUSE)

    def _affordable(self, tx: Connection, lane: Lane, gates: Sequence[Gate]) -> int:
        """How many submits the day's budget allows; it is one for all keys, so all are locked."""
        settings = self._settings
        left = budget.left(tx, settings, released=lane.messages)
        if left is None:
            return settings.submit_lane
        if not left:
            budget.note(tx, settings)
        return left if len(gates) == len(settings.keys) else 0

    def _account(self, tx: Connection, one: Gate, job_ids: Sequence[UUID], rate: float) -> None:
        if job_ids:
            gate.spend(tx, one, len(job_ids), rate)
        if job_ids and one.half_open:
            longest = max(self._settings.submit_timeout, self._settings.query_timeout)
            gate.send_probe(tx, one, job_ids[0], self._settings.permit_ttl + longest)

    def _learn(self) -> None:
        """How long the provider takes, at most every few seconds, by the database's clock."""
        if self._seen_at - self._learned_at >= _LEARN_EVERY:
            database.transact(self._engine, pace.learn, self._settings)
            self._learned_at = self._seen_at

    def _send(self, released: Released) -> None:
        """What the broker does not take is due again at once, and so is all that follows it."""
        messages = list(self._messages(released))
        for sent, (lane, job_ids) in enumerate(messages):
            try:
                self._publish(lane, job_ids)
            except Exception:
                self._recall(messages[sent:])
                raise
            log.event("released", lane=lane, jobs=len(job_ids))

    def _recall(self, messages: Sequence[tuple[str, list[UUID]]]) -> None:
        for verb, ours in ((ledger.recall, False), (notices.recall, True)):
            ids = [one for lane, ids in messages if (lane == notices.LANE) is ours for one in ids]
            if ids:
                database.transact(self._engine, verb, ids)

    def _messages(self, released: Released) -> Iterator[tuple[str, list[UUID]]]:
        settings = self._settings
        widths = {"submit": settings.submit_lane, "check": settings.check_lane}
        widths[notices.LANE] = settings.notify_lane
        for lane, job_ids in released.items():
            share = widths.get(lane, settings.store_lane) // _SHARES
            size = max(ceil(len(job_ids) / _MESSAGES), share, 1)
            for start in range(0, len(job_ids), size):
                yield lane, job_ids[start : start + size]

    def _rest(self, busy: bool, opens_in: float) -> float:
        self._pause = _SHORTEST_PAUSE if busy else min(_LONGEST_PAUSE, self._pause * 2)
        return max(_SHORTEST_PAUSE, min(self._pause, opens_in))
