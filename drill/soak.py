"""T4: a whole deployment under fire: real processes killed every few seconds, a provider that lies.

``Soak`` is what ``cutwork drill`` and the tests run: it starts everything, makes trouble until the
time is over, stops the faults, waits for rest, and audits. It talks to a sandbox of its own only.
"""

import os
import signal
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from kombu.connection import Connection
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from cutwork import callbacks, database, gate, jobs, schema
from cutwork.cli.house import free_port
from cutwork.errors import InvalidSetting
from cutwork.migrations.upgrade import upgrade
from cutwork.sandbox.server import Sandbox
from cutwork.settings import PREFIX, Settings
from cutwork.states import RESTING, State
from cutwork.worker.configuration import LANES, configuration, queue_name

from . import weather
from .audit import Audit, audit
from .points import POINTS
from .troupe import Player
from .verdict import Verdict, verdict

OWNER = "drill"
_KEPT = ("DATABASE_URL", "BROKER_URL", "STORAGE_URL")
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
        refuse_paid_api(self.environ)
        with ExitStack() as undo:
            self._set_up(undo)
            self._trouble(time.monotonic() + self.orders.seconds)
            rested = self._recover()
            found = audit(self._engine, self.settings, self._sandbox.ledger(), OWNER)
            found.expect(rested, "L1: not all jobs came to rest in time")
            return self._verdict(found)

    # --- before

    def _set_up(self, undo: ExitStack) -> None:
        orders = self.orders
        self._queued = 0
        self._chance, self._done = Random(orders.seed), Counter[str]()  # noqa: S311 - not a secret
        home = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="cutwork-drill-")))
        sandbox = Sandbox(
            seed=orders.seed, engine=weather.Middle(), faults=weather.plan(orders.seed),
            latency=(0.1, 0.6),
        )  # fmt: skip
        self._sandbox = undo.enter_context(sandbox)
        port = free_port("127.0.0.1", 0)
        self._children = self._environment(home, port)
        self.settings = Settings.load(self._children)
        self._engine = database.engine(self.settings.database)
        undo.callback(self._engine.dispose)
        upgrade(self._engine)
        self._refuse_strangers()
        roles: list[tuple[str, tuple[str, ...]]]
        roles = [("webhook", ("webhook", "--bind", f"127.0.0.1:{port}"))]
        roles += [(f"worker-{at}", ("worker",)) for at in range(orders.workers)]
        roles += [(f"reconciler-{at}", ("reconciler",)) for at in range(orders.reconcilers)]
        self.players = [Player(name, role, self._children, home) for name, role in roles]
        for player in self.players:
            undo.callback(player.kill)
            player.start()

    def _environment(self, home: Path, port: int) -> dict[str, str]:
        """The user's database, broker and storage; nothing else of what is set."""
        plain = {name: text for name, text in self.environ.items() if not name.startswith(PREFIX)}
        kept = {
            name: text
            for name, text in self.environ.items()
            if name.removeprefix(PREFIX).removesuffix("_FILE") in _KEPT
        }
        chosen = weather.SHORT | {
            "HOME": str(home),
            "API_URL": self._sandbox.url,
            "API_TOKENS": "drill-key",
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "CALLBACK_SECRETS": "a-secret-of-the-drill",
            "RATE": f"{max(20.0, 4 * self.orders.jobs / self.orders.seconds):g}",
            "MAX_IN_FLIGHT": "64",
        }
        return plain | kept | {f"{PREFIX}{name}": text for name, text in chosen.items()}

    def _refuse_strangers(self) -> None:
        unfinished = schema.job.c.state.in_([state.value for state in set(State) - RESTING])
        others = select(func.count()).where(unfinished, schema.job.c.owner != OWNER)
        with database.read_only(self._engine).connect() as tx:
            found = tx.execute(others.select_from(schema.job)).scalar_one()
        if found:
            rule = f"holds {found} unfinished jobs that are not the drill's"
            remedy = "give the drill a database of its own"
            raise InvalidSetting(f"{PREFIX}DATABASE_URL", "(hidden)", rule, remedy)

    def _enqueue(self, until: int) -> None:
        """The jobs up to number ``until``; a quarter of them may not be paid for twice."""
        with self._engine.begin() as tx:
            for at in range(self._queued, until):
                policy = "hold" if at % 4 == 0 else "resubmit"
                jobs.enqueue(
                    tx, image_file=_picture(at), owner=OWNER, on_uncertain=policy,
                    meta={"policy": policy}, settings=self.settings,
                )  # fmt: skip
        self._queued = max(self._queued, until)

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
                if player.point and f"drill: crashed at {player.point}" in player.log:
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
        left, deadline = self.orders.jobs + 1, time.monotonic() + _REST_WITHIN
        while time.monotonic() < deadline:
            self._restart_the_dead()
            self._resume()
            unfinished = self._count(*(set(State) - RESTING))
            if unfinished == 0:
                return True
            if unfinished < left:
                left, deadline = unfinished, time.monotonic() + _REST_WITHIN
            time.sleep(0.5)
        for player in self.players:
            for line in player.log.splitlines()[-_LAST_WORDS:]:
                self.say(f"{player.name}: {line}")
        return False

    def _count(self, *states: State) -> int:
        chosen = schema.job.c.state.in_([state.value for state in states])
        mine = select(func.count()).where(chosen, schema.job.c.owner == OWNER)
        with database.read_only(self._engine).connect() as tx:
            return int(tx.execute(mine.select_from(schema.job)).scalar_one())

    def _verdict(self, found: Audit) -> Verdict:
        found.expect(not self._done["forged token believed"], "S6: a forged token was believed")
        logs = {player.name: player.log for player in self.players}
        return verdict(
            self._engine, found, self._sandbox.ledger(), self._done, logs, self.orders.seed
        )


def refuse_paid_api(environ: Mapping[str, str]) -> None:
    """The drill's provider is a sandbox of its own, always.

    Raises:
        InvalidSetting: CUTWORK_API_URL is set.
    """
    for name in (f"{PREFIX}API_URL", f"{PREFIX}API_URL_FILE"):
        if environ.get(name):
            rule = "must not be set: a drill never talks to a provider that is paid"
            raise InvalidSetting(name, environ[name], rule, "unset it")


def drill(orders: dict[str, Any], say: Say) -> Verdict:
    """What ``cutwork drill`` calls, with this process's environment."""
    return Soak(Orders(**orders), os.environ, say).run()


def _picture(at: int) -> bytes:
    """One picture of its own for each job."""
    out = BytesIO()
    color = (at % 256, at // 256 % 256, 255 - at % 256)
    Image.new("RGB", (48, 32), color).save(out, "PNG")
    return out.getvalue()
