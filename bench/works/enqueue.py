"""New jobs: one with a commit of its own, and a thousand in one transaction."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from celery import Celery
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session, registry
from uuid_utils.compat import uuid7

import cutwork
from bench.measuring import Figures, Goal, Role, Way, Work
from bench.place import Place
from bench.queues import MANY, peers
from cutwork.clock import now
from cutwork.schema import job

_URL = "https://pictures.example/1.jpg"
_COLUMNS = {
    "kind": "segmentation",
    "state": "queued",
    "fence": 0,
    "tries": 0,
    "priority": 5,
    "owner": "",
    "attempt": 0,
    "request_digest": "0" * 64,
    "turn": 1,
}
_REQUEST = cutwork.Segmentation(image_url=_URL).to_json(None)
_INSERT = insert(job).values(created_at=now(), due_at=now())
_FROM_JSON = text(
    """
    INSERT INTO cutwork_job (id, idempotency_key, request, request_digest, kind, state, fence,
                             tries, priority, owner, attempt, turn, created_at, due_at)
    SELECT id, idempotency_key, request, request_digest, 'segmentation', 'queued', 0,
           0, 5, '', 0, turn, statement_timestamp(), statement_timestamp()
      FROM jsonb_to_recordset(:rows) AS given (id uuid, idempotency_key varchar, request jsonb,
                                               request_digest varchar, turn bigint)
        ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
    """
)
_COPY = """
    COPY cutwork_job (id, idempotency_key, request, request_digest, kind, state, fence, tries,
                      priority, owner, attempt, turn, created_at, due_at) FROM STDIN
"""


class _Row:
    """A job as the ORM has it."""

    def __init__(self, **columns: Any) -> None:
        self.__dict__.update(columns)


def works(place: Place) -> Iterator[Work]:
    """The rates are jobs a second."""
    engine = place.fresh_engine("_enqueue")
    gc.freeze()  # an app has not loaded all the others
    seconds = 0.5 if place.quick else 2.0
    others, delayed = list(peers(place)), Delayed(engine, place.redis)

    def turns(enqueue: Callable[[], int]) -> Callable[[], Figures]:
        return lambda: {"rate": repeated(enqueue, seconds)}

    alone = [(one.name, one.alone) for one in others]
    many = [(one.name, one.many) for one in others]
    once = [(one.name, one.once) for one in others if one.once is not None]
    yield Work(
        "enqueue: one job, its own commit",
        (
            Way("cutwork.enqueue", Role.OURS, turns(lambda: ours_alone(engine))),
            Way("insert by hand", Role.CEILING, turns(lambda: by_hand(engine))),
            Way("insert by hand, statement kept", Role.CEILING, turns(lambda: kept(engine))),
            Way("insert by the ORM", Role.CEILING, turns(Orm(engine))),
            Way("row and Celery's delay", Role.HAND, turns(delayed)),
            *(Way(name, Role.PEER, turns(enqueue)) for name, enqueue in alone),
        ),
        (
            Goal("rate", "insert by hand", at_least=0.9),
            Goal("rate", "insert by hand, statement kept", at_least=0.9),
        ),
    )
    yield Work(
        f"enqueue: {MANY} jobs, one transaction",
        (
            Way("cutwork.enqueue_many", Role.OURS, turns(lambda: ours_many(engine))),
            *(Way(name, Role.PEER, turns(enqueue)) for name, enqueue in many),
        ),
        (Goal("rate", "pgqueuer", at_least=1.0),),
    )
    yield Work(
        f"enqueue: {MANY} jobs with keys, one transaction",
        (
            Way("cutwork.enqueue_many", Role.OURS, turns(lambda: ours_once(engine))),
            Way("one JSON statement by hand", Role.CEILING, turns(lambda: from_json(engine))),
            Way("COPY by hand", Role.CEILING, turns(lambda: copied(engine))),
            *(Way(name, Role.PEER, turns(enqueue)) for name, enqueue in once),
        ),
        (
            Goal("rate", "one JSON statement by hand", at_least=0.8),
            Goal("rate", "pgqueuer", at_least=1.0),
        ),
    )
    gc.unfreeze()
    for one in others:
        one.close()
    delayed.close()
    engine.dispose()


def repeated(enqueue: Callable[[], int], seconds: float) -> float:
    """Jobs a second of an ``enqueue`` that says how many it wrote; the first call warms up."""
    enqueue()
    jobs, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        jobs += enqueue()
    return jobs / took


def ours_alone(engine: Engine) -> int:
    with engine.begin() as tx:
        cutwork.enqueue(tx, image_url=_URL)
    return 1


def by_hand(engine: Engine) -> int:
    """An equal row, bare, as an app writes it."""
    with engine.begin() as tx:
        tx.execute(insert(job).values(created_at=now(), due_at=now()), _columns())
    return 1


def kept(engine: Engine) -> int:
    """The same without building the statement each time, as ours does not either."""
    with engine.begin() as tx:
        tx.execute(_INSERT, _columns())
    return 1


def ours_many(engine: Engine) -> int:
    wanted = [cutwork.Segmentation(image_url=_URL) for _ in range(MANY)]
    with engine.begin() as tx:
        cutwork.enqueue_many(tx, wanted)
    return MANY


def ours_once(engine: Engine) -> int:
    wanted = [cutwork.Segmentation(image_url=_URL) for _ in range(MANY)]
    keys = [uuid7().hex for _ in range(MANY)]
    with engine.begin() as tx:
        cutwork.enqueue_many(tx, wanted, idempotency_keys=keys)
    return MANY


def from_json(engine: Engine) -> int:
    """Rows as one parameter, keys that may exist included: what it takes to be safe."""
    own = [
        {
            "id": str(uuid7()),
            "idempotency_key": uuid7().hex,
            "request": _REQUEST,
            "request_digest": "0" * 64,
            "turn": turn,
        }
        for turn in range(MANY)
    ]
    with engine.begin() as tx:
        written = tx.execute(_FROM_JSON, {"rows": json.dumps(own)}).scalars().all()
    return len(written)


def copied(engine: Engine) -> int:
    """The fastest way in; a key that exists fails it."""
    request, moment = json.dumps(_REQUEST), "now"
    shared = ("segmentation", "queued", 0, 0, 5, "", 0)
    with engine.begin() as tx:
        connection: Any = tx.connection
        with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for turn in range(MANY):
                key = uuid7().hex
                copy.write_row((uuid7(), key, request, "0" * 64, *shared, turn, moment, moment))
    return MANY


class Orm:
    """The same row through a mapped class and a session."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with suppress(Exception):
            registry().map_imperatively(_Row, job)

    def __call__(self) -> int:
        with Session(self._engine) as session, session.begin():
            session.add(_Row(**_columns(), created_at=now(), due_at=now()))
        return 1


class Delayed:
    """What is made by hand: the row is committed, and a message is sent to a worker."""

    def __init__(self, engine: Engine, broker: str) -> None:
        self._engine = engine
        self._app = Celery("bench", broker=broker, task_ignore_result=True)
        self._app.conf.task_default_queue = "bench-enqueue"

        @self._app.task(name="bench.submit")
        def submit(job_id: str) -> None: ...

        self._task = submit

    def __call__(self) -> int:
        columns = _columns()
        with self._engine.begin() as tx:
            tx.execute(insert(job).values(created_at=now(), due_at=now()), columns)
        self._task.delay(str(columns["id"]))
        return 1

    def close(self) -> None:
        """Leave no messages behind."""
        with self._app.connection_for_write() as connection:
            connection.default_channel.queue_purge("bench-enqueue")
        self._app.close()


def _columns() -> dict[str, Any]:
    return {**_COLUMNS, "id": uuid7(), "request": _REQUEST}
