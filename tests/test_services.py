"""The test services keep what they promise: empty, isolated, restartable, and gone at the end."""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pymysql
import pytest
import redis as redis_client
from kombu import Connection
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.services import mariadb, postgresql, rabbitmq, redis
from tests.services.outcome import Missing, Unusable
from tests.services.ports import free_port, is_open
from tests.services.private import PrivateServer
from tests.services.processes import Processes, is_alive
from tests.services.registry import Services
from tests.services.waiting import run_until


def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    """The rows of the last statement."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        results = [connection.execute(text(statement)) for statement in statements]
        return [tuple(row) for row in results[-1]] if results[-1].returns_rows else []


def send(url: str, queue: str, body: str) -> None:
    with Connection(url) as connection, connection.SimpleQueue(queue) as messages:
        messages.put(body)


def has_message(url: str, queue: str) -> bool:
    """Whether one can be received; it stays there."""
    with Connection(url) as connection, connection.SimpleQueue(queue) as messages:
        try:
            messages.get_nowait().requeue()
        except messages.Empty:
            return False
        return True


# Databases


def test_a_database_takes_a_table_and_keeps_any_character(database_url: str) -> None:
    rows = execute(
        database_url,
        "CREATE TABLE word (name VARCHAR(20))",
        "INSERT INTO word VALUES ('cut 🦀')",
        "SELECT name FROM word",
    )

    assert rows == [("cut 🦀",)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_a_database_is_empty_again_when_asked_for_again(
    empty_database: Callable[[str], str], kind: str
) -> None:
    execute(empty_database(kind), "CREATE TABLE word (name VARCHAR(20))")

    execute(empty_database(kind), "CREATE TABLE word (name VARCHAR(20))")


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_forgotten_transaction_does_not_keep_a_database_from_being_emptied(
    empty_database: Callable[[str], str], kind: str
) -> None:
    url = empty_database(kind)
    execute(url, "CREATE TABLE word (name VARCHAR(20))")
    engine = create_engine(url, poolclass=NullPool)
    forgotten = engine.connect()
    forgotten.execute(text("SELECT * FROM word"))

    execute(empty_database(kind), "CREATE TABLE word (name VARCHAR(20))")

    forgotten.invalidate()
    forgotten.close()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_two_sessions_do_not_see_each_other_and_leave_nothing_behind(
    services: Services, kind: str
) -> None:
    services.empty(kind)  # skips where there is none
    first, second = Services(os.environ), Services(os.environ)
    urls = [session.empty(kind) for session in (first, second)]
    execute(urls[0], "CREATE TABLE word (name VARCHAR(20))")
    execute(urls[1], "CREATE TABLE word (name VARCHAR(20))")

    first.close()
    names = _databases(urls[1])
    second.close()

    assert make_url(urls[1]).database in names
    assert make_url(urls[0]).database not in names


def _databases(url: str) -> set[object]:
    kind = make_url(url).get_backend_name()
    ask = "SHOW DATABASES" if kind == "mysql" else "SELECT datname FROM pg_database"
    return {row[0] for row in execute(url, ask)}


# Brokers


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_a_broker_carries_a_message_and_is_empty_when_asked_for_again(
    empty_broker: Callable[[str], str], kind: str
) -> None:
    url = empty_broker(kind)
    send(url, "letters", "hello")
    run_until(lambda: has_message(url, "letters"), message="the message is there")

    assert not has_message(empty_broker(kind), "letters")


def test_every_kind_of_broker_has_a_url(broker_url: str) -> None:
    assert broker_url.partition("://")[0] in ("filesystem", "redis", "amqp")


def test_two_sessions_have_redis_databases_of_their_own(services: Services) -> None:
    services.empty("redis")  # skips where there is none
    first, second = Services(os.environ), Services(os.environ)
    urls = [session.empty("redis") for session in (first, second)]

    for session in (first, second):
        session.close()

    assert urls[0] != urls[1]


def test_a_redis_database_in_use_is_left_alone(private_redis: PrivateServer) -> None:
    with redis_client.Redis.from_url(private_redis.url) as client:
        client.set("somebody", "else")

        with pytest.raises(Unusable, match="holds keys"):
            redis.find(private_redis.url)

        assert client.keys() == [b"somebody"]


def test_a_redis_database_left_by_a_dead_session_is_taken_over(
    private_redis: PrivateServer, processes: Processes
) -> None:
    source = (
        "import os, sys; from tests.services import redis; "
        "redis.find(sys.argv[1]).empty(); os._exit(0)"
    )
    dead = processes.start(
        sys.executable, "-c", source, private_redis.url, cwd=Path(__file__).parent.parent
    )
    assert dead.wait() == 0, dead.tail()

    found = redis.find(private_redis.url)

    assert not isinstance(found, Missing)
    found.close()


def test_a_virtual_host_is_gone_after_the_session(private_rabbitmq: PrivateServer) -> None:
    assert isinstance(private_rabbitmq, rabbitmq.PrivateRabbitMQ)
    broker = rabbitmq.RabbitMQ(private_rabbitmq.url, private_rabbitmq.admin)
    send(broker.empty(), "letters", "hello")

    broker.close()

    assert private_rabbitmq.control("list_vhosts", "--silent").split() == ["/"]


# Private servers


def _leave_a_mark(server: PrivateServer) -> None:
    if make_url(server.url).get_backend_name() in ("postgresql", "mysql"):
        execute(server.url, "CREATE TABLE mark (n INTEGER)", "INSERT INTO mark VALUES (1)")
    else:
        send(server.url, "mark", "1")


def _has_mark(server: PrivateServer) -> bool:
    if make_url(server.url).get_backend_name() in ("postgresql", "mysql"):
        execute(server.url, "CREATE TABLE IF NOT EXISTS mark (n INTEGER)")
        return bool(execute(server.url, "SELECT n FROM mark"))
    return has_message(server.url, "mark")


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "redis", "rabbitmq"])
def test_a_private_server_keeps_its_data_over_a_restart_and_loses_them_when_wiped(
    services: Services, kind: str
) -> None:
    server = services.private(kind)
    _leave_a_mark(server)

    server.restart()
    run_until(lambda: _has_mark(server), message="the mark is there after a restart")

    server.wipe()
    assert not _has_mark(server)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "redis", "rabbitmq"])
def test_a_killed_private_server_is_down_until_it_is_started(services: Services, kind: str) -> None:
    server = services.private(kind)

    server.kill()
    assert not is_open(server.port)
    assert not server.running

    server.start()
    assert not _has_mark(server)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "redis", "rabbitmq"])
def test_a_private_server_leaves_no_process_and_no_file_behind(
    kind: str, services: Services
) -> None:
    services.private(kind)  # skips where the programs are missing
    before = set(psutil.Process().children(recursive=True))
    own = Services({})
    server = own.private(kind)
    started = set(psutil.Process().children(recursive=True)) - before

    own.close()

    assert started
    assert not [process for process in started if is_alive(process)]
    assert not server.directory.exists()
    assert not [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(server.directory) in " ".join(process.info["cmdline"] or [])
    ]


# Where servers are looked for


@pytest.mark.parametrize(
    ("find", "url"),
    [
        (postgresql.find, "postgresql://postgres@127.0.0.1:{}/postgres"),
        (mariadb.find, "mysql://root@127.0.0.1:{}/"),
        (redis.find, "redis://127.0.0.1:{}"),
        (rabbitmq.find, "amqp://guest:guest@127.0.0.1:{}//"),
    ],
)
def test_a_server_that_was_named_and_does_not_answer_is_an_error(
    find: Callable[[str], object], url: str
) -> None:
    with pytest.raises(Unusable, match=r"CUTWORK_TEST_\w+_URL cannot be used"):
        find(url.format(free_port()))


def test_a_server_that_does_not_answer_is_known_when_the_driver_goes_by_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pymysql, "err", importlib.util.module_from_spec(pymysql.err.__spec__))
    pymysql.err.__spec__.loader.exec_module(pymysql.err)

    with pytest.raises(Unusable, match="CUTWORK_TEST_MARIADB_URL"):
        mariadb.find(f"mysql://root@127.0.0.1:{free_port()}/")
