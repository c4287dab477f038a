"""dramatiq: threads, Redis, an actor for each POST. ``python -m bench.peers.dramatiq`` works."""

import os
import threading
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

from bench.place import Place
from bench.processes import Crew, say_ready
from bench.stub import Stub

from . import posting

_QUEUE = "posts"
_NAMESPACE, _PARKED = "dramatiq", "parked"


def _actor(broker: RedisBroker) -> "dramatiq.Actor[[int], None]":
    @dramatiq.actor(broker=broker, queue_name=_QUEUE)
    def post(number: int) -> None:
        posting.post(number)

    return post


def begin(crew: Crew, place: Place, stub: Stub, workers: int) -> posting.Put:
    url = place.fresh_redis()
    for _ in range(workers):
        crew.start("dramatiq", ["bench.peers.dramatiq"], posting.environ(stub, url))
    post = _actor(RedisBroker(url=url, namespace=_NAMESPACE))
    parked = _actor(RedisBroker(url=url, namespace=_PARKED))

    def put(numbers: Sequence[int]) -> None:
        """A backlog is published where nobody looks, and renamed."""
        if len(numbers) == 1:
            post.send(numbers[0])
            return
        for number in numbers:
            parked.send(number)
        with Redis.from_url(url) as server:
            for key in (f"{_QUEUE}.msgs", _QUEUE):
                server.rename(f"{_PARKED}:{key}", f"{_NAMESPACE}:{key}")

    return put


def main() -> None:
    broker = RedisBroker(url=os.environ["BENCH_BROKER"], namespace=_NAMESPACE)
    _actor(broker)
    dramatiq.Worker(broker, worker_threads=posting.THREADS).start()
    say_ready()
    threading.Event().wait()


if __name__ == "__main__":
    main()
