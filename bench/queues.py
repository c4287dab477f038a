"""PgQueuer, procrastinate and Oban, as they take jobs: on kept connections, as they recommend.

Each job has arguments of its own, which an app puts together for it.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from uuid_utils.compat import uuid7

from .measuring import Unavailable
from .place import Place

MANY = 1000
# What is only asyncio does so many in one run of its loop: an app would not start one for each.
_RUN = 20


@dataclass(frozen=True)
class Peer:
    """``alone`` and ``many`` write one job, or a thousand, and say how many.

    ``once`` is ``many`` with a key for each job, of which there may be no second.
    """

    name: str
    alone: Callable[[], int]
    many: Callable[[], int]
    close: Callable[[], None]
    once: Callable[[], int] | None = None


def peers(place: Place) -> Iterator[Peer]:
    """Those that are installed, each with a database of its own; a missing one says so."""
    begins = {"pgqueuer": _pgqueuer, "procrastinate": _procrastinate, "oban": _oban}
    for name, begin in begins.items():
        try:
            yield begin(place)
        except ModuleNotFoundError as error:
            yield _missing(name, f"{error.name} is not installed")


def _missing(name: str, why: str) -> Peer:
    def refuse() -> int:
        raise Unavailable(why)

    return Peer(name, refuse, refuse, lambda: None)


def _pgqueuer(place: Place) -> Peer:
    import psycopg
    from pgqueuer.db import PsycopgDriver, SyncPsycopgDriver
    from pgqueuer.queries import Queries, SyncQueries

    url = _plain(place.fresh_database("_enqueue_pgqueuer"))

    async def install() -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await Queries(PsycopgDriver(connection)).install()

    asyncio.run(install())
    connection = psycopg.connect(url, autocommit=True)
    queries = SyncQueries(SyncPsycopgDriver(connection))

    def write(count: int, keys: list[str | None] | None = None) -> int:
        payloads: list[bytes | None] = [
            json.dumps({"image_url": _URL}).encode() for _ in range(count)
        ]
        queries.enqueue(["submit"] * count, payloads, [0] * count, dedupe_key=keys)
        return count

    def once() -> int:
        return write(MANY, [uuid7().hex for _ in range(MANY)])

    return Peer("pgqueuer", lambda: write(1), lambda: write(MANY), connection.close, once)


def _procrastinate(place: Place) -> Peer:
    from procrastinate import App, SyncPsycopgConnector

    url = _plain(place.fresh_database("_enqueue_procrastinate"))
    app = App(connector=SyncPsycopgConnector(conninfo=url))

    @app.task(name="submit", queue="submits")
    def submit(image_url: str) -> None: ...

    app.open()
    app.schema_manager.apply_schema()

    def alone() -> int:
        submit.defer(image_url=_URL)
        return 1

    def many() -> int:
        submit.batch_defer(*({"image_url": _URL} for _ in range(MANY)))
        return MANY

    return Peer("procrastinate", alone, many, app.close)


def _oban(place: Place) -> Peer:
    if sys.version_info < (3, 12):
        return _missing("oban", "oban needs Python 3.12")
    import uvloop
    from oban import Oban, worker
    from oban.schema import install

    url = _plain(place.fresh_database("_enqueue_oban"))
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    @worker(queue="submits")
    class Submit:
        async def process(self, _job: object) -> None: ...

    async def open_pool() -> tuple[object, Oban]:
        pool = await Oban.create_pool(url)
        await install(pool)
        return pool, Oban(pool=pool)

    pool, oban = runner.run(open_pool())

    async def alone() -> int:
        for _ in range(_RUN):
            await oban.enqueue(Submit.new({"image_url": _URL}))
        return _RUN

    async def many() -> int:
        return len(await oban.enqueue_many(Submit.new({"image_url": _URL}) for _ in range(MANY)))

    def close() -> None:
        runner.run(pool.close())
        runner.close()

    return Peer("oban", lambda: runner.run(alone()), lambda: runner.run(many()), close)


_URL = "https://pictures.example/1.jpg"


def _plain(url: str) -> str:
    """A SQLAlchemy URL as libpq reads it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
