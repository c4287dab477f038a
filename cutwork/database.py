"""Engines as cutwork needs them, and the one way to run a verb of the ledger as a transaction.

An app passes its own session and never comes here. Roles and the command line do: short
transactions, READ COMMITTED, a write lock from the first statement on SQLite, dead connections
noticed before use.
"""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    any_,
    bindparam,
    cast,
    create_engine,
    select,
)
from sqlalchemy import event as hooks
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError

from cutwork import schema
from cutwork.errors import DatabaseNotReady, InvalidSetting

P = ParamSpec("P")
T = TypeVar("T")

# What an app may call its database, async drivers included, and the driver that roles use for it.
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "postgresql+psycopg_async": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mysql+aiomysql": "mysql+pymysql",
    "mysql+asyncmy": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "mariadb+aiomysql": "mariadb+pymysql",
    "mariadb+asyncmy": "mariadb+pymysql",
    "sqlite+aiosqlite": "sqlite",
}
_EXTRAS = {"sqlite": "", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
_BUSY_SECONDS = 30
# A connection that was used a moment ago is not asked whether it lives.
_SURELY_ALIVE = 0.1

# PostgreSQL: deadlock, serialization failure, lock time-out. MariaDB and MySQL: deadlock, lock
# time-out, changed since last read. In each the database has rolled the transaction back.
_CONTENTION = {"40P01", "40001", "55P03", 1213, 1205, 1020}
_NO_TABLE = {"42P01", 1146}
# Whoever was demoted under our session answers so, and would answer so for ever.
_ONLY_READS = {"25006", 1290, 1836}
# A process that is stopped between two statements holds its locks; the server ends it for us.
_IDLE_PATIENCE = {
    "postgresql": "SET idle_in_transaction_session_timeout = '20s'",
    "mysql": "SET SESSION idle_transaction_timeout = 20",
    "mariadb": "SET SESSION idle_transaction_timeout = 20",
}
# An app may keep a job's row locked for as long as its transaction lasts. SQLite has one lock for
# all, and its own patience.
_LOCK_PATIENCE = {
    "postgresql": "SET lock_timeout = '500ms'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    "mariadb": "SET SESSION innodb_lock_wait_timeout = 1",
}

# A plan that PostgreSQL made while the tables were small is kept for as long as nobody analyzes
# them, and reads all of what has come since. Whatever is asked often has an index.
_PLANS = {"postgresql": "SET enable_seqscan = off; SET jit = off"}


def engine(url: str, *, pool_size: int = 5, patient: bool = True, sweeping: bool = False) -> Engine:
    """An engine for roles; connects lazily.

    One that is not ``patient`` waits half a second for a row that somebody has locked: its
    transactions carry the jobs of many. One that is ``sweeping`` is there to count whole tables.

    Raises:
        InvalidSetting: the URL is malformed, or its database or driver is not at hand.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    options: dict[str, Any] = {
        "isolation_level": "READ COMMITTED",
        "max_overflow": pool_size,
        "pool_recycle": 1800,
        "pool_size": pool_size,
    }
    if parsed.get_backend_name() == "postgresql":
        options["connect_args"] = {
            "application_name": "cutwork",
            "connect_timeout": 5,
            # A host that vanished without a word is noticed within the half minute.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }
    else:
        options["connect_args"] = {"connect_timeout": 5, "read_timeout": 60, "write_timeout": 60}
    made = _create(parsed, **options)
    _tell_new_connections(made, patient, sweeping)
    _ping_the_idle(made)

    @hooks.listens_for(made, "handle_error")
    def leave_a_server_that_only_reads(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if isinstance(error, DBAPIError) and _codes(error) & _ONLY_READS:
            context.is_disconnect = True

    return made


def _tell_new_connections(made: Engine, patient: bool, sweeping: bool) -> None:
    """How long to wait for others, and others for it, and how to find rows."""
    kind = made.url.get_backend_name()
    told = [_IDLE_PATIENCE]
    told += [] if patient else [_LOCK_PATIENCE]
    told += [] if sweeping else [_PLANS]

    @hooks.listens_for(made, "connect")
    def tell(connection: Any, _record: Any) -> None:
        for words in filter(None, (each.get(kind) for each in told)):
            # MySQL has no such variable, and a server that goes away is met at the next statement.
            with suppress(Exception):
                with connection.cursor() as cursor:
                    cursor.execute(words)
                connection.commit()


def _ping_the_idle(made: Engine) -> None:
    """Try a connection before it is used, if it was not just used: each try is a round trip."""

    @hooks.listens_for(made, "connect")
    @hooks.listens_for(made, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    @hooks.listens_for(made, "checkout")
    def ping(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info["used"] < _SURELY_ALIVE:
            return
        try:
            made.dialect.do_ping(connection)
        except made.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError("the server closed an idle connection") from error


def read_only(engine: Engine) -> Engine:
    """The same engine for lone SELECTs: no write lock on SQLite, no transaction elsewhere."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(cutwork_read_only=True)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def transact(
    engine: Engine,
    verb: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a verb in a transaction of its own; again, a few times, when the database rolled it back.

    Only contention is tried again: there the database says that nothing was written. A connection
    that breaks at COMMIT says nothing, so that error is the caller's.
    """
    for tries_left in (4, 3, 2, 1, 0):
        try:
            with engine.begin() as tx:
                return verb(tx, *args, **kwargs)
        except DBAPIError as error:
            if not (tries_left and is_contention(error)):
                raise
        time.sleep(random.uniform(0, 0.05 * (5 - tries_left)))  # noqa: S311
    raise AssertionError("unreachable: the last try returns or raises")


def among(dialect: str, column: Column[Any]) -> ColumnElement[bool]:
    """Whether the column has one of the values of the parameter ``those``, a list.

    On PostgreSQL not an IN: that has a parameter for each, so it is another statement for each
    number of them, and a plan that was made for all values compares row by row, value by value.
    """
    if dialect == "postgresql":
        those = ARRAY(column.type)
        if isinstance(column.type, Uuid):
            return column == any_(cast(bindparam("those", type_=_Ids), those))
        return column == any_(bindparam("those", type_=those))
    return column.in_(bindparam("those", expanding=True))


class _Ids(TypeDecorator[Sequence[UUID | str]]):
    """PostgreSQL's text for an array of ids: the driver would bind them one by one, in Python.

    They may be in hexadecimal already.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[UUID | str] | None, _dialect: Dialect) -> str:
        words = [one if isinstance(one, str) else one.hex for one in value or ()]
        return f"{{{','.join(words)}}}"


def is_contention(error: DBAPIError) -> bool:
    """Whether the database rolled the transaction back for somebody else's sake."""
    return bool(_codes(error) & _CONTENTION) or "database is locked" in str(error.orig)


def is_missing_table(error: DBAPIError) -> bool:
    """Whether a statement failed because our tables are not there."""
    return bool(_codes(error) & _NO_TABLE) or "no such table: cutwork_" in str(error.orig)


def ensure_ready(engine: Engine) -> None:
    """Check that the tables are those that this program speaks to.

    Raises:
        DatabaseNotReady: they are missing, older or newer.
    """
    found = revision(engine)
    if found != schema.REVISION:
        raise DatabaseNotReady(found, schema.REVISION)


def revision(engine: Engine) -> str | None:
    """The migration the database is at; None when it has never seen one."""
    versions = Table(
        schema.VERSION_TABLE, MetaData(), Column("version_num", String(32), nullable=False)
    )
    with read_only(engine).connect() as connection:
        if not engine.dialect.has_table(connection, schema.VERSION_TABLE):
            return None
        return connection.execute(select(versions.c.version_num)).scalar()


def _codes(error: DBAPIError) -> set[object]:
    """What the driver names the error: MariaDB's own number says more than its SQLSTATE."""
    cause = error.orig
    return {getattr(cause, "sqlstate", None), *(cause.args[:1] if cause else ())}


def _parse(url: str) -> URL:
    rule = "must be a database URL such as postgresql://user@host/name"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number
        parsed = None
    if parsed is None:
        raise InvalidSetting("CUTWORK_DATABASE_URL", "(hidden)", rule)
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    backend = parsed.get_backend_name()
    if backend not in _EXTRAS:
        known = "sqlite, postgresql, mariadb or mysql"
        raise InvalidSetting("CUTWORK_DATABASE_URL", backend, f"must name {known}")
    return parsed


def _create(url: URL, **options: Any) -> Engine:
    try:
        # Parameters hold links to results, which are secrets, and errors are logged.
        return create_engine(url, hide_parameters=True, **options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        missing = str(error)
    extra = _EXTRAS[url.get_backend_name()]
    raise InvalidSetting(
        "CUTWORK_DATABASE_URL",
        url.drivername,
        f"needs a driver that is not installed ({missing})",
        f"pip install 'cutwork[{extra}]'" if extra else "begin it with sqlite://",
    )


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = _create(url, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False})

    @hooks.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # a 2xx is a promise that survives a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @hooks.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later fails at once when somebody wrote
        # between; taking the write lock first makes it wait its turn instead.
        if not connection.get_execution_options().get("cutwork_read_only"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
