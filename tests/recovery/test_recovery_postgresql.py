"""PostgreSQL is restarted, crashes, or fails over to its standby: nobody has to be restarted."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cutwork.states import State
from tests.recovery.failover import Primary, Standby
from tests.recovery.place import deployed
from tests.services.postgresql import PrivatePostgreSQL
from tests.services.processes import Processes

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), pytest.mark.no_cover]


def fast(server: PrivatePostgreSQL) -> None:
    server.restart()


def immediate(server: PrivatePostgreSQL) -> None:
    """No checkpoint: it comes back through crash recovery."""
    server.kill()
    server.start()


@pytest.mark.parametrize(("trouble", "pool"), [(fast, "prefork"), (immediate, "threads")])
def test_a_postgresql_that_was_restarted_is_used_again_by_the_same_processes(
    trouble: Callable[[PrivatePostgreSQL], None],
    pool: str,
    private_postgresql: PrivatePostgreSQL,
    empty_broker: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> None:
    urls = (private_postgresql.url, empty_broker("redis"))
    with deployed(processes, tmp_path, *urls) as place:
        place.open(pool)
        place.enqueue(2)
        place.finish()
        trouble(private_postgresql)  # while they are idle

        place.enqueue(12)
        place.until(State.SUCCEEDED, 4)
        trouble(private_postgresql)  # while jobs are under way
        place.enqueue(2)
        place.finish()
        assert place.charges() == len(place.ids)


@pytest.fixture
def pair(private_postgresql: PrivatePostgreSQL) -> Iterator[tuple[Primary, Standby]]:  # noqa: ARG001 (skips where there is none)
    primary = Primary()
    standby = Standby(primary)
    try:
        primary.start()
        standby.start()
        yield primary, standby
    finally:
        standby.close()
        primary.close()


def test_a_failover_needs_no_restart_and_an_old_primary_that_only_reads_is_passed_over(
    pair: tuple[Primary, Standby],
    empty_broker: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> None:
    primary, standby = pair
    hosts = "&".join(f"host=127.0.0.1:{one.port}" for one in pair)
    url = f"postgresql://postgres@/postgres?{hosts}&target_session_attrs=read-write"
    with deployed(processes, tmp_path, url, empty_broker("redis")) as place:
        place.open()
        place.enqueue(8)
        place.until(State.SUCCEEDED, 2)
        primary.kill()
        standby.promote()
        place.enqueue(2)
        place.finish()

        primary.follow()
        primary.start()
        place.enqueue(2)
        place.finish()
        assert place.charges() == len(place.ids)
