"""T4: a whole deployment under fire: real processes killed every few seconds, a provider that lies.

``Soak`` is what ``cutwork drill`` and the tests run: it starts everything, makes trouble until the
time is over, stops the faults, waits for rest, and audits. It talks to a sandbox of its own only.
"""

import math
import os
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import uuid4

from kombu.connection import Connection
from sqlalchemy.exc import SQLAlchemyError

from cutwork import callbacks, database, gate
from cutwork.states import RESTING, State
from cutwork.worker.configuration import LANES, configuration, queue_name

from . import weather
from .audit import Audit, audit
from .points import POINTS
from .site import OWNER, opened
from .troupe import Player
from .verdict import Verdict, verdict

_SHARE = 2 / 3
_PAUSE = (1.0, 3.0)
# The lease of a submit ends five seconds after its claim; a worker stopped for longer loses it.
_LONG_STOP = 9.0
_LONGEST_OUTAGE = 20.0
# Without any job coming to rest: three attempts that each hang until their time is over, on a
# machine that is busy. How long ten thousand jobs take says nothing of the one that is stuck.
_REST_WITHIN = 300.0
_LAST_WORDS = 40

Trouble = Callable[[], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Orders:
    """How large a drill is; ``seconds`` is how long there is trouble."""

    jobs: int = 100
    seconds: float = 60.0
    seed: int = 0
    workers: int = 2
    reconcilers: int = 2


@dataclass
class Soak:
    """One drill; ``troubles`` happen once each, by name, in the order given."""

    orders: Orders
    environ: Mapping[str, str]
    say: Say = lambda _line: None
    troubles: Mapping[str, Trouble] = field(default_factory=dict)

    def run(self) -> Verdict:
        """Raises InvalidSetting when it could touch what is not its own."""
        with ExitStack() as undo:
            self._set_up(undo)
            self._trouble(time.monotonic() + self.orders.seconds)
            self._send_more()
            rested = self._recover()
            found = audit(self._engine, self.settings, self._sandbox.ledger(), OWNER)
            found.expect(rested, "L1: not all jobs came to rest in time")
            return self._verdict(found)

    # --- before

    def _set_up(self, undo: ExitStack) -> None:
        orders = self.orders
        self._chance, self._done = Random(orders.seed), Counter[str]()  # noqa: S311 - not a secret
        rate = max(20.0, 4 * orders.jobs / orders.seconds)
        chosen = weather.SHORT | {"RATE": f"{rate:g}", "MAX_IN_FLIGHT": "64"}
        self._site = undo.enter_context(
            opened(
                self.environ, chosen, seed=orders.seed, faults=weather.plan(orders.seed),
                latency=(0.1, 0.6),
            )
        )  # fmt: skip
        self._sandbox, self._engine = self._site.sandbox, self._site.engine
        self.settings, self.players = self._site.settings, self._site.players
        self._site.cast("webhook", "webhook")
        for role, many in (("worker", orders.workers), ("reconciler", orders.reconcilers)):
            for at in range(many):
                self._site.cast(f"{role}-{at}", role)
        for player in self.players:
            player.start()

    def _enqueue(self, until: int) -> None:
        """The jobs up to number ``until``; a quarter of them may not be paid for twice."""
        with self._engine.begin() as tx:
            for at in range(self._queued, until):
                policy = "hold" if at % 4 == 0 else "resubmit"
                self._site.enqueue(tx, on_uncertain=policy, meta={"policy": policy})

    @property
    def _queued(self) -> int:
        return len(self._site.ids)

    # --- meanwhile

    def _trouble(self, deadline: float) -> None:
        """Jobs come until two thirds of the time are over, so that every trouble meets some."""
        once = {
            "provider down": self._take_the_provider_down,
            "broker wiped": self._wipe,
            "worker dies before a POST": self._die_with_a_lease,
            "forger comes": self._forge_until_answered,
            "worker stopped for long": self._stop_for_long,
            **self.troubles,
        }
        planned, orders = list(once), self.orders
        apart = orders.seconds / (len(planned) + 2)
        began = next_once = time.monotonic()
        while time.monotonic() < deadline:
            passed = (time.monotonic() - began) / (orders.seconds * _SHARE)
            self._enqueue(min(orders.jobs, 1 + int(orders.jobs * passed)))
            self._restart_the_dead()
            if planned and time.monotonic() >= next_once + apart:
                name = planned.pop(0)
                self.say(name)
                once[name]()
                self._done[name] += 1
                next_once += apart
            else:
                whole = [player for player in self.players if not player.point]
                self._hurt(self._chance.choice(whole or self.players))
            time.sleep(self._chance.uniform(*_PAUSE))
        self._enqueue(orders.jobs)

    def _send_more(self) -> None:
        """For as long again, if need be: on a slow machine most jobs would meet no fault."""
        self._emptied({State.QUEUED}, self.orders.seconds)

    def _take_the_provider_down(self) -> None:
        """Until the breaker has opened, which it does by itself, as it closes again."""
        self._sandbox.set_faults(weather.DOWN)
        self._enqueue(min(self.orders.jobs, self._queued + 20))
        deadline = time.monotonic() + _LONGEST_OUTAGE
        while time.monotonic() < deadline and not self._tripped():
            self._restart_the_dead()
            time.sleep(0.2)
        self._sandbox.set_faults(weather.plan(self.orders.seed))

    def _tripped(self) -> bool:
        try:
            with database.read_only(self._engine).connect() as tx:
                return any(one.tripped for one in gate.read(tx))
        except SQLAlchemyError:
            return False

    def _die_with_a_lease(self) -> None:
        """An intent is committed, nothing was sent, and only its lease ever tells."""
        self._crash(self._first("worker"), "claim:after-commit")

    def _first(self, kind: str) -> Player:
        return next(player for player in self.players if player.kind == kind)

    def _crash(self, player: Player, point: str) -> None:
        player.kill()
        player.start(point)

    def _hurt(self, player: Player) -> None:
        match self._chance.choice(("kill", "kill", "stop", "crash", "crash", "forge", "resume")):
            case "kill":
                player.kill()
                self._done[f"{player.kind} killed"] += 1
            case "stop":
                player.signal(signal.SIGSTOP)
                time.sleep(self._chance.uniform(*_PAUSE))
                player.signal(signal.SIGCONT)
                self._done[f"{player.kind} stopped"] += 1
            case "crash":
                own = [point for point, role in POINTS.items() if role == player.kind]
                self._crash(player, self._chance.choice(own))
            case "forge":
                self._forge()
            case "resume":
                self._resume()

    def _restart_the_dead(self) -> None:
        for player in self.players:
            if not player.running:
                if player.crashed:
                    self._done[f"crashed at {player.point}"] += 1
                player.start()

    def _wipe(self) -> None:
        options = configuration(self.settings)["broker_transport_options"]
        with Connection(  # type: ignore[no-untyped-call]
            self.settings.broker, transport_options=options
        ) as connection:
            for lane in LANES:
                with connection.channel() as channel:
                    channel.queue_purge(queue_name(lane))

    def _stop_for_long(self) -> None:
        worker = self._first("worker")
        worker.signal(signal.SIGSTOP)
        time.sleep(_LONG_STOP)
        worker.signal(signal.SIGCONT)

    def _forge(self) -> None:
        job_id = uuid4()
        token = callbacks.mint("not-the-drills-secret", job_id, 1, 2**32 - 1)
        url = f"{self.settings.public_url}{callbacks.PATH}{token}"
        try:
            urllib.request.urlopen(url, data=b'{"state": -7}', timeout=2)  # noqa: S310 - our own
        except urllib.error.HTTPError as refused:
            self._done["forged token"] += refused.code == 404
        except OSError:
            return  # the webhook is down just now
        else:
            self._done["forged token believed"] += 1

    def _forge_until_answered(self) -> None:
        before, deadline = self._done["forged token"], time.monotonic() + _LONGEST_OUTAGE
        while self._done["forged token"] == before and time.monotonic() < deadline:
            self._restart_the_dead()
            self._forge()
            time.sleep(0.2)

    def _resume(self) -> None:
        try:
            with database.read_only(self._engine).connect() as tx:
                refused = [one.key_id for one in gate.read(tx) if "refused" in (one.reason or "")]
            for key_id in refused:  # as an operator who has paid the bill; the rest opens by itself
                database.transact(self._engine, gate.resume, key_id)
        except SQLAlchemyError:
            return  # the database is down just now; there is another time

    # --- after

    def _recover(self) -> bool:
        """The faults stop; whether everything comes to rest."""
        self._sandbox.set_faults({})
        self.say("the faults stop")
        for player in self.players:
            if player.point:
                player.kill()
            player.signal(signal.SIGCONT)
        if self._emptied(set(State) - RESTING, math.inf):
            return True
        for player in self.players:
            for line in player.log.splitlines()[-_LAST_WORDS:]:
                self.say(f"{player.name}: {line}")
        return False

    def _emptied(self, states: Set[State], seconds: float) -> bool:
        """Whether all jobs leave these states in that time, and never none of them for long."""
        left, end = self.orders.jobs + 1, time.monotonic() + seconds
        deadline = time.monotonic() + _REST_WITHIN
        while time.monotonic() < min(deadline, end):
            self._restart_the_dead()
            self._resume()
            found = self._site.count(*states)
            if found == 0:
                return True
            if found < left:
                left, deadline = found, time.monotonic() + _REST_WITHIN
            time.sleep(0.5)
        return False

    def _verdict(self, found: Audit) -> Verdict:
        found.expect(not self._done["forged token believed"], "S6: a forged token was believed")
        logs = {player.name: player.log for player in self.players}
        return verdict(
            self._engine, found, self._sandbox.ledger(), self._done, logs, self.orders.seed
        )


def drill(orders: dict[str, Any], say: Say) -> Verdict:
    """What ``cutwork drill`` calls, with this process's environment."""
    return Soak(Orders(**orders), os.environ, say).run()
