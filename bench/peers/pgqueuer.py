"""PgQueuer: PostgreSQL, asyncio, aiohttp. ``python -m bench.peers.pgqueuer`` works."""

import asyncio
import os
from collections.abc import Sequence

import psycopg
from pgqueuer import PgQueuer
from pgqueuer.db import PsycopgDriver, SyncPsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries, SyncQueries

from bench.place import Place
from bench.processes import Crew, say_ready
from bench.stub import Stub

from . import posting
from .procrastinate import plain
from .sessions import Posts

_BATCH = 100


def begin(crew: Crew, place: Place, stub: Stub, workers: int) -> posting.Put:
    url = plain(place.fresh_database("_pgqueuer"))
    asyncio.run(_install(url))
    for _ in range(workers):
        environ = posting.environ(stub, database=url)
        crew.start("pgqueuer", ["bench.peers.pgqueuer"], environ)
    queries = SyncQueries(SyncPsycopgDriver(psycopg.connect(url, autocommit=True)))

    def put(numbers: Sequence[int]) -> None:
        count = len(numbers)
        payloads: list[bytes | None] = [str(number).encode() for number in numbers]
        queries.enqueue(["post"] * count, payloads, [0] * count)

    return put


async def _install(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await Queries(PsycopgDriver(connection)).install()


async def main() -> None:
    url = os.environ["BENCH_DATABASE"]
    async with (
        Posts.opened() as posts,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as connection,
    ):
        queue = PgQueuer(PsycopgDriver(connection))

        @queue.entrypoint("post")
        async def post(job: Job) -> None:
            await posts.post(int(job.payload or b"0"))

        say_ready()
        await queue.run(batch_size=_BATCH, max_concurrent_tasks=2 * posting.THREADS)


if __name__ == "__main__":
    asyncio.run(main())
