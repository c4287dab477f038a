"""procrastinate: PostgreSQL, asyncio, aiohttp. ``python -m bench.peers.procrastinate`` works."""

import asyncio
import os
from collections.abc import Sequence

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.connector import BaseConnector
from procrastinate.tasks import Task
from sqlalchemy.engine import make_url

from bench.place import Place
from bench.processes import Crew, say_ready
from bench.stub import Stub

from . import posting
from .sessions import Posts


def _app(connector: BaseConnector, posts: Posts | None) -> "tuple[App, Task[[int], None, None]]":
    app = App(connector=connector)

    @app.task(name="post", queue="posts")
    async def post(number: int) -> None:
        assert posts is not None  # noqa: S101 - only workers get here
        await posts.post(number)

    return app, post


def begin(crew: Crew, place: Place, stub: Stub, workers: int) -> posting.Put:
    url = plain(place.fresh_database("_procrastinate"))
    app, post = _app(SyncPsycopgConnector(conninfo=url), None)
    app.open()
    app.schema_manager.apply_schema()
    for _ in range(workers):
        environ = posting.environ(stub, database=url)
        crew.start("procrastinate", ["bench.peers.procrastinate"], environ)

    def put(numbers: Sequence[int]) -> None:
        post.batch_defer(*({"number": number} for number in numbers))

    return put


def plain(url: str) -> str:
    """A SQLAlchemy URL as libpq reads it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def main() -> None:
    async with Posts.opened() as posts:
        connector = PsycopgConnector(conninfo=os.environ["BENCH_DATABASE"], max_size=20)
        app, _ = _app(connector, posts)
        async with app.open_async():
            say_ready()
            await app.run_worker_async(queues=["posts"], concurrency=posting.THREADS)


if __name__ == "__main__":
    asyncio.run(main())
