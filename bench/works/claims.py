"""Rows that change hands: a release of a hundred submits, and the completion of fifty jobs."""

import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from bench import filling
from bench.batch import BY_HAND, DONE
from bench.filling import KEY, SETTINGS
from bench.measuring import Figures, Goal, Role, Way, Work
from bench.place import Place
from cutwork import database, ledger

RELEASED, COMPLETED = 100, 50
_PERMIT = 30.0
_CLAIM = text(
    """
    UPDATE cutwork_job
       SET lease = 'message', due_at = statement_timestamp() + interval '30 seconds', key_id = :key
     WHERE id IN (SELECT id
                    FROM cutwork_job
                   WHERE state = 'queued' AND turn IS NOT NULL
                     AND (lease IS NULL OR due_at <= statement_timestamp())
                   ORDER BY priority, turn
                   LIMIT :count
                     FOR UPDATE SKIP LOCKED)
    RETURNING id
    """
)
Verb = Callable[[Engine, Sequence[UUID]], None]


def works(place: Place) -> Iterator[Work]:
    """The rates are rows a second."""
    engine = place.fresh_engine("_claims")
    size = 5_000 if place.quick else 20_000
    gc.freeze()  # as our roles do
    yield Work(
        f"claims: {RELEASED} submits released at a time",
        (
            Way("ledger.release_submits", Role.OURS, lambda: released(engine, size, ours)),
            Way("one UPDATE by hand", Role.CEILING, lambda: released(engine, size, claim)),
        ),
        (Goal("rate", Role.CEILING, at_least=0.5),),
    )
    yield Work(
        f"claims: {COMPLETED} jobs completed at a time",
        (
            Way("ledger.complete", Role.OURS, lambda: completed(engine, size, heard)),
            Way("two UPDATEs by hand", Role.CEILING, lambda: completed(engine, size, by_hand)),
        ),
        (Goal("rate", Role.CEILING, at_least=0.5),),
    )
    gc.unfreeze()
    engine.dispose()


def released(engine: Engine, size: int, verb: Callable[[Connection], int]) -> Figures:
    """Half of a queue of so many jobs goes out."""
    filling.empty(engine)
    filling.queued(engine, size)
    filling.settle(engine)
    return {"rate": rate_of_releases(engine, size // 2, verb)}


def rate_of_releases(engine: Engine, count: int, verb: Callable[[Connection], int]) -> float:
    """Rows a second, from the queue as it stands; raises RuntimeError when it is too short."""
    began = time.perf_counter()
    for _ in range(count // RELEASED):
        if database.transact(engine, verb) != RELEASED:
            raise RuntimeError("the queue is shorter than what is released from it")
    return count / (time.perf_counter() - began)


def ours(tx: Connection) -> int:
    return len(ledger.release_submits(tx, KEY, RELEASED, _PERMIT))


def claim(tx: Connection) -> int:
    return len(tx.execute(_CLAIM, {"key": KEY, "count": RELEASED}).all())


def completed(engine: Engine, size: int, verb: Verb) -> Figures:
    """Half as many jobs as in a release: each has two rows to change."""
    filling.empty(engine)
    ids = filling.waiting(engine, size // 2)
    filling.settle(engine)
    return {"rate": rate_of_completions(engine, ids, verb)}


def rate_of_completions(engine: Engine, ids: Sequence[UUID], verb: Verb) -> float:
    """Jobs a second."""
    began = time.perf_counter()
    for start in range(0, len(ids), COMPLETED):
        verb(engine, ids[start : start + COMPLETED])
    return len(ids) / (time.perf_counter() - began)


def heard(engine: Engine, ids: Sequence[UUID]) -> None:
    """As the webhook's inbox stores the callbacks that came together."""
    with engine.begin() as tx:
        if None in ledger.complete(tx, [(one, 1, DONE) for one in ids], SETTINGS):
            raise RuntimeError("a callback did not complete its job")


def by_hand(engine: Engine, ids: Sequence[UUID]) -> None:
    rows = json.dumps([{"id": str(one), "report": DONE.to_json()} for one in ids])
    with engine.begin() as tx:
        for statement in BY_HAND:
            if tx.execute(statement, {"rows": rows}).rowcount != len(ids):
                raise RuntimeError("the ceiling did not change what it should")
