"""A provider of known speed, in virtual time: when our questions find its tasks, and how many."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import ceil
from random import Random
from statistics import median
from uuid import UUID

from cutwork import ledger
from cutwork.drill.virtual_time import START, VirtualTime
from cutwork.provider import Accepted
from cutwork.report import Report, Verdict
from cutwork.settings import Settings
from cutwork.states import State
from cutwork.worker import checking, submitting
from cutwork.worker.reconciler import Reconciler
from tests.world import RESULT, SETTINGS, World

TICK = 0.2
FREE = replace(SETTINGS, rate=1000.0, max_in_flight=5000, submit_lane=500, check_lane=500)
Draw = Callable[[Random], float]
DURATIONS: dict[str, Draw] = {
    "1 to 3 s": lambda chance: chance.uniform(1, 3),
    "5 to 15 s": lambda chance: chance.uniform(5, 15),
    "median 8 s, long tail": lambda chance: min(30.0, 8 * chance.lognormvariate(0, 0.5)),
    "always 4 s": lambda _: 4.0,
    "3 s, one in five 12 s": lambda chance: 12.0 if chance.random() < 0.2 else 3.0,
}


@dataclass(frozen=True)
class Shown:
    """``asked`` is questions a job, ``median`` seconds from acceptance to our knowing; ``ideal``
    is the same of a poller that asks every second from acceptance on. ``later`` leaves out the
    jobs of the first half, in which things are learned."""

    asked: float
    asked_later: float
    median: float
    ideal_asked: float
    ideal_median: float


class Watch:
    """Jobs that come one after the other, at a provider that takes as long as it is told."""

    def __init__(self, world: World, time: VirtualTime, settings: Settings = FREE) -> None:
        self._world, self._time, self._settings = world, time, settings
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ranks = count()
        self._reconciler = Reconciler(world.engine, settings, self._work)
        self._done: dict[str, tuple[float, float]] = {}  # task → began, ended
        self._known: dict[UUID, float] = {}
        self._asked: list[int] = []

    def play(
        self, durations: Sequence[float], lost: Callable[[int], bool], every: float = 0.5
    ) -> Shown:
        """Run until every job is known to be done; ``lost(n)`` says whose callback never comes."""
        for number, seconds in enumerate(durations):
            self._at(number * every, lambda n=number, s=seconds: self._enqueue(n, s, lost(n)))  # type: ignore[misc]
        while len(self._known) < len(durations):
            self._time.advance(TICK)
            while self._events and self._events[0][0] <= self._now:
                heapq.heappop(self._events)[2]()
            self._reconciler.run_once()
        self._reconciler.close()
        polls = [ceil(seconds) for seconds in durations]
        size = len(durations)
        late = sum(number >= size // 2 for number in self._asked) / (size - size // 2)
        middle = median(list(self._known.values()))
        return Shown(len(self._asked) / size, late, middle, sum(polls) / size, median(polls))

    @property
    def waited(self) -> dict[UUID, float]:
        """Seconds from acceptance to our knowing, in the order of knowing."""
        return dict(self._known)

    @property
    def _now(self) -> float:
        return float((self._time.now - START).total_seconds())

    def _at(self, moment: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._ranks), what))

    def _enqueue(self, number: int, seconds: float, lost: bool) -> None:
        self._world.enqueue(meta={"number": number, "seconds": seconds, "lost": lost})

    def _work(self, lane: str, job_ids: Sequence[UUID]) -> None:
        for job_id in job_ids:
            {"submit": self._submit, "check": self._check, "store": self._store}[lane](job_id)

    def _submit(self, job_id: UUID) -> None:
        ticket = self._world.do(ledger.claim, job_id, self._settings, callback=True)
        meta = self._world.job(job_id).meta
        began, ended = self._now, self._now + meta["seconds"]
        task_id = str(job_id)
        self._done[task_id] = (began, ended)
        outcome = Accepted(task_id, None)
        self._world.do(submitting.record, outcome=outcome, ticket=ticket, settings=self._settings)
        if not meta["lost"]:
            self._at(ended + 0.1, lambda: self._call_back(job_id, task_id))

    def _report(self, task_id: str) -> Report:
        began, ended = self._done[task_id]
        if self._now < ended:
            return Report(Verdict.PENDING, state=4, task_id=task_id)
        # As the provider has it: whole seconds of its own clock.
        own = float(int(ended) - int(began))
        link = "http://127.0.0.1:9/a.png"
        return Report(Verdict.DONE, state=1, task_id=task_id, image=link, seconds=own)

    def _call_back(self, job_id: UUID, task_id: str) -> None:
        self._world.do(ledger.hear, job_id, 1, self._report(task_id), self._settings)
        self._learned(job_id)

    def _check(self, job_id: UUID) -> None:
        ticket = self._world.do(ledger.claim_check, job_id, self._settings)
        if ticket is None:
            return
        self._asked.append(self._world.job(job_id).meta["number"])
        answer = self._report(str(job_id))
        self._world.do(checking.record, answer=answer, ticket=ticket, settings=self._settings)
        if answer.verdict is Verdict.DONE:
            self._learned(job_id)

    def _learned(self, job_id: UUID) -> None:
        began, _ = self._done[str(job_id)]
        self._known.setdefault(job_id, self._now - began)

    def _store(self, job_id: UUID) -> None:
        ticket = self._world.do(ledger.claim_store, job_id, self._settings)
        if ticket is not None:
            self._world.do(ledger.stored, ticket, RESULT, self._settings)
            assert self._world.state(job_id) is State.SUCCEEDED


def drawn(name: str, size: int, seed: int = 1) -> list[float]:
    """So many durations of a distribution."""
    chance = Random(seed)
    return [DURATIONS[name](chance) for _ in range(size)]
