"""Messages about released jobs: what the reconciler publishes, and a message for each job."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import ceil
from uuid import UUID

from celery import Celery
from kombu.exceptions import OperationalError
from uuid_utils.compat import uuid7

from bench.filling import SETTINGS
from bench.measuring import Figures, Goal, Role, Unavailable, Way, Work
from bench.place import Place
from cutwork.worker.configuration import configuration, publish_options, queue_name
from cutwork.worker.publishing import Publisher
from cutwork.worker.reconciler import _MESSAGES

# What one look of a reconciler may release at most: the largest lane that settings allow.
LARGEST = 10_000
# A lane for as many threads as a worker may well have; the fewer are released, the less they share.
MIDDLING = 200
# No lane of ours: workers may be listening to those.
_LANE = "bench"


def works(place: Place) -> Iterator[Work]:
    """The rates are jobs a second, on a connection that is open; RabbitMQ confirms each message."""
    jobs = LARGEST if place.quick else 10 * LARGEST
    for name, url in (("Redis", place.redis), ("RabbitMQ", place.rabbitmq)):
        shared = partial(published, url, jobs, LARGEST)
        less = partial(published, url, jobs // 2, MIDDLING)
        alone = partial(one_by_one, url, jobs // 10)
        yield Work(
            f"broker: {name}, a full backlog",
            (
                Way(f"our publisher, {LARGEST:,} at a time", Role.OURS, shared),
                Way(f"our publisher, {MIDDLING} at a time", Role.OURS, less),
                Way("apply_async for each job", Role.HAND, alone),
            ),
            (Goal("rate", at_least=20_000),),
        )


def published(url: str, jobs: int, lane: int) -> Figures:
    """Chunks as the reconciler makes them, when each look releases as many as the lane holds."""
    size = ceil(lane / _MESSAGES)

    def publish(app: Celery, ids: list[UUID]) -> None:
        publisher = Publisher(app, publish_options(replace(SETTINGS, broker_url=url)))
        for start in range(0, len(ids), size):
            publisher(_LANE, ids[start : start + size])

    return {"rate": _rate(url, jobs, publish)}


def one_by_one(url: str, jobs: int) -> Figures:
    """The same settings and the same queue, a message for each job."""

    def publish(app: Celery, ids: list[UUID]) -> None:
        task = app.signature(f"cutwork.{_LANE}")
        options = publish_options(replace(SETTINGS, broker_url=url))
        for one in ids:
            task.apply_async(args=([str(one)],), queue=queue_name(_LANE), retry=False, **options)

    return {"rate": _rate(url, jobs, publish)}


def _rate(url: str, jobs: int, publish: Callable[[Celery, list[UUID]], None]) -> float:
    app = Celery("bench", set_as_current=False)
    app.conf.update(configuration(replace(SETTINGS, broker_url=url)))
    try:
        ids = [uuid7() for _ in range(jobs)]
        publish(app, ids[:1])
        began = time.perf_counter()
        publish(app, ids)
        took = time.perf_counter() - began
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(queue_name(_LANE))
    except (OperationalError, OSError) as error:
        raise Unavailable(f"no broker: {type(error).__name__}") from error
    finally:
        app.close()
    return jobs / took
