"""The broker is restarted or wiped: the same processes consume again, also when they were idle."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cutwork.states import State
from tests.recovery.place import PATIENCE, deployed
from tests.services.private import PrivateServer
from tests.services.processes import Processes
from tests.services.rabbitmq import connect

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), pytest.mark.no_cover]


def restart_empty(server: PrivateServer) -> None:
    server.wipe()
    server.restart()


def wipe(server: PrivateServer) -> None:
    server.wipe()


@pytest.mark.parametrize(
    ("kind", "trouble", "pool"),
    [
        ("redis", restart_empty, "prefork"),
        ("redis", wipe, "prefork"),
        ("redis", wipe, "threads"),
        ("rabbitmq", restart_empty, "threads"),
        ("rabbitmq", wipe, "prefork"),
        ("rabbitmq", wipe, "threads"),
    ],
)
def test_a_broker_that_was_restarted_or_wiped_is_used_again_by_the_same_processes(
    kind: str,
    trouble: Callable[[PrivateServer], None],
    pool: str,
    request: pytest.FixtureRequest,
    empty_database: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> None:
    broker: PrivateServer = request.getfixturevalue(f"private_{kind}")
    with deployed(processes, tmp_path, empty_database("postgresql"), broker.url) as place:
        place.open(pool)
        place.enqueue(2)
        place.finish()
        trouble(broker)  # while they are idle

        place.enqueue(12)
        place.until(State.SUCCEEDED, 4)
        trouble(broker)  # while jobs are under way
        place.enqueue(2)
        place.finish()
        assert place.charges() == len(place.ids)


def test_a_queue_that_refuses_its_consumer_is_tried_until_it_takes_one(
    private_rabbitmq: PrivateServer,
    empty_database: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> None:
    """The channel is closed and not the connection, as when a queue is deleted while we connect."""
    broker = private_rabbitmq
    with closing(connect(broker.url)) as connection:
        channel = connection.channel()
        channel.queue_declare("cutwork.submit", durable=False, auto_delete=False)
        with deployed(processes, tmp_path, empty_database("postgresql"), broker.url) as place:
            place.open()
            place.enqueue(2)
            place.role("worker").wait_for_log("PRECONDITION_FAILED", PATIENCE)
            channel.queue_delete("cutwork.submit")
            place.finish()
            assert place.charges() == len(place.ids)
