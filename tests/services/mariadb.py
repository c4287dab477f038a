"""MariaDB or MySQL: a database of our own on a server that is there, or a server of our own."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import ER
from pymysql.err import MySQLError, OperationalError
from sqlalchemy.engine import URL, make_url

from tests.services.databases import fresh_name
from tests.services.outcome import Missing, Unusable
from tests.services.ports import HOST, is_open
from tests.services.private import PrivateServer, find_program

PORT = 3306
DRIVER = "mysql+pymysql"
SOCKETS = ("/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/tmp/mysql.sock")  # noqa: S108
LOCK_PATIENCE = 1

# The errors above are imported by name: who loads parts of the driver as MySQLdb, as Django does,
# puts a second pymysql.err in the place of the first, whose classes are never raised.


class MariaDB:
    """A database of a random name, dropped at the end."""

    def __init__(self, server: URL, private: "PrivateMariaDB | None" = None) -> None:
        self._name = fresh_name()
        self._private = private
        self._url = server.set(drivername=DRIVER, database=self._name).update_query_dict(
            {"charset": "utf8mb4"}
        )
        self._admin = connect(server)
        self.label = _label(self._admin)
        self._execute(_create(self._name))

    def empty(self) -> str:
        try:
            self._recreate()
        except OperationalError:
            self._end_connections()
            self._recreate()
        return self._url.render_as_string(hide_password=False)

    def close(self) -> None:
        self._end_connections()
        self._execute(f"DROP DATABASE IF EXISTS `{self._name}`")
        self._admin.close()
        if self._private:
            self._private.close()

    def _recreate(self) -> None:
        self._execute(f"SET lock_wait_timeout = {LOCK_PATIENCE}")
        self._execute(f"DROP DATABASE IF EXISTS `{self._name}`")
        self._execute(_create(self._name))

    def _end_connections(self) -> None:
        """Whoever the last test left behind with an open transaction."""
        for (number,) in self._execute(
            f"SELECT id FROM information_schema.processlist WHERE db = '{self._name}'"
        ):
            try:
                self._execute(f"KILL {number}")
            except OperationalError as error:
                if error.args[0] != ER.NO_SUCH_THREAD:
                    raise

    def _execute(self, statement: str) -> Sequence[Any]:
        return execute(self._admin, statement)


class PrivateMariaDB(PrivateServer):
    """A MariaDB of our own; its database ``cutwork`` is the one to use."""

    name = "MariaDB"
    stop_signal = signal.SIGTERM

    @classmethod
    def missing(cls) -> Missing | None:
        absent = [name for name in ("mariadb-install-db", "mariadbd") if not _program(name)]
        return Missing(f"no {absent[0]} installed") if absent else None

    @property
    def url(self) -> str:
        return self.server.set(database="cutwork", query={"charset": "utf8mb4"}).render_as_string(
            hide_password=False
        )

    @property
    def server(self) -> URL:
        """The server without a database."""
        return URL.create(DRIVER, "root", host=HOST, port=self.port)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def prepare(self) -> None:
        self.run(
            _program("mariadb-install-db"), "--no-defaults", f"--datadir={self._data}",
            "--auth-root-authentication-method=normal", "--skip-test-db",
        )  # fmt: skip

    def start(self) -> None:
        super().start()
        with connect(self.server) as connection:
            execute(connection, _create("IF NOT EXISTS cutwork", quoted=False))

    def command(self) -> Sequence[str | Path]:
        return [
            _program("mariadbd"), "--no-defaults", f"--datadir={self._data}",
            f"--bind-address={HOST}", f"--port={self.port}",
            f"--socket={self.directory / 'socket'}", f"--pid-file={self.directory / 'pid'}",
            "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=2",
        ]  # fmt: skip

    def answers(self) -> bool:
        try:
            connect(self.server).close()
        except OperationalError:
            return False
        return True

    def wipe(self) -> None:
        with connect(self.server) as connection:
            execute(connection, "DROP DATABASE IF EXISTS cutwork")
            execute(connection, _create("cutwork"))


def find(explicit: str) -> MariaDB | Missing:
    """The server of CUTWORK_TEST_MARIADB_URL, the one on the standard port, or a private one."""
    if explicit:
        return _explicit(explicit)
    for candidate in _local():
        try:
            return MariaDB(candidate)
        except MySQLError:
            continue
    absent = PrivateMariaDB.missing()
    if absent:
        what = "a server that lets the tests in" if is_open(PORT) else "server"
        return Missing(f"no {what} at {HOST}:{PORT}, {absent.reason}")
    private = PrivateMariaDB()
    private.start()
    return MariaDB(private.server, private)


def connect(url: URL) -> "pymysql.Connection[Any]":
    """A connection to no database in particular, that commits each statement by itself."""
    sockets = url.query.get("unix_socket")
    place = {"unix_socket": sockets} if sockets else {"host": url.host, "port": url.port or PORT}
    return pymysql.connect(
        user=url.username, password=url.password or "", autocommit=True, connect_timeout=3, **place
    )


def execute(connection: "pymysql.Connection[Any]", statement: str) -> Sequence[Any]:
    """All rows of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _create(name: str, *, quoted: bool = True) -> str:
    return f"CREATE DATABASE {f'`{name}`' if quoted else name} CHARACTER SET utf8mb4"


def _label(connection: "pymysql.Connection[Any]") -> str:
    version = execute(connection, "SELECT VERSION()")[0][0]
    return f"{'MariaDB' if 'MariaDB' in version else 'MySQL'} {version.split('-')[0]}"


def _explicit(text: str) -> MariaDB:
    try:
        return MariaDB(make_url(text))
    except MySQLError as error:
        raise Unusable(f"CUTWORK_TEST_MARIADB_URL cannot be used: {error}") from None


def _local() -> Iterator[URL]:
    for password in ("", "root"):
        yield URL.create(DRIVER, "root", password or None, host=HOST, port=PORT)
    for socket in SOCKETS:
        if Path(socket).exists():
            yield URL.create(DRIVER, "root", host="localhost", query={"unix_socket": socket})


def _program(name: str) -> str:
    return find_program(name, f"/usr/sbin/{name}", f"/opt/homebrew/bin/{name}")
