"""Celery as fast as it goes: threads, Redis, no results, a task for each POST, nothing written."""

import os
from collections.abc import Sequence
from typing import Any

from celery import Celery, Task
from celery.signals import worker_ready
from redis import Redis

from bench.place import Place
from bench.processes import Crew, say_ready
from bench.stub import Stub

from . import posting

_PARKED = "parked"

app = Celery("bench", broker=os.environ.get("BENCH_BROKER"))
app.conf.update(task_ignore_result=True, task_default_queue="posts", task_publish_retry=False)


@app.task
def post(number: int) -> None:
    posting.post(number)


@worker_ready.connect
def _ready(**_: Any) -> None:
    say_ready()


def words(application: str, number: int, pool: str = "threads", threads: int = 200) -> list[str]:
    """The command line of one worker."""
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    pool_words = [f"--pool={pool}", f"--concurrency={threads}", f"--hostname=w{number}@%h"]
    return ["celery", f"--app={application}", "worker", *pool_words, *quiet]


def begin(crew: Crew, place: Place, stub: Stub, workers: int) -> posting.Put:
    broker = place.fresh_redis()
    for number in range(workers):
        environ = posting.environ(stub, broker)
        crew.start("celery", words("bench.peers.celery:app", number), environ)
    app.conf.broker_url = broker
    return lambda numbers: publish(post, numbers, broker)


def publish(task: Task, numbers: Sequence[int], broker: str) -> None:
    """A backlog is published where nobody looks, and renamed: so all of it is there at once."""
    queue = task.app.conf.task_default_queue
    if len(numbers) == 1:
        task.apply_async((numbers[0],), queue=queue)
        return
    with (
        task.app.connection_for_write() as connection,
        task.app.amqp.Producer(connection) as producer,
    ):
        for number in numbers:
            task.apply_async((number,), queue=_PARKED, producer=producer)
    with Redis.from_url(broker) as server:
        server.rename(_PARKED, queue)
