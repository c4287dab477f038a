"""The whole path: enqueued, submitted, called back, stored; ours beside one made by hand.

First a crowd of jobs, for the rate and the price of one; then one job at a time, for what is added
to the provider's own time. The driver's share of the price, the enqueuing, is counted; those of
the stub, the database and the broker are not.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

from bench.measuring import Figures, Goal, Role, Way, Work
from bench.ours import Ours
from bench.peers.by_hand import ByHand
from bench.place import Place
from bench.processes import Crew, cpu
from bench.stub import Stub

DELAY, TAKES = 0.2, 1.0
ALONE_TAKES = 0.3
WORKERS = 2
_PATIENCE = 60.0
# What is imported and connected at the first job is not the price of a job.
_WARM_UP = 50
_UNFINISHED = ("queued", "submitting", "uncertain", "waiting", "storing")

System = Ours | ByHand
Opened = Callable[[Place, float], "Iterator[System]"]


def works(place: Place) -> Iterator[Work]:
    """``cpu_ms`` is for one job, over all processes of a way; ``added_ms`` is a median."""
    jobs, alone = (300, 5) if place.quick else (5000, 60)
    yield Work(
        f"whole path, {jobs} jobs at once, {TAKES:g} s at the provider",
        (
            Way("ours", Role.OURS, partial(_crowd, _ours, place, jobs)),
            Way("Celery, SQLAlchemy, Flask", Role.HAND, partial(_crowd, _by_hand, place, jobs)),
        ),
        (
            Goal("rate", Role.HAND, at_least=3.0),
            Goal("cpu_ms", Role.HAND, at_most=1 / 3),
        ),
    )
    yield Work(
        f"whole path, one job at a time, {ALONE_TAKES:g} s at the provider",
        (
            Way("ours", Role.OURS, partial(_alone, _ours, place, alone)),
            Way("Celery, SQLAlchemy, Flask", Role.HAND, partial(_alone, _by_hand, place, alone)),
        ),
        (Goal("added_ms", at_most=60.0),),
    )


@contextmanager
def _ours(place: Place, takes: float) -> Iterator[System]:
    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        stub = Stub.start(crew, delay=min(DELAY, takes / 2), takes=takes)
        us = Ours.at(place.fresh_database("_whole"), home, stub.url, place.fresh_redis())
        us.start(crew, workers=WORKERS, webhook=True)
        yield us


@contextmanager
def _by_hand(place: Place, takes: float) -> Iterator[System]:
    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        stub = Stub.start(crew, delay=min(DELAY, takes / 2), takes=takes)
        hand = ByHand(place.fresh_database("_by_hand"), place.fresh_redis(), stub, home)
        hand.start(crew, workers=WORKERS)
        crew.wait_ready()
        yield hand


def _crowd(opened: Opened, place: Place, jobs: int) -> Figures:
    with opened(place, TAKES) as system:
        system.enqueue(_WARM_UP)
        _wait(system, _WARM_UP, 0.02)
        spent, began = cpu(system.programs) + time.process_time(), time.monotonic()
        system.enqueue(jobs)
        ended = _wait(system, _WARM_UP + jobs, 0.02)
        spent = cpu(system.programs) + time.process_time() - spent
    return {"rate": jobs / (ended - began), "cpu_ms": spent / jobs * 1000}


def _alone(opened: Opened, place: Place, jobs: int) -> Figures:
    with opened(place, ALONE_TAKES) as system:
        added = [_one(system, number) for number in range(jobs + 1)]
    return {"added_ms": median(added[1:]) * 1000}


def _one(system: System, number: int) -> float:
    time.sleep(random.uniform(0.1, 0.4))  # noqa: S311 - so that no timer is met in step
    system.enqueue(1)
    began = time.monotonic()
    return _wait(system, number + 1, 0.002) - began - ALONE_TAKES


def _wait(system: System, count: int, every: float) -> float:
    if isinstance(system, ByHand):
        return system.wait_for(count, "stored", _PATIENCE, every)
    return system.wait_until_none(_UNFINISHED, _PATIENCE, every)
