"""An idle system and one job, at irregular moments: from its commit to the first byte of its POST.

The stub notes when the byte came, by the clock that all processes of a machine share. For peers the
same, from the moment at which their job was put. Beside it, what an idle reconciler costs.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

from bench.measuring import Figures, Goal, Role, Way, Work
from bench.ours import Ours, source
from bench.place import Place
from bench.processes import Crew, cpu, until
from bench.stub import Stub

from .submits import begin

_QUICK_PEERS = ("celery",)
_PEERS = ("celery", "dramatiq", "pgqueuer", "procrastinate")
# As an installation has them that nobody tuned; only its rate would stand in the way.
_SETTINGS = {"CUTWORK_CONCURRENCY": "12", "CUTWORK_SUBMIT_LANE": "6", "CUTWORK_STORE_LANE": "3"}
_WITHIN = 10.0


def works(place: Place) -> Iterator[Work]:
    """``p50_ms`` and ``p99_ms`` in milliseconds; ``idle_percent`` of a core."""
    jobs, seconds = (6, 2.0) if place.quick else (60, 20.0)
    peers = _QUICK_PEERS if place.quick else _PEERS
    ours = partial(_ours, place, jobs, seconds)
    yield Work(
        "idle: commit to POST, PostgreSQL and Redis",
        (
            Way("ours", Role.OURS, partial(ours, files=False)),
            *(Way(name, Role.PEER, partial(_peer, name, place, jobs)) for name in peers),
        ),
        (
            Goal("p50_ms", at_most=15.0),
            Goal("p99_ms", at_most=50.0),
            Goal("idle_percent", at_most=1.0),
        ),
    )
    yield Work(
        "idle: commit to POST, SQLite and files",
        (Way("ours", Role.OURS, partial(ours, files=True)),),
        (Goal("p50_ms", at_most=100.0), Goal("idle_percent", at_most=1.0)),
    )


def _ours(place: Place, jobs: int, seconds: float, *, files: bool) -> Figures:
    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        stub = Stub.start(crew, delay=0.0)
        url = f"sqlite:///{home}/idle.db" if files else place.fresh_database("_idle")
        broker = "" if files else place.fresh_redis()
        us = Ours.at(url, home, stub.url, broker, _SETTINGS)
        us.start(crew, workers=1)

        def put(number: int) -> None:
            us.enqueue(1, first=number)

        waits = _waits(stub, jobs, put)
        reconciler, began = us.programs[1:], time.monotonic()
        spent = cpu(reconciler)
        time.sleep(seconds)
        share = (cpu(reconciler) - spent) / (time.monotonic() - began)
    return {**_figures(waits), "idle_percent": share * 100}


def _peer(name: str, place: Place, jobs: int) -> Figures:
    with Crew() as crew:
        stub = Stub.start(crew, delay=0.0)
        put = begin(name)(crew, place, stub, 1)
        crew.wait_ready()
        return _figures(_waits(stub, jobs, lambda number: put([number])))


def _waits(stub: Stub, jobs: int, put: Callable[[int], None]) -> list[float]:
    """Seconds for each job; the first one, which opens connections, is not among them."""
    waits = []
    for number in range(jobs + 1):
        time.sleep(random.uniform(0.2, 0.6))  # noqa: S311 - so that no timer is met in step
        put(number)
        began = time.monotonic()
        until(lambda: stub.seen()["answered"] > number, _WITHIN, "a POST", every=0.02)  # noqa: B023
        waits.append(stub.creates()[source(number)] - began)
    return sorted(waits[1:])


def _figures(waits: list[float]) -> Figures:
    worst = waits[min(len(waits) - 1, len(waits) * 99 // 100)]
    return {"p50_ms": median(waits) * 1000, "p99_ms": worst * 1000}
