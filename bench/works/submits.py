"""Submits: a backlog goes to a provider that answers after 200 ms, by two worker processes.

The rate is from the first POST to the last outcome: written down and committed where a way does
that, or the reply where it keeps nothing. Messages are published, and rows committed, before that.
"""

import tempfile
from collections.abc import Iterator

from bench.measuring import Figures, Goal, Role, Way, Work
from bench.ours import Ours
from bench.place import Place
from bench.processes import Crew, cpu
from bench.stub import Stub

DELAY = 0.2
WORKERS = 2
_PATIENCE = 60.0


def works(place: Place) -> Iterator[Work]:
    """One work; the rate is jobs a second, ``cpu_ms`` what one costs all processes of a way."""
    jobs = 2000 if place.quick else 10_000
    yield Work(
        f"submits: {jobs} jobs, {DELAY * 1000:.0f} ms each, {WORKERS} processes",
        (Way("ours", Role.OURS, lambda: ours(place, jobs)),),
        (Goal("rate", "celery", at_least=1.5),),
    )


def ours(place: Place, jobs: int) -> Figures:
    """Real workers and a real reconciler: two commits around each POST."""
    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        stub = Stub.start(crew, delay=DELAY)
        broker = place.fresh_redis()
        us = Ours.at(place.fresh_database("_submits"), home, stub, broker)
        us.start(crew, workers=WORKERS)
        spent = cpu(us.programs)
        us.enqueue(jobs)
        ended = us.wait_until_none(["queued", "submitting"], _PATIENCE)
        us.engine.dispose()
        return figures(stub, jobs, ended, cpu(us.programs) - spent)


def figures(stub: Stub, jobs: int, ended: float, spent: float) -> Figures:
    """From what the stub saw; ``ended`` by the monotonic clock, ``spent`` seconds of a core."""
    began = min(came for came, _ in stub.seen()["creates"])
    return {"rate": jobs / (ended - began), "cpu_ms": spent / jobs * 1000}
