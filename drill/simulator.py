"""T2: the real worker, reconciler and webhook, cut into steps and interleaved by a seed.

One thread of control, a virtual clock, real SQL. Every step of the real code stops at each commit
and each HTTP edge; the seed decides who goes on, how long it takes, what fails and who dies. The
provider, the broker, the disk and the wire are models, and they lie. The invariants are checked
after every commit; then the faults stop, and everything has to come to rest.

``simulate(seed)`` is a function of its arguments: the same seed gives the same trace.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Engine, text

from cutwork import database, gate, jobs, schema
from cutwork.ledger import Ticket
from cutwork.migrations.upgrade import upgrade
from cutwork.request import Segmentation
from cutwork.settings import Settings
from cutwork.storage import Storage
from cutwork.worker.reconciler import Reconciler
from cutwork.worker.tools import Tools

from .company import Broker, Clocks, Operator, Post
from .disguise import disguised
from .impostor import FAILURES, HOST, Impostor, Task, picture
from .invariants import Invariants, Violation, explained
from .mischief import Mischief
from .schedule import Schedule
from .stand_ins import CutEngine, HostClock, MemoryShelf, WatchedGroup, Wireless
from .virtual_time import START, VirtualTime

# So many events, or virtual seconds after the faults, and something goes round in circles.
_MOST_EVENTS, _LONGEST_REST = 100_000, 4 * 3600.0
_LEAPS = (20.0, 150.0, 1000.0, 4000.0)


@dataclass(frozen=True)
class Outcome:
    """One seed's run: what went wrong on purpose, what came of it, and the trace's fingerprint."""

    seed: int
    digest: str
    events: int
    seconds: float
    struck: Counter[str]
    sometimes: Counter[str]
    states: Counter[str]
    charges: int


class Broken(AssertionError):
    """A seed that breaks an invariant, with the command that shows it again."""

    def __init__(self, seed: int, size: int, url: str, fault: str) -> None:
        super().__init__(seed, size, url, fault)
        self.seed, self._size, self._fault = seed, size, fault
        self._elsewhere = "" if url.startswith("sqlite") else " --database URL"

    def __str__(self) -> str:
        again = f"simulate --seed {self.seed} --jobs {self._size}{self._elsewhere}"
        return f"{self._fault}\nrepeat it with: python -m cutwork.drill {again}"


class Place:
    """A database under a virtual clock, for one simulation after the other."""

    def __init__(self, url: str = "") -> None:
        self._undo = ExitStack()
        folder = self._undo.enter_context(TemporaryDirectory(prefix="cutwork-drill-"))
        self.url = url or f"sqlite:///{folder}/drill.db"
        self.engine = database.engine(self.url)
        self._undo.callback(self.engine.dispose)
        self.time = VirtualTime(self.engine)
        upgrade(self.engine)

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def empty(self) -> None:
        self.time.now = START
        with self.engine.begin() as tx:
            for table in reversed(schema.metadata.sorted_tables):
                tx.execute(table.delete())


def simulate(
    seed: int, size: int = 20, place: Place | None = None, lines: list[str] | None = None
) -> Outcome:
    """Run one seed with ``size`` jobs; ``lines`` collects the trace.

    Raises:
        Broken: an invariant did not hold.
    """
    if place is None:
        with Place() as own:
            return simulate(seed, size, own, lines)
    run = Simulation(seed, size, place, lines)
    try:
        return run.play()
    except Violation as fault:
        raise Broken(seed, size, place.url, str(fault)) from None


class Simulation:
    """One run of one seed."""

    def __init__(self, seed: int, size: int, place: Place, lines: list[str] | None) -> None:
        self._seed, self._size, self._place = seed, size, place
        self._chance = Random(seed)  # noqa: S311 - not a secret
        self._mischief = Mischief(self._chance)
        self._settings = _settings(self._chance)
        self._schedule = Schedule(self._chance, self._mischief, place.time, self._look, lines)
        cut = cast(Engine, CutEngine(place.engine, self._schedule))
        self._impostor = Impostor(self._schedule, self._chance, self._settings.result_ttl)
        self._shelf = MemoryShelf(self._schedule)
        wireless = Wireless(self._settings, self._impostor)
        storage = Storage("memory://", self._shelf)

        def tools() -> Tools:
            group = WatchedGroup(cut, self._schedule, self._took)
            return Tools(self._settings, cut, wireless, storage, group)

        self._broker = Broker(self._schedule, self._chance, tools)
        self._post = Post(self._schedule, self._chance, self._settings, cut)
        self._operator = Operator(place.engine, self._settings)
        self._cut, self._ids = cut, 0
        self._tickets: dict[str, Ticket] = {}
        self._clocks = Clocks(self._schedule, self._chance, self._reconciler)

    def play(self) -> Outcome:
        self._place.empty()
        with self._set_up():
            self._begin()
            self._until(self._chance.uniform(60.0, 400.0))
            self._mischief.over = True
            self._operator.resume()
            self._look("operator")
            self._until_rest()
            told = self._sometimes()
            if self._seed % 4 == 0:  # it costs as much as the jobs themselves
                self._say_everything_again()
            self._check_results()
            return self._outcome(told)

    @contextmanager
    def _set_up(self) -> Iterator[None]:
        clock = HostClock(self._schedule, START.timestamp())
        logger = logging.getLogger("cutwork")
        level = logger.level
        with ExitStack() as undo:
            eye = undo.enter_context(database.read_only(self._place.engine).connect())
            self._invariants = Invariants(eye, self._impostor.charges, self._settings)
            self._impostor.sender, self._impostor.started = self._sender, self._started
            self._impostor.known = self._invariants.task_ids
            self._clocks.next_alarm = lambda: self._invariants.next_alarm(self._place.time.now)
            faces = disguised(clock, self._chance, self._impostor.fetch, self._new_id)
            undo.enter_context(faces)
            undo.callback(self._clocks.close)
            undo.callback(self._schedule.close)
            logger.setLevel(logging.CRITICAL)
            undo.callback(logger.setLevel, level)
            yield

    def _begin(self) -> None:
        database.transact(self._place.engine, gate.ensure, self._settings.keys)
        at, chance = self._schedule.at, self._chance
        sizes = [self._size // 2, self._size // 4, self._size - self._size // 2 - self._size // 4]
        for policy, size in zip(("resubmit", "hold", "fail"), sizes, strict=True):
            at(chance.uniform(0.0, 20.0), lambda p=policy, n=size: self._enqueue(p, n))  # type: ignore[misc]
        self._clocks.begin()
        for kind, times in self._mischief.moments.items():
            for _ in range(times):
                at(chance.uniform(0.5, 90.0), lambda kind=kind: self._moment(kind))  # type: ignore[misc]

    def _enqueue(self, policy: str, size: int) -> None:
        first = len(self._invariants.jobs)
        most = self._chance.choice((1, 2, 3))
        asked = [
            Segmentation(image_url=f"http://shop.example/{first + number}.jpg")
            for number in range(size)
        ]
        with self._place.engine.begin() as tx:
            ids = jobs.enqueue_many(
                tx, asked, owner=f"shop-{policy}", on_uncertain=policy, max_paid_attempts=most
            )
        for job_id in ids:
            self._invariants.allowed[job_id.hex] = most if policy == "resubmit" else 1
        self._look("app")

    def _moment(self, kind: str) -> None:
        if self._mischief.over or not self._invariants.jobs:
            return
        self._mischief.struck[kind] += 1
        job_id = UUID(self._chance.choice(list(self._invariants.jobs)))
        self._schedule.note(f"drill: {kind}")
        match kind:
            case "broker wiped":
                self._broker.wipe()
            case "time leaps":
                self._schedule.leap(self._chance.choice(_LEAPS))
            case "operator cancels":
                self._operator.cancel(job_id)
            case "operator retries":
                self._retry()
            case "forged token":
                self._post.forge(job_id)
        self._look("operator")

    def _retry(self) -> None:
        resting = [
            one.id
            for one in self._invariants.jobs.values()
            if one.state in ("held", "failed", "cancelled")
        ]
        if not resting:
            return
        chosen = self._chance.choice(resting)
        self._invariants.retried.add(chosen)
        if self._operator.retry(UUID(chosen)) == "queued":
            self._invariants.allowed[chosen] += 1

    # --- what the parts ask

    def _look(self, by: str) -> None:
        self._invariants.look(by, self._place.time.now)
        if not by.startswith("reconciler"):
            self._clocks.wake()

    def _reconciler(self) -> Reconciler:
        return Reconciler(self._cut, self._settings, self._broker.publish)

    def _new_id(self) -> UUID:
        """As uuid7 does, in the order of time; else from the seed."""
        self._ids += 1
        return UUID(int=self._ids << 96 | self._chance.getrandbits(62) | 7 << 76 | 2 << 62)

    def _sender(self) -> tuple[str, int]:
        """Whose POST has come; S2: its intent is committed."""
        ticket = self._tickets[self._schedule.who]
        self._invariants.check_intent(ticket.job_id.hex, ticket.number)
        return ticket.job_id.hex, ticket.number

    def _took(self, ticket: Ticket) -> None:
        self._tickets[self._schedule.who] = ticket

    def _started(self, task: Task) -> None:
        if letter := self._impostor.progress(task):
            self._post.send(self._chance.uniform(0.0, 0.3), letter)
        if not self._schedule.strikes("stuck"):
            self._schedule.at(self._chance.uniform(0.5, 3.0), lambda: self._end(task))

    def _end(self, task: Task) -> None:
        if not task.final:
            fails = self._schedule.strikes("task fails")
            self._impostor.finish(task, self._chance.choice(FAILURES) if fails else 1)
        for wait, letter in self._impostor.letters(task):
            self._post.send(wait, letter)

    # --- the run, and what came of it

    def _settled(self) -> bool:
        rows = self._invariants
        idle = not (self._schedule.busy or self._post.under_way)
        return idle and len(rows.jobs) == self._size and rows.at_rest

    def _until(self, moment: float) -> None:
        while self._schedule.now < moment and not self._settled():
            if not self._schedule.step():
                return

    def _until_rest(self) -> None:
        """L1, within the time that the slowest of its ways may take."""
        limit = self._schedule.now + _LONGEST_REST
        while not self._settled():
            stuck = self._schedule.now > limit or self._schedule.events > _MOST_EVENTS
            if stuck or not self._schedule.step():
                raise Violation(f"L1: not at rest: {self._states()}")

    def _say_everything_again(self) -> None:
        """S7: what was missed is told once more; told twice, it changes nothing any more."""
        for again in (False, True):
            before = self._invariants.jobs
            for task in self._impostor.tasks.values():
                if task.callback_url and task.final:
                    self._post.send(self._chance.uniform(0.0, 5.0), self._impostor.last_word(task))
            self._until_rest()
            now = self._invariants.jobs
            changed = [one for one, job in now.items() if before[one].outcome != job.outcome]
            if again and changed:
                raise Violation(f"S7: told again, {changed} changed")

    def _check_results(self) -> None:
        """What was paid for and told is kept, and S5 and S3 hold over everything."""
        self._invariants.look("drill", self._place.time.now)
        self._invariants.check_money()
        denied = "SELECT job_id FROM cutwork_event WHERE kind = 'held' AND detail LIKE 'task_gone%'"
        given_up = {str(one).replace("-", "") for (one,) in self._rows(denied)}
        for task in self._impostor.tasks.values():
            state = self._invariants.jobs[task.job_id].state
            told = self._post.answered.get(task.id, 0)
            # A result whose links are all dead cannot be had, nor one whose job was held since the
            # provider denied it, and the next attempt may fail.
            gone = task.denied and task.job_id in given_up
            can_be_had = task.state == 1 and not (task.dead_links or gone)
            if told and can_be_had and state == "failed":
                raise Violation(f"S3: {task.job_id} failed, and its paid result was told")
        query = "SELECT id, result_attempt, result FROM cutwork_job WHERE state = 'succeeded'"
        for job_id, number, result in self._rows(query):
            self._check_picture(str(job_id).replace("-", ""), number, result)

    def _check_picture(self, job_id: str, number: int, result: Any) -> None:
        files = (json.loads(result) if isinstance(result, str) else result)["files"]
        for name, file in files.items():
            kept = self._shelf.files.get(file["uri"].removeprefix("memory:///"), b"")
            own = kept == picture(job_id, number, name)
            as_told = len(kept) == file["size"] and sha256(kept).hexdigest() == file["sha256"]
            if not (own and as_told):
                raise Violation(f"S5: the {name} of {job_id} is not what its row says")

    def _outcome(self, told: dict[str, int]) -> Outcome:
        return Outcome(
            self._seed,
            self._schedule.digest,
            self._schedule.events,
            self._schedule.now,
            self._mischief.struck,
            Counter({name: times for name, times in told.items() if times}),
            self._states(),
            sum(map(self._impostor.charges, self._invariants.jobs)),
        )

    def _sometimes(self) -> dict[str, int]:
        kinds = dict(self._rows("SELECT kind, count(*) FROM cutwork_event GROUP BY kind"))
        moves = self._invariants.moves
        proved = [("uncertain", after, "webhook") for after in ("waiting", "storing")]
        return {
            "callback before the reply": self._post.early,
            "duplicate": kinds.get("duplicate", 0),
            "late after the end": kinds.get("late", 0),
            "uncertain settled by callback": explained(moves, *proved),
            "uncertain settled by resubmit": kinds.get("resubmitted", 0),
            "uncertain settled by hold": explained(moves, ("uncertain", "held", "")),
            "second charge, counted": kinds.get("second_charge", 0),
            "429": kinds.get("throttled", 0),
            "breaker opened": kinds.get("tripped", 0) + kinds.get("refused", 0),
            "breaker closed": kinds.get("closed", 0),
            "lease lost": explained(moves, ("submitting", "uncertain", "reconciler")),
            "redelivered message": self._broker.redelivered,
            "result link dead": kinds.get("link_dead", 0),
            "crash point hit": sum(self._schedule.deaths.values()),
            "forged token": self._post.forged,
            "database down during a callback": self._post.refused,
        }

    def _states(self) -> Counter[str]:
        return Counter(job.state for job in self._invariants.jobs.values())

    def _rows(self, query: str) -> list[Any]:
        with database.read_only(self._place.engine).connect() as tx:
            return [tuple(row) for row in tx.execute(text(query))]


def _settings(chance: Random) -> Settings:
    """Some deployment or other."""
    calls_back = chance.random() < 0.85
    return Settings(
        api_url=HOST,
        api_tokens=("drill-key-1", "drill-key-2")[: chance.choice((1, 1, 2))],
        public_url="http://127.0.0.1:8" if calls_back else "",
        callback_secrets=("0123456789abcdef0123",),
        callback_trust=chance.choice(("payload", "payload", "payload", "confirm")),
        storage_url="memory://",
        rate=chance.choice((5.0, 20.0, 100.0)),
        max_in_flight=chance.choice((2, 8, 32)),
        submit_lane=chance.choice((2, 6)),
        submit_timeout=10.0,
        uncertain_grace=chance.choice((5.0, 30.0, 120.0)),
        check_after=chance.choice((3.0, 15.0)),
        breaker_failures=chance.choice((2, 5)),
        breaker_pause=chance.choice((2.0, 30.0)),
        breaker_ramp=5.0,
        guard_share=chance.choice((0.2, 1.0, 1.0, 1.0)),
        wait_timeout=600.0,
        result_ttl=3600.0,
    )
