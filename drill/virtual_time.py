"""The database's clock, in a drill's hands: the program asks the database, and that is fooled.

SQLite gets another ``strftime``, PostgreSQL another ``statement_timestamp`` in front of its own.
The program has no switch for it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy import event as hooks

START = datetime(2030, 1, 1, tzinfo=UTC)

_POSTGRESQL = """
CREATE SCHEMA IF NOT EXISTS fake_time;
CREATE OR REPLACE FUNCTION fake_time.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('fake.now')::timestamptz $$;
"""


@dataclass
class VirtualTime:
    """Install it before the first statement; ``advance`` is the only thing that moves it."""

    engine: Engine
    now: datetime = START

    def __post_init__(self) -> None:
        match self.engine.dialect.name:
            case "sqlite":
                hooks.listen(self.engine, "connect", self._fool_sqlite)
            case "postgresql":
                with self.engine.begin() as tx:
                    tx.execute(text(_POSTGRESQL))
                hooks.listen(self.engine, "connect", self._fool_postgresql)
                hooks.listen(self.engine, "begin", self._tell_postgresql)
            case other:
                raise NotImplementedError(other)
        self.engine.dispose()

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def _fool_sqlite(self, connection: Any, _record: object) -> None:
        # Constant within a statement, as SQLite's own is: an index is used.
        connection.create_function("strftime", 3, self._strftime, deterministic=True)
        connection.execute("PRAGMA synchronous=OFF")  # nobody pulls the plug of a drill

    def _strftime(self, _format: str, _now: str, modifier: str) -> str:
        moment = self.now + timedelta(seconds=float(modifier.removesuffix(" seconds")))
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")

    def _fool_postgresql(self, connection: Any, _record: object) -> None:
        connection.execute("SET search_path = fake_time, pg_catalog, public")
        connection.execute("SET synchronous_commit = off")
        connection.commit()

    def _tell_postgresql(self, connection: Connection) -> None:
        said = {"now": self.now.isoformat()}
        connection.execute(text("SELECT set_config('fake.now', :now, false)"), said)
