"""What goes wrong in a simulation, and how often: drawn from the seed, some kinds at a time.

Each seed lets loose a part of the kinds only, each with a strength of its own: faults of many kinds
at once hide each other, and some combinations need the quiet of the rest. Some seeds have few kinds
that strike often: what takes three of them at one job is else not met in thousands of seeds.
"""

from collections import Counter
from collections.abc import Mapping
from random import Random

# Kind → how often it strikes, of the times that it could, at strength 1.
CHANCES: Mapping[str, float] = {
    # processes
    "worker dies": 0.012,
    "reconciler dies": 0.01,
    "webhook dies": 0.03,
    "process stalls": 0.006,
    # the database and the broker
    "commit refused": 0.015,
    "commit unanswered": 0.015,
    "broker down": 0.03,
    "message late": 0.03,
    "message twice": 0.08,
    # a submit that is not accepted
    "not sent": 0.06,
    "throttled": 0.08,
    "key refused": 0.02,
    "error 500": 0.06,
    "rejected": 0.03,
    # a submit that is
    "reply lost": 0.12,
    "reply after callback": 0.12,
    "done at once": 0.1,
    # its task
    "task fails": 0.15,
    "stuck": 0.03,
    # its callbacks
    "callback lost": 0.15,
    "callback twice": 0.2,
    "callback late": 0.12,
    "progress first": 0.15,
    "progress last": 0.15,
    "wrong task id": 0.08,
    "garbage": 0.08,
    "as a form": 0.15,
    "bare": 0.15,
    # a question about it
    "query 404": 0.2,
    "query 500": 0.2,
    "query 429": 0.2,
    "query 401": 0.1,
    "query reset": 0.2,
    # its result
    "link dead": 0.1,
    "result gone": 0.05,
    "truncated": 0.15,
    "unreachable": 0.15,
    "disk full": 0.08,
}
# Kind → how many times it may strike in one run, at moments of its own.
MOMENTS: Mapping[str, int] = {
    "broker wiped": 2,
    "time leaps": 2,
    "operator cancels": 2,
    "operator retries": 3,
    "forged token": 2,
}
_ENABLED = 0.3
_STRENGTHS = (0.2, 0.5, 1.0)
_STORMS, _KINDS_OF_A_STORM, _MOST_OF_A_STORM = 0.25, 8, 0.4


class Mischief:
    """``strikes(kind)`` says whether it happens now; nothing does once ``over`` is set."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        if chance.random() < _STORMS:
            kinds = chance.sample(list(CHANCES), _KINDS_OF_A_STORM)
            self._rates = {kind: min(_MOST_OF_A_STORM, 4 * CHANCES[kind]) for kind in kinds}
        else:
            self._rates = {
                kind: rate * chance.choice(_STRENGTHS)
                for kind, rate in CHANCES.items()
                if chance.random() < _ENABLED
            }
        self.moments = {
            kind: chance.randint(1, most)
            for kind, most in MOMENTS.items()
            if chance.random() < _ENABLED
        }
        self.struck: Counter[str] = Counter()
        self.over = False

    def strikes(self, kind: str) -> bool:
        rate = self._rates.get(kind)
        if rate is None or self.over or self._chance.random() >= rate:
            return False
        self.struck[kind] += 1
        return True
