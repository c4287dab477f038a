"""How Alembic reaches the database: one migration at a time, and never long in anybody's way."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import Connection, make_url, text

from cutwork import database, schema
from cutwork.errors import CutworkError
from cutwork.settings import current

# One number for the lock of cutwork's migrations; any constant does that the app does not use too.
_LOCK = 7_235_041_118
_LOCK_TIMEOUT = "5s"


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Hold the migrations' own lock, and fail rather than queue behind a long transaction.

    A DDL statement that waits for a table lock makes every later reader wait behind it.
    """
    match connection.dialect.name:
        case "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
            yield
        case "sqlite":
            yield  # BEGIN IMMEDIATE is the lock
        case _:
            if connection.scalar(text(f"SELECT GET_LOCK('cutwork.{_LOCK}', 60)")) != 1:
                raise CutworkError("another upgrade is running: wait until it is over")
            connection.execute(text("SET SESSION lock_wait_timeout = 5"))
            try:
                yield
                # DDL commits itself, the row with the new revision does not; whoever is next
                # must see it.
                connection.execute(text("COMMIT"))
            finally:
                connection.execute(text("SET SESSION lock_wait_timeout = DEFAULT"))
                connection.execute(text(f"SELECT RELEASE_LOCK('cutwork.{_LOCK}')"))


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    """The app's own tables stand in the same database and are none of our business."""
    return kind != "table" or (name or "").startswith("cutwork_")


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=schema.metadata,
        version_table=schema.VERSION_TABLE,
        include_name=_ours,  # type: ignore[arg-type, unused-ignore]
        compare_type=True,
        transaction_per_migration=False,
    )
    with _alone(connection), context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(
        dialect_name=make_url(current().database).get_backend_name(),
        target_metadata=schema.metadata,
        version_table=schema.VERSION_TABLE,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    _migrate(given)
else:
    with database.engine(current().database).begin() as connection:
        _migrate(connection)
