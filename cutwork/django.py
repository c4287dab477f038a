"""Jobs in a Django app's own transaction, through the very connection that Django has open.

    with transaction.atomic():
        order = Order.objects.create(article="shoe")
        cutwork.enqueue(cutwork.django.connection(), image_url=url, idempotency_key=f"{order.id}")

Django begins, commits and rolls back, and its savepoints hold for jobs too; nothing is set up on
its connection or left behind there. It takes PostgreSQL with psycopg 3, SQLite, and MariaDB and
MySQL with mysqlclient or PyMySQL.

Django has no transactions in coroutines: there, put the block into a function of its own and call
that with ``asgiref.sync.sync_to_async``, as for any other ``atomic``.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any, NoReturn

from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy import event as hooks
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql.mysqldb import MySQLDialect_mysqldb
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.dialects.postgresql.psycopg import (
    PGDialect_psycopg,
    PGExecutionContext_psycopg,
)
from sqlalchemy.dialects.sqlite.base import DATETIME
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.types import DateTime

from cutwork.errors import InvalidInput

_INSIDE = "call it inside transaction.atomic()"
# The types of our columns, whatever the app has registered for them.
_PSYCOPG_TYPES = (
    "bool", "float8", "int2", "int4", "int8", "json", "jsonb", "text", "timestamptz", "uuid",
    "varchar",
)  # fmt: skip


def connection(using: str = "default") -> Connection:
    """Django's open connection as one of SQLAlchemy's, for a ``cutwork.enqueue`` and the like.

    It is good in this thread, for this transaction. It need not be closed.

    Raises:
        InvalidInput: Django is in autocommit mode, or its driver is not one of those above.
        django.db.transaction.TransactionManagementError: the transaction is broken already.
    """
    django = _connections()[using]
    _check_open(django, using)
    django.validate_no_broken_transaction()
    return _engine(using, _driver(django)).connect()


class _Guest:
    """What SQLAlchemy leaves alone on a connection that belongs to somebody else."""

    def on_connect(self) -> Callable[[Any], None]:
        return lambda _connection: None

    def do_begin(self, dbapi_connection: Any) -> None: ...

    def do_rollback(self, dbapi_connection: Any) -> None: ...

    def do_close(self, dbapi_connection: Any) -> None: ...

    def do_terminate(self, dbapi_connection: Any) -> None: ...

    def do_commit(self, dbapi_connection: Any) -> NoReturn:
        rule, kind = "must not be committed by hand", type(dbapi_connection).__name__
        raise InvalidInput("connection", kind, rule, "transaction.atomic() commits")


class _OwnCursors(PGExecutionContext_psycopg):
    """Django reads jsonb as text, and times without their zone where it uses none."""

    def create_default_cursor(self) -> Any:
        from psycopg import Cursor, adapters
        from psycopg.pq import Format
        from psycopg.rows import tuple_row

        theirs: Any = self._dbapi_connection.driver_connection
        cursor = Cursor(theirs, row_factory=tuple_row)
        for name in _PSYCOPG_TYPES:
            kind = adapters.types[name].oid
            if usual := adapters.get_loader(kind, Format.TEXT):
                cursor.adapters.register_loader(kind, usual)
        return cursor


class _PostgreSQL(_Guest, PGDialect_psycopg):
    supports_statement_cache = True
    execution_ctx_cls = _OwnCursors


class _Moment(DATETIME):
    """Django has sqlite3 make a datetime of what is declared as one; by itself it gives text."""

    def result_processor(self, dialect: Any, coltype: object) -> Callable[[Any], Any]:
        read: Any = super().result_processor(dialect, coltype)
        return lambda value: value if isinstance(value, datetime) else read(value)


class _SQLite(_Guest, SQLiteDialect_pysqlite):
    supports_statement_cache = True
    colspecs = {**SQLiteDialect_pysqlite.colspecs, DateTime: _Moment}  # noqa: RUF012


class _MySQL(_Guest, MySQLDialect_mysqldb):
    supports_statement_cache = True


class _PyMySQL(_Guest, MySQLDialect_pymysql):
    supports_statement_cache = True


# (Django's vendor, the package of the driver) → SQLAlchemy's name of the dialect.
_DIALECTS = {
    ("postgresql", "psycopg"): "postgresql+cutwork_django",
    ("sqlite", "sqlite3"): "sqlite+cutwork_django",
    ("mysql", "MySQLdb"): "mysql+cutwork_django",
    ("mysql", "pymysql"): "mysql+cutwork_django_pymysql",
}
registry.register("postgresql.cutwork_django", __name__, "_PostgreSQL")
registry.register("sqlite.cutwork_django", __name__, "_SQLite")
registry.register("mysql.cutwork_django", __name__, "_MySQL")
registry.register("mysql.cutwork_django_pymysql", __name__, "_PyMySQL")


@cache
def _engine(using: str, dialect: str) -> Engine:
    """Holds no connection: each that it gives is the one that Django has open at that moment."""
    made = create_engine(
        f"{dialect}://",
        creator=lambda: _connections()[using].connection,
        hide_parameters=True,
        poolclass=NullPool,
        pool_reset_on_return=None,
        **({"use_native_hstore": False} if dialect.startswith("postgresql") else {}),
    )

    @hooks.listens_for(made, "before_execute")
    @hooks.listens_for(made, "before_cursor_execute")  # text that goes to the driver as it is
    def check(tx: Connection, *_: Any) -> None:
        django = _connections()[using]
        _check_open(django, using)
        if tx.connection.driver_connection is not django.connection:
            rule = "must be of the transaction that is open now"
            raise InvalidInput("connection", using, rule, f"do not keep it: {_INSIDE}")

    return made


def _check_open(django: Any, using: str) -> None:
    if django.get_autocommit():
        raise InvalidInput("using", using, "must name a connection in a transaction", _INSIDE)


def _driver(django: Any) -> str:
    package = type(django.connection).__module__.partition(".")[0]
    found = _DIALECTS.get((django.vendor, package))
    if found is None:
        rule = "must be psycopg 3, sqlite3, mysqlclient or PyMySQL"
        raise InvalidInput("Django's driver", f"{django.vendor} with {package}", rule)
    return found


def _connections() -> Any:
    from django.db import connections

    return connections
