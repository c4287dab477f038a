"""Submits: a backlog goes to a provider that answers after 200 ms, by two worker processes.

The rate is from the first POST to the last outcome: written down and committed where it is done by
us or by hand, and the last reply for all others. What puts the backlog there is not counted.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module

from bench.measuring import Figures, Goal, Role, Unavailable, Way, Work
from bench.ours import Ours
from bench.place import Place
from bench.processes import Crew, until
from bench.stub import Stub

DELAY = 0.2
WORKERS = 2
_PATIENCE = 60.0
_QUICK_PEERS = ("celery",)
_PEERS = ("celery", "dramatiq", "pgqueuer", "procrastinate")


def works(place: Place) -> Iterator[Work]:
    """The rate is jobs a second; ``cpu_ms`` is what one costs the processes of a way."""
    jobs = 1000 if place.quick else 10_000
    peers = _QUICK_PEERS if place.quick else _PEERS
    yield Work(
        f"submits: {jobs} jobs, {DELAY * 1000:.0f} ms each, {WORKERS} processes",
        (
            Way("ours", Role.OURS, partial(ours, place, jobs)),
            Way("the client alone", Role.CEILING, partial(peer, "client", place, jobs)),
            Way("Celery and SQLAlchemy", Role.HAND, partial(by_hand, place, jobs)),
            *(Way(name, Role.PEER, partial(peer, name, place, jobs)) for name in peers),
        ),
        (Goal("rate", "celery", at_least=1.5),),
    )


def ours(place: Place, jobs: int) -> Figures:
    """Real workers and a real reconciler: two commits around each POST."""
    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        stub = Stub.start(crew, delay=DELAY)
        us = Ours.at(place.fresh_database("_submits"), home, stub.url, place.fresh_redis())
        us.start(crew, workers=WORKERS)
        with _counted(crew, stub, jobs) as figures:
            us.enqueue(jobs)
            ended = us.wait_until_none(["queued", "submitting"], _PATIENCE)
        figures["rate"] = jobs / (ended - stub.seen()["first"])
    return figures


def by_hand(place: Place, jobs: int) -> Figures:
    """The row is read, the POST is sent, and what it brought is committed."""
    from bench.peers.by_hand import ByHand

    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        stub = Stub.start(crew, delay=DELAY)
        hand = ByHand(place.fresh_database("_by_hand"), place.fresh_redis(), stub, home)
        hand.start(crew, workers=WORKERS, web=False)
        crew.wait_ready()
        with _counted(crew, stub, jobs) as figures:
            hand.enqueue(jobs)
            ended = hand.wait_for(jobs, "submitted", _PATIENCE)
        figures["rate"] = jobs / (ended - stub.seen()["first"])
    return figures


def peer(name: str, place: Place, jobs: int) -> Figures:
    """What :mod:`bench.peers` has under this name."""
    with Crew() as crew:
        stub = Stub.start(crew, delay=DELAY)
        put = begin(name)(crew, place, stub, WORKERS)
        crew.wait_ready()
        with _counted(crew, stub, jobs) as figures:
            put(range(jobs))
            until(lambda: stub.seen()["answered"] >= jobs, _PATIENCE, f"{name}: {jobs} POSTs")
        seen = stub.seen()
        figures["rate"] = jobs / (seen["last"] - seen["first"])
    return figures


@contextmanager
def _counted(crew: Crew, stub: Stub, jobs: int) -> Iterator[dict[str, float]]:
    """What the block costs all programs but the stub."""
    figures, before = {"rate": 0.0}, crew.cpu(stub.program)
    yield figures
    figures["cpu_ms"] = (crew.cpu(stub.program) - before) / jobs * 1000


def begin(name: str) -> Callable[[Crew, Place, Stub, int], Callable[[Sequence[int]], None]]:
    """How a peer starts.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        found = import_module(f"bench.peers.{name}").begin
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    begins: Callable[[Crew, Place, Stub, int], Callable[[Sequence[int]], None]] = found
    return begins
