"""Rates that must not fall as tables grow: with millions of jobs that are over, and a long queue.

The small and the large database stand side by side, so that each round measures both.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID

from sqlalchemy import Engine

from bench import filling
from bench.filling import SETTINGS
from bench.measuring import Figures, Goal, Role, Unavailable, Way, Work
from bench.place import Place
from bench.works import claims, enqueue
from cutwork.worker.reconciler import Reconciler

OVER, TRIED = 5_000_000, 1_000_000
BACKLOG, LATER, SHORT = 1_000_000, 100_000, 10_000
_SECONDS = 2.0
_COUNT = 5_000
_ALARMS = 20
_PATIENCE = 20.0
_FEW, _MANY = "few rows", "many rows"
_GOAL = (Goal("rate", _FEW, at_least=0.9),)


def works(place: Place) -> Iterator[Work]:
    """Nothing in a quick run: it takes minutes to fill the tables."""
    if place.quick:
        return
    with _two(place) as (small, large):
        filling.finished(large, OVER, TRIED)
        filling.settle(large)
        rates: dict[str, Callable[[Engine], Figures]] = {
            "one enqueued": partial(_enqueued, enqueue.ours_alone),
            "a thousand enqueued": partial(_enqueued, enqueue.ours_once),
            "a hundred released": _released,
            "fifty completed": _completed,
        }
        for name, rate in rates.items():
            yield _compared(f"growth: {name}, {OVER:,} jobs are over", rate, small, large)
    with _two(place) as (small, large):
        filling.queued(large, BACKLOG)
        filling.scheduled(large, LATER, 86_400.0)
        filling.settle(large)
        title = f"growth: a hundred released, {BACKLOG:,} queued"
        yield _compared(title, _released_of(SHORT), small, large, _released_of(0))
        yield Work(
            f"growth: alarms behind {BACKLOG:,} queued and {LATER:,} scheduled",
            (Way("a reconciler", Role.OURS, lambda: alarms(large)),),
            (Goal("check_late", at_most=1.0), Goal("store_late", at_most=1.0)),
        )


@contextmanager
def _two(place: Place) -> Iterator[tuple[Engine, Engine]]:
    suffixes = ("_few", "_many")
    small, large = (place.fresh_engine(suffix) for suffix in suffixes)
    try:
        yield small, large
    finally:
        for engine, suffix in zip((small, large), suffixes, strict=True):
            engine.dispose()
            place.drop_database(suffix)


def _compared(
    name: str,
    rate: Callable[[Engine], Figures],
    small: Engine,
    large: Engine,
    of_large: Callable[[Engine], Figures] | None = None,
) -> Work:
    few = Way(_FEW, Role.CEILING, partial(rate, small))
    many = Way(_MANY, Role.OURS, partial(of_large or rate, large))
    return Work(name, (many, few), _GOAL)


def _enqueued(verb: Callable[[Engine], int], engine: Engine) -> Figures:
    _empty(engine)
    return {"rate": enqueue.repeated(lambda: verb(engine), _SECONDS)}


def _released(engine: Engine) -> Figures:
    _empty(engine)
    filling.queued(engine, 2 * _COUNT)
    filling.settle(engine)
    return {"rate": claims.rate_of_releases(engine, _COUNT, claims.ours)}


def _released_of(queue: int) -> Callable[[Engine], Figures]:
    """From a fresh queue so long, or from the one that is there."""

    def measure(engine: Engine) -> Figures:
        if queue:
            _empty(engine)
            filling.queued(engine, queue)
        else:
            filling.clear_released(engine)
        filling.settle(engine)
        return {"rate": claims.rate_of_releases(engine, _COUNT, claims.ours)}

    return measure


def _completed(engine: Engine) -> Figures:
    _empty(engine)
    ids = filling.waiting(engine, _COUNT)
    filling.settle(engine)
    return {"rate": claims.rate_of_completions(engine, ids, claims.heard)}


def _empty(engine: Engine) -> None:
    filling.clear(engine)
    filling.settle(engine)


def alarms(engine: Engine) -> Figures:
    """Seconds from when the last check, and the last store, is due until it is published."""
    settings = replace(SETTINGS, rate=10_000.0, check_lane=200, store_lane=200, submit_lane=200)
    seen: dict[UUID, float] = {}

    def publish(_lane: str, job_ids: Sequence[UUID]) -> None:
        seen.update(dict.fromkeys(job_ids, time.monotonic()))

    reconciler = Reconciler(engine, settings, publish)
    try:
        reconciler.run_once()
        due = time.monotonic() + 1.0
        checks = filling.waiting(engine, _ALARMS, due=1.0)
        stores = filling.storing(engine, _ALARMS, due=1.0)
        while not seen.keys() >= {*checks, *stores}:
            if time.monotonic() > due + _PATIENCE:
                raise Unavailable(f"not all were released within {_PATIENCE:g} s")
            time.sleep(reconciler.run_once())
    finally:
        reconciler.close()
    late = {"check_late": checks, "store_late": stores}
    return {name: max(seen[one] for one in ids) - due for name, ids in late.items()}
