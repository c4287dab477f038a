"""T3 by hand: at one point after the other some die, the healthy mend it, and it is audited."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .audit import Audit
from .points import POINTS
from .range import Range

# Enough for one that dies at once and one that does some work before.
_DEATHS = 2


@dataclass(frozen=True)
class Round:
    """What one point showed; ``victim`` is what died there, ``died`` how often."""

    point: str
    role: str
    victim: str
    died: int
    jobs: int
    charges: int
    second_charges: int
    explained: int
    violations: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "violations": list(self.violations)}


def rounds(ground: Range, points: Sequence[str], jobs: int, pool: str) -> Iterator[Round]:
    """Each point with each way to die: with all of the role, or as one process of its pool."""
    for point in points:
        ways = (False, True) if pool == "prefork" and POINTS[point] == "worker" else (False,)
        for child in ways:
            yield _round(ground, point, jobs, child)


def _round(ground: Range, point: str, jobs: int, child: bool) -> Round:
    before, dead = len(ground.site.ids), ground.died[point]
    ground.feed(jobs)
    all_died = ground.crash([point] * _DEATHS, child=child)
    rested = ground.mend()
    mine = ground.site.ids[before:]
    found = ground.audit(mine)
    found.expect(all_died, f"T3: not all died at {point}, so it was not tried")
    found.expect(rested, f"L1: not all came to rest in time after {point}")
    victim = "pool process" if child else POINTS[point]
    return _made(point, victim, ground.died[point] - dead, len(mine), found)


def whole(ground: Range) -> Round:
    """All rounds together, looked at once more: what may have gone wrong after each."""
    found = ground.audit()
    return _made("all", "", ground.died.total(), len(ground.site.ids), found)


def _made(point: str, victim: str, died: int, jobs: int, found: Audit) -> Round:
    return Round(
        point,
        POINTS.get(point, ""),
        victim,
        died,
        jobs,
        found.charges,
        found.second_charges,
        found.explained,
        tuple(found.violations),
    )
