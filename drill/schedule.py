"""Who runs when: events in the order of a virtual clock, scenes that stop at edges, and a trace.

It is what the stand-ins ask (``Edges``): at an edge the running scene may die with its process,
stall, or let others go first, as the seed has it.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from random import Random

from .baton import Death, Scene, Stage
from .invariants import Violation
from .mischief import Mischief
from .virtual_time import VirtualTime

_AT_ONCE = 0.5
_LONGEST_STEP = 0.1
_STALL = (1.0, 90.0)


class Schedule:
    """``look(by)`` is called after each commit, and may raise a Violation."""

    def __init__(
        self,
        chance: Random,
        mischief: Mischief,
        time: VirtualTime,
        look: Callable[[str], None],
        lines: list[str] | None,
    ) -> None:
        self.now, self.events, self.fault = 0.0, 0, ""
        self.deaths: Counter[str] = Counter()
        self.failures = 0
        self._chance, self._mischief, self._time, self._look = chance, mischief, time, look
        self._digest, self._lines = blake2b(digest_size=16), lines
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._names = count(), count(1)
        self._stage = Stage()
        self._scenes: dict[Scene, Callable[[bool], None]] = {}
        self._scene: Scene | None = None

    # --- what the stand-ins ask

    def seconds(self) -> float:
        return self.now

    def strikes(self, kind: str) -> bool:
        return self._mischief.strikes(kind)

    def edge(self, name: str, delay: float | None = None) -> None:
        """``delay`` None lets the seed choose how long the step takes; 0 lets nobody else in."""
        scene = self._scene
        if scene is None:
            return
        if scene.doomed:
            raise Death
        self.note(f"{scene.name}: {name}")
        if self._mischief.strikes(f"{scene.role} dies"):
            self.deaths[f"{scene.role} {name}"] += 1
            self.kill(scene.process)
        if delay is None and self._mischief.strikes("process stalls"):
            delay = self._chance.uniform(*_STALL)
        if delay is None and self._chance.random() < _AT_ONCE:
            return
        wait = self._chance.uniform(0.0, _LONGEST_STEP) if delay is None else delay
        if wait > 0:
            self.at(wait, lambda: self._resume(scene))
            scene.pause()

    def committed(self) -> None:
        try:
            self._look(self.who)
        except Violation as fault:
            self.fault = self.fault or str(fault)
            if self._scene is not None:
                self._scene.doomed = True
            raise Death from None

    # --- what the simulation asks

    @property
    def who(self) -> str:
        return self._scene.name if self._scene else "drill"

    @property
    def busy(self) -> bool:
        """Whether any scene stands between two edges."""
        return any(scene.role != "reconciler" for scene in self._scenes)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def note(self, line: str) -> None:
        line = f"{self.now:.4f} {line}"
        self._digest.update(line.encode())
        if self._lines is not None:
            self._lines.append(line)

    def at(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._order), act))

    def leap(self, seconds: float) -> None:
        """Time passes in which nobody does anything."""
        self.now += seconds
        self._time.advance(seconds)

    def step(self) -> bool:
        """The next event; False when there is none.

        Raises:
            Violation: an invariant did not hold after a commit of it.
        """
        if not self._heap:
            return False
        self.events += 1
        at, _, act = heapq.heappop(self._heap)
        if at > self.now:
            self.leap(at - self.now)
        act()
        if self.fault:
            raise Violation(self.fault)
        return True

    def start(self, process: str, body: Callable[[], None], ended: Callable[[bool], None]) -> None:
        """Let ``body`` run as a step of ``process``; ``ended`` is told whether it lived."""
        scene = Scene(self._stage, f"{process}.{next(self._names)}", process, body)
        self._scenes[scene] = ended
        self._resume(scene)

    def kill(self, process: str) -> None:
        """SIGKILL: none of the process's steps goes on."""
        for scene in [one for one in self._scenes if one.process == process]:
            scene.doomed = True
            if scene is not self._scene:
                self.at(0.0, lambda scene=scene: self._resume(scene))  # type: ignore[misc]
        if self._scene is not None and self._scene.process == process:
            raise Death

    def close(self) -> None:
        """End every scene where it stands."""
        for scene in list(self._scenes):
            scene.doomed = True
            self._scene = scene
            scene.resume()
        self._scene = None
        self._scenes.clear()
        self._stage.close()

    def _resume(self, scene: Scene) -> None:
        if scene.over:
            return
        before, self._scene = self._scene, scene
        scene.resume()
        self._scene = before
        if not scene.over:
            return
        ended = self._scenes.pop(scene)
        if scene.error is not None:
            if not isinstance(scene.error, Exception):
                raise scene.error
            self.failures += 1
            self.note(f"{scene.name}: raised {type(scene.error).__name__}")
        ended(not scene.doomed)
