"""The database's clock, in SQL, for every dialect; hosts are never asked what time it is.

Times are columns of type ``Time``: ``timestamptz`` on PostgreSQL, ``DATETIME(6)`` in UTC on MariaDB
and MySQL, ISO text in UTC on SQLite; in Python always an aware ``datetime`` in UTC. ``now()`` and
``after(seconds)`` are constant within a statement, so an index on a time is used.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Float, literal
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class Time(TypeDecorator[datetime]):
    """A moment, in UTC, to the microsecond."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time needs a time zone, got {value!r}")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _Moment(FunctionElement[datetime]):
    type = Time()
    inherit_cache = True
    name = "moment"


def now() -> ColumnElement[datetime]:
    """The moment at which the statement began."""
    return _Moment()  # with a parameter it would cost more, and it is in nearly all statements


def after(seconds: float | ColumnElement[float]) -> ColumnElement[datetime]:
    """So many seconds after (negative: before) the statement began."""
    return _Moment(literal(float(seconds), Float) if isinstance(seconds, int | float) else seconds)


@compiles(_Moment, "postgresql")
def _postgresql(moment: _Moment, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(moment.clauses, **options)
    if not seconds:
        return "statement_timestamp()"
    return f"(statement_timestamp() + make_interval(secs => {seconds}))"


@compiles(_Moment, "mysql")
@compiles(_Moment, "mariadb")
def _mysql(moment: _Moment, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(moment.clauses, **options)
    if not seconds:
        return "UTC_TIMESTAMP(6)"
    return f"(UTC_TIMESTAMP(6) + INTERVAL ({seconds}) * 1000000 MICROSECOND)"


@compiles(_Moment, "sqlite")
def _sqlite(moment: _Moment, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(moment.clauses, **options) or "0"
    # SQLite's clock has milliseconds; three more digits make the text what SQLAlchemy writes.
    modifier = f"printf('%+.3f seconds', {seconds})"
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {modifier})"
