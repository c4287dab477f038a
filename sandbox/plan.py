"""What goes wrong, how often, and with which submit: drawn from a seed, never from the clock.

A plan is JSON::

    {"seed": 7,
     "rates": {"lost_callback": 0.2, "error_500": 0.05},
     "schedule": {"0": ["duplicate_callback", {"task_failed": -8}]},
     "values": {"delayed_callback": 4.0},
     "times": {"query_404": 0}}

Submits are counted from 0 in the order in which they are let in (past the key and the rate
limit). What befalls submit n depends on the seed and on n alone, so the timing of threads changes
nothing. Faults of one stage exclude each other: their rates add up, to at most 1. A schedule's
entry replaces the rates for its submit. ``values`` are each fault's number, ``times`` how many of
a task's queries or downloads suffer before they work again (0: all of them).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from cutwork.errors import InvalidInput

from .faults import CATALOGUE, FAILURES, Mischief, chance


@dataclass(frozen=True)
class Plan:
    """A checked plan; the empty one is a provider that behaves."""

    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    schedule: Mapping[int, Mapping[str, float | None]] = field(default_factory=dict)
    values: Mapping[str, float | tuple[int, ...]] = field(default_factory=dict)
    times: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, plan: Any, seed: int = 0) -> "Plan":
        """Check a plan as JSON gives it; ``seed`` is used when the plan has none.

        Raises:
            InvalidInput: a name, a number or a sum that cannot be meant.
        """
        if not isinstance(plan, dict):
            raise InvalidInput("plan", plan, "must be a JSON object", 'such as {"rates": {}}')
        known = ("seed", "rates", "schedule", "values", "times")
        for name in plan:
            if name not in known:
                raise InvalidInput(f"plan.{name}", plan[name], "is not known", _near(name, known))
        return cls(
            seed=_whole("seed", plan.get("seed", seed)),
            rates=_rates(_object("rates", plan)),
            schedule={
                _ordinal(ordinal): _entry(ordinal, names)
                for ordinal, names in _object("schedule", plan).items()
            },
            values={
                _name("values", name): _value(f"values.{name}", name, value)
                for name, value in _object("values", plan).items()
            },
            times={
                _repeated(name): _whole(f"times.{name}", value)
                for name, value in _object("times", plan).items()
            },
        )

    def draw(self, ordinal: int) -> Mischief:
        """What befalls submit ``ordinal``: the same for the same seed, whatever else happens."""
        entry = self.schedule.get(ordinal)
        names = self._by_rate(ordinal) if entry is None else dict(entry)
        return Mischief(
            {name: self._number(ordinal, name, value) for name, value in names.items()},
            {name: self.times[name] for name in names if name in self.times},
        )

    def _by_rate(self, ordinal: int) -> dict[str, float | None]:
        drawn: dict[str, float | None] = {}
        floors: dict[str, float] = {}
        for name, fault in CATALOGUE.items():
            floor = floors.get(fault.stage, 0.0)
            floors[fault.stage] = floor + self.rates.get(name, 0.0)
            if floor <= chance(self.seed, ordinal, fault.stage) < floors[fault.stage]:
                drawn[name] = None
        return drawn

    def _number(self, ordinal: int, name: str, value: float | None) -> float:
        chosen = self.values.get(name) if value is None else value
        if name == "task_failed":
            states = chosen if isinstance(chosen, tuple) else (chosen or 0,)
            states = FAILURES if chosen is None else states
            return states[int(chance(self.seed, ordinal, name) * len(states))]
        if chosen is None or isinstance(chosen, tuple):
            return CATALOGUE[name].value or 0.0
        return chosen


def _rates(given: Mapping[str, Any]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for name, rate in given.items():
        _name("rates", name)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise InvalidInput(f"rates.{name}", rate, "must be a number from 0 to 1")
        rates[name] = float(rate)
    for stage in {CATALOGUE[name].stage for name in rates}:
        total = sum(rate for name, rate in rates.items() if CATALOGUE[name].stage == stage)
        if total > 1 + 1e-9:
            raise InvalidInput(
                f"rates of the stage {stage}",
                total,
                "must add up to at most 1",
                "they exclude each other, so lower one",
            )
    return rates


def _entry(ordinal: str, names: Any) -> dict[str, float | None]:
    where = f"schedule.{ordinal}"
    if not isinstance(names, list):
        raise InvalidInput(where, names, "must be a list of faults", 'such as ["lost_callback"]')
    entry: dict[str, float | None] = {}
    for item in names:
        pairs = item if isinstance(item, dict) else {str(item): None}
        for name, value in pairs.items():
            _name(where, name)
            single = None if value is None else _value(f"{where}.{name}", name, value)
            if isinstance(single, tuple):
                raise InvalidInput(f"{where}.{name}", value, "must be one number")
            entry[name] = single
    stages = [CATALOGUE[name].stage for name in entry]
    twice = sorted(name for name in entry if stages.count(CATALOGUE[name].stage) > 1)
    if twice:
        raise InvalidInput(where, twice, "exclude each other", "name one of them")
    return entry


def _value(where: str, name: str, value: Any) -> float | tuple[int, ...]:
    if name == "task_failed":
        states = value if isinstance(value, list) else [value]
        if not states or any(type(state) is not int or state >= 0 for state in states):
            raise InvalidInput(where, value, "must be a negative state, or a list of them")
        return tuple(states) if isinstance(value, list) else states[0]
    if CATALOGUE[name].value is None:
        raise InvalidInput(where, value, "takes no value", "remove it")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e10:
        raise InvalidInput(where, value, f"must be a number ({CATALOGUE[name].unit}), 0 or more")
    return float(value)


def _name(where: str, name: Any) -> str:
    if name not in CATALOGUE:
        raise InvalidInput(where, name, "is not a fault", _near(str(name), tuple(CATALOGUE)))
    return str(name)


def _repeated(name: str) -> str:
    if CATALOGUE[_name("times", name)].times is None:
        raise InvalidInput(f"times.{name}", name, "happens once for each submit", "remove it")
    return name


def _ordinal(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput("schedule", text, "must count submits from 0", 'such as {"0": []}')
    return int(text)


def _whole(where: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InvalidInput(where, value, "must be a whole number, 0 or more")
    return value


def _object(name: str, plan: Mapping[str, Any]) -> Mapping[str, Any]:
    found = plan.get(name, {})
    if not isinstance(found, dict):
        raise InvalidInput(name, found, "must be a JSON object")
    return found


def _near(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
