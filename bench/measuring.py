"""One work, several ways to do it, measured in turns; the figures are ratios within one run.

Machines are noisy, so no way is measured to its end before the next one begins: each round measures
every way once, in another order, and what counts is the median of the rounds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

Figures = Mapping[str, float]


class Role(StrEnum):
    OURS = "ours"
    CEILING = "ceiling"  # what the machine can do, without what makes it safe
    HAND = "hand-made"  # what an experienced user writes in an afternoon
    PEER = "peer"


class Unavailable(Exception):
    """A way cannot be measured here; the sentence says what is missing."""


@dataclass(frozen=True)
class Way:
    """``measure()`` does the work once and gives its figures, such as ``{"rate": 812.0}``.

    It raises :class:`Unavailable` when a service or a package is missing.
    """

    name: str
    role: Role
    measure: Callable[[], Figures]


@dataclass(frozen=True)
class Goal:
    """What one of our figures should be: a share of another way's, or a plain limit.

    ``best_of`` is a role (the best way in it) or the name of a way; without it the limits are in
    the figure's own unit.
    """

    figure: str
    best_of: str | None = None
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Work:
    """Figures named ``rate`` are per second and more is better; of all others less is."""

    name: str
    ways: tuple[Way, ...]
    goals: tuple[Goal, ...] = ()


@dataclass
class Seen:
    """What the rounds of one way brought; ``missing`` says why there is nothing."""

    way: Way
    rounds: list[Figures] = field(default_factory=list)
    missing: str = ""

    @property
    def figures(self) -> dict[str, float]:
        names = self.rounds[0] if self.rounds else ()
        return {name: median(one[name] for one in self.rounds) for name in names}


@dataclass(frozen=True)
class Verdict:
    """A goal with what was measured; ``met`` is None when it could not be."""

    goal: Goal
    against: str
    value: float | None
    met: bool | None


def measure(
    work: Work, rounds: int, tell: Callable[[str], None] = lambda _line: None
) -> list[Seen]:
    """Every way once in each round, the order turned by one each time."""
    seen = [Seen(way) for way in work.ways]
    for number in range(rounds):
        turn = number % len(seen)
        for one in seen[turn:] + seen[:turn]:
            if one.missing:
                continue
            try:
                one.rounds.append(one.way.measure())
            except Unavailable as error:
                one.missing = str(error)
                tell(f"{work.name}: {one.way.name}: {error}")
            else:
                told = ", ".join(f"{name} {value:.4g}" for name, value in one.rounds[-1].items())
                tell(f"{work.name}: {one.way.name}: {told}")
    return seen


def judge(work: Work, seen: Iterable[Seen]) -> Iterator[Verdict]:
    """The goals of a work, against what was measured."""
    measured = [one for one in seen if one.rounds]
    ours = next((one for one in measured if one.way.role is Role.OURS), None)
    for goal in work.goals:
        others = [one for one in measured if goal.best_of in (one.way.role, one.way.name)]
        if ours is None or goal.figure not in ours.figures or (goal.best_of and not others):
            yield Verdict(goal, goal.best_of or "", None, None)
            continue
        value, against = ours.figures[goal.figure], ""
        if goal.best_of:
            rank = max if goal.figure == "rate" else min
            best = rank(others, key=lambda one: one.figures[goal.figure])
            value, against = value / best.figures[goal.figure], best.way.name
        low = goal.at_least is None or value >= goal.at_least
        high = goal.at_most is None or value <= goal.at_most
        yield Verdict(goal, against, value, low and high)


def as_json(work: Work, seen: Iterable[Seen]) -> dict[str, Any]:
    """All that was measured, for ``bench/results``."""
    seen = list(seen)
    return {
        "work": work.name,
        "ways": [
            {
                "name": one.way.name,
                "role": one.way.role,
                "figures": one.figures,
                "rounds": [dict(each) for each in one.rounds],
                "missing": one.missing,
            }
            for one in seen
        ],
        "goals": [
            {
                "figure": one.goal.figure,
                "against": one.against,
                "at_least": one.goal.at_least,
                "at_most": one.goal.at_most,
                "value": one.value,
                "met": one.met,
            }
            for one in judge(work, seen)
        ],
    }
