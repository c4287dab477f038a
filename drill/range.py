"""T3: a deployment in which real roles kill themselves at points, and healthy ones mend it."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from uuid import UUID

from cutwork.states import RESTING, State

from . import weather
from .audit import Audit, audit
from .points import POINTS
from .site import OWNER, Site, opened
from .troupe import Player

# Nothing but processes fails here, so waits may be even shorter than under fire. A job may be in
# hand whenever one dies: its submits are many, and each must be explained.
_SHORT = weather.SHORT | {
    "SUBMIT_TIMEOUT": "1.5",
    "QUERY_TIMEOUT": "1.5",
    "RESULT_TIMEOUT": "1.5",
    "LEASE_MARGIN": "2",
    "UNCERTAIN_GRACE": "2",
    "CHECK_AFTER": "1",
    "CHECK_MAX_INTERVAL": "2",
    "GUARD_WINDOW": "4",
    "MAX_PAID_ATTEMPTS": "9",
    "RATE": "40",
    "CONCURRENCY": "4",
}
_ROLES = ("webhook", "reconciler", "worker")
# A question is asked about a job whose callback does not come. Elsewhere half of them come, so that
# of the submits that nobody recorded some are proved by one, and others are paid for again.
_UNHEARD, _HALF_HEARD = {"rates": {"lost_callback": 1.0}}, {"rates": {"lost_callback": 0.5}}
_LISTENS_WITHIN, _DIES_WITHIN, _RESTS_WITHIN = 60.0, 90.0, 150.0
# The first dies at once, the others may do some work before.
_MOST_TIMES = 3


def asks(point: str) -> bool:
    """Whether it is reached only by questions about jobs whose callback is lost."""
    return "check" in point or "query" in point


class Range:
    """``died`` counts, for each point, who was found dead there."""

    def __init__(self, site: Site, pool: str, seed: int) -> None:
        self.site, self._pool, self._chance = site, pool, Random(seed)  # noqa: S311 - not a secret
        self.died: Counter[str] = Counter()
        self._healthy = {role: self._cast(role, role) for role in _ROLES}
        self._survivors: list[Player] = []
        self._casts = 0

    def _cast(self, name: str, role: str) -> Player:
        words = ("--pool", self._pool) if role == "worker" else ()
        return self.site.cast(name, role, *words)

    def feed(self, many: int) -> None:
        """So many more jobs."""
        with self.site.engine.begin() as tx:
            for _ in range(many):
                self.site.enqueue(tx)

    def crash(self, points: Sequence[str], *, child: bool = False) -> bool:
        """One dies at each of these points of a role, with nobody healthy in it; whether all did.

        With ``child`` the process of the pool dies that got there, and its worker goes on.
        """
        (role,) = {POINTS[point] for point in points}
        self._stand(*(one for one in _ROLES if one != role))
        self.site.sandbox.set_faults(_UNHEARD if any(map(asks, points)) else _HALF_HEARD)
        if role == "webhook":  # they listen on one port
            return not [point for point in points if not self._die(role, [point], child)]
        return self._die(role, points, child)

    def _die(self, role: str, points: Sequence[str], child: bool) -> bool:
        """Start the role once for each point, and feed it until each has died there."""
        doomed = [self._doom(role, point, at, child) for at, point in enumerate(points)]

        def all_died() -> bool:
            left = [player for player in doomed if not player.crashed or player.running > child]
            waiting = self.site.count(*(set(State) - RESTING - {State.UNCERTAIN}))
            if left and waiting < 2 * len(left):
                self.feed(len(left))
            return not left

        done = _until(all_died, _DIES_WITHIN)
        for player in doomed:
            self.died[player.point] += player.crashed and player.running == child
            if player.running:
                self._survivors.append(player)
        return done

    def _doom(self, role: str, point: str, at: int, child: bool) -> Player:
        self._casts += 1
        player = self._cast(f"{point.replace(':', '-')}-{self._casts}", role)
        times = self._chance.randint(1, _MOST_TIMES) if at else 1
        player.start(point, times=times, child=child)
        return player

    def mend(self) -> bool:
        """The callbacks come again, and healthy processes do what is left; whether all rests.

        Workers that lost a process of their pool count as healthy, and have to do it alone.
        """
        self.site.sandbox.set_faults({})
        alone = self._survivors
        self._stand(*(role for role in _ROLES if not (alone and role == "worker")))
        rested = _until(
            lambda: self.site.count(*(set(State) - RESTING)) == 0 and self._all_paid(),
            _RESTS_WITHIN,
        )
        while self._survivors:
            self._survivors.pop().kill()
        return rested

    def audit(self, only: Collection[UUID] | None = None) -> Audit:
        """Of all jobs, or only these: nothing but processes failed, so each must have succeeded."""
        site = self.site
        found = audit(site.engine, site.settings, site.sandbox.ledger(), OWNER, only)
        for state in found.states.keys() - {State.SUCCEEDED}:
            found.expect(False, f"L1: {found.states[state]} jobs are {state}, and should not be")
        return found

    def logs(self) -> Mapping[str, str]:
        return {player.name: player.log for player in self.site.players}

    def _all_paid(self) -> bool:
        """What is still being cut will be charged, when its job may have ended long ago."""
        return all(task["state"] == 1 for task in self.site.sandbox.ledger()["tasks"])

    def _stand(self, *roles: str) -> None:
        """These have somebody healthy, the others have nobody."""
        for role, player in self._healthy.items():
            if role not in roles:
                player.kill()
            elif not player.running:
                player.start()
        if "webhook" in roles:
            _until(lambda: _listens(self.site.port), _LISTENS_WITHIN)


@contextmanager
def ranged(environ: Mapping[str, str], pool: str = "threads", seed: int = 0) -> Iterator[Range]:
    """A range on these services; everything in it has ended when the block is left.

    Raises:
        InvalidSetting: it could touch what is not its own.
    """
    with opened(environ, _SHORT, seed=seed, latency=(0.05, 0.3)) as site:
        yield Range(site, pool, seed)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return done


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
