"""The whole path: enqueued, submitted, called back, stored; ours beside one made by hand.

First one job at a time, for what is added to the provider's own time; then a crowd of them, for the
rate and the price of one. The driver's share of the price, the enqueuing, is counted; those of the
stub, the database and the broker are not.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from statistics import median

from bench.measuring import Figures, Goal, Role, Way, Work
from bench.ours import Ours
from bench.peers.by_hand import ByHand
from bench.place import Place
from bench.processes import Crew, cpu
from bench.stub import Stub

DELAY, TAKES = 0.2, 0.5
WORKERS = 2
_PATIENCE = 300.0
# What is imported and connected at the first jobs is not the price of a job.
_WARM_UP = 50
_UNFINISHED = ("queued", "submitting", "uncertain", "waiting", "storing")

System = Ours | ByHand
Opened = Callable[[Place], AbstractContextManager[System]]


def works(place: Place) -> Iterator[Work]:
    """``cpu_ms`` is for one job, over all processes of a way; ``added_ms`` is a median."""
    jobs, alone = (300, 5) if place.quick else (5000, 60)
    yield Work(
        f"whole path, {jobs} jobs, {TAKES:g} s at the provider",
        (
            Way("ours", Role.OURS, partial(_measure, _ours, place, jobs, alone)),
            Way("made by hand", Role.HAND, partial(_measure, _by_hand, place, jobs, alone)),
        ),
        (
            Goal("rate", Role.HAND, at_least=3.0),
            Goal("cpu_ms", Role.HAND, at_most=1 / 3),
            Goal("added_ms", at_most=60.0),
        ),
    )


@contextmanager
def _ours(place: Place) -> Iterator[System]:
    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        stub = Stub.start(crew, delay=DELAY, takes=TAKES)
        us = Ours.at(place.fresh_database("_whole"), home, stub.url, place.fresh_redis())
        us.start(crew, workers=WORKERS, webhook=True)
        yield us


@contextmanager
def _by_hand(place: Place) -> Iterator[System]:
    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        stub = Stub.start(crew, delay=DELAY, takes=TAKES)
        hand = ByHand(place.fresh_database("_by_hand"), place.fresh_redis(), stub, home)
        hand.start(crew, workers=WORKERS)
        crew.wait_ready()
        yield hand


def _measure(opened: Opened, place: Place, jobs: int, alone: int) -> Figures:
    with opened(place) as system:
        system.enqueue(_WARM_UP)
        _wait(system, _WARM_UP, 0.02)
        added = [_alone(system, _WARM_UP + number) for number in range(1, alone + 1)]
        spent, began = cpu(system.programs) + time.process_time(), time.monotonic()
        system.enqueue(jobs)
        ended = _wait(system, _WARM_UP + alone + jobs, 0.02)
        spent = cpu(system.programs) + time.process_time() - spent
    return {
        "rate": jobs / (ended - began),
        "cpu_ms": spent / jobs * 1000,
        "added_ms": median(added) * 1000,
    }


def _alone(system: System, count: int) -> float:
    time.sleep(random.uniform(0.1, 0.4))  # noqa: S311 - so that no timer is met in step
    system.enqueue(1)
    began = time.monotonic()
    return _wait(system, count, 0.002) - began - TAKES


def _wait(system: System, count: int, every: float) -> float:
    if isinstance(system, ByHand):
        return system.wait_for(count, "stored", _PATIENCE, every)
    return system.wait_until_none(_UNFINISHED, _PATIENCE, every)
