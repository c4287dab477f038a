"""PostgreSQL: a database of our own on a server that is there, or a server of our own."""

import getpass
import signal
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import URL, make_url

from tests.services.databases import fresh_name
from tests.services.outcome import Missing, Unusable
from tests.services.ports import HOST, is_open
from tests.services.private import PrivateServer, find_program

PORT = 5432
DRIVER = "postgresql+psycopg"
PATTERNS = (
    "/usr/lib/postgresql/*/bin/{}",
    "/usr/pgsql-*/bin/{}",
    "/opt/homebrew/opt/postgresql@*/bin/{}",
    "/usr/local/opt/postgresql@*/bin/{}",
)
LOCK_PATIENCE = "1s"


class PostgreSQL:
    """A database of a random name, dropped at the end."""

    def __init__(self, server: URL, private: "PrivatePostgreSQL | None" = None) -> None:
        self._name = fresh_name()
        self._private = private
        self._url = server.set(drivername=DRIVER, database=self._name)
        self._admin = connect(server)
        version = self._admin.info.parameter_status("server_version") or "?"
        self.label = f"PostgreSQL {version.split()[0]}"
        self._admin.execute(f'CREATE DATABASE "{self._name}"')

    def empty(self) -> str:
        try:
            reset(self._inside)
        except psycopg.errors.LockNotAvailable:
            self._end_connections()
            reset(self._inside)
        return self._url.render_as_string(hide_password=False)

    def close(self) -> None:
        if "_inside" in vars(self):
            self._inside.close()
        self._admin.execute(f'DROP DATABASE IF EXISTS "{self._name}" WITH (FORCE)')
        self._admin.close()
        if self._private:
            self._private.close()

    @cached_property
    def _inside(self) -> psycopg.Connection[Any]:
        return connect(self._url)

    def _end_connections(self) -> None:
        """Whoever the last test left behind with an open transaction."""
        self._inside.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


class PrivatePostgreSQL(PrivateServer):
    """A PostgreSQL of our own; its database ``postgres`` is the one to use."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # the fast shutdown: does not wait for clients

    @classmethod
    def missing(cls) -> Missing | None:
        absent = [name for name in ("initdb", "postgres") if not _program(name)]
        return Missing(f"no {absent[0]} installed") if absent else None

    @property
    def url(self) -> str:
        return self._server.render_as_string(hide_password=False)

    @property
    def _server(self) -> URL:
        return URL.create(DRIVER, "postgres", host=HOST, port=self.port, database="postgres")

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def prepare(self) -> None:
        self.run(
            _program("initdb"), "--pgdata", self._data, "--username=postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def command(self) -> Sequence[str | Path]:
        return [
            _program("postgres"), "-D", self._data, "-h", HOST, "-p", str(self.port),
            "-c", "unix_socket_directories=", "-c", "fsync=off",
        ]  # fmt: skip

    def answers(self) -> bool:
        try:
            connect(self._server).close()
        except psycopg.OperationalError:
            return False
        return True

    def wipe(self) -> None:
        with connect(self._server) as connection:
            reset(connection)


def find(explicit: str) -> PostgreSQL | Missing:
    """The server of CUTWORK_TEST_POSTGRESQL_URL, the one on the standard port, or a private one."""
    if explicit:
        return _explicit(explicit)
    for candidate in _local():
        try:
            return PostgreSQL(candidate)
        except psycopg.Error:
            continue
    absent = PrivatePostgreSQL.missing()
    if absent:
        what = "a server that lets the tests in" if is_open(PORT) else "server"
        return Missing(f"no {what} at {HOST}:{PORT}, {absent.reason}")
    private = PrivatePostgreSQL()
    private.start()
    return PostgreSQL(make_url(private.url), private)


def connect(url: URL) -> psycopg.Connection[Any]:
    """A connection that commits each statement by itself."""
    plain = url.set(drivername="postgresql")
    connection = psycopg.connect(
        plain.render_as_string(hide_password=False), autocommit=True, connect_timeout=3
    )
    connection.execute("SET client_min_messages = warning")
    return connection


def reset(connection: psycopg.Connection[Any]) -> None:
    """Drop every table, type and function at once."""
    connection.execute(
        f"SET lock_timeout = '{LOCK_PATIENCE}'; DROP SCHEMA public CASCADE; CREATE SCHEMA public"
    )


def _explicit(text: str) -> PostgreSQL:
    try:
        return PostgreSQL(make_url(text))
    except psycopg.Error as error:
        raise Unusable(f"CUTWORK_TEST_POSTGRESQL_URL cannot be used: {error}") from None


def _local() -> Iterator[URL]:
    for user, password in (("postgres", None), ("postgres", "postgres"), (getpass.getuser(), None)):
        yield URL.create(DRIVER, user, password, host=HOST, port=PORT, database="postgres")


def _program(name: str) -> str:
    return find_program(name, *(pattern.format(name) for pattern in PATTERNS))
