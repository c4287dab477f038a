"""The database's clock, compared with what the database itself says in the same statement."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Float,
    Integer,
    MetaData,
    Table,
    func,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.exc import StatementError

from cutwork import database
from cutwork.clock import Time, after, now

moments = Table(
    "moments",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("at", Time, index=True),
    Column("seconds", Float),
)
CLOCK = {
    "postgresql": "statement_timestamp()",
    "mysql": "UTC_TIMESTAMP(6)",
    "mariadb": "UTC_TIMESTAMP(6)",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
}
# PostgreSQL and MariaDB count microseconds, SQLite milliseconds.
TICK = {"sqlite": 1e-3}
THEN = datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=UTC)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = database.engine(database_url)
    moments.metadata.create_all(made)
    yield made
    made.dispose()


def ask(engine: Engine, *columns: Any) -> list[Any]:
    """One row of a statement that reads the database's own clock too; the clock comes first."""
    clock: Any = literal_column(CLOCK[engine.dialect.name]).label("clock")
    with engine.connect() as connection:
        told, *rest = connection.execute(select(clock, *columns)).one()
    told = datetime.fromisoformat(told) if isinstance(told, str) else told
    return [told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC), *rest]


def test_now_is_what_the_database_says(engine: Engine) -> None:
    clock, ours = ask(engine, now())

    assert ours == clock
    assert ours.tzinfo is UTC
    assert abs(ours - datetime.now(UTC)) < timedelta(minutes=1)  # the tests' own machine


FAR_AND_NEAR = [
    0, 1, -1, 0.5, 0.001, 0.0015, 0.000001, -0.000001, 1.000001, 59.999999, -86400.25, 2592000,
    -2592000.123456, 1e9, 123456789.654321, -1e9, 0.1 + 0.2, 1e-12, 1e-300,
]  # fmt: skip


def test_after_is_so_many_seconds_from_now(engine: Engine) -> None:
    clock, *ours = ask(engine, *(after(seconds) for seconds in FAR_AND_NEAR))

    tick = TICK.get(engine.dialect.name, 1e-6)
    ahead = [(moment - clock).total_seconds() for moment in ours]
    assert ahead == pytest.approx(FAR_AND_NEAR, rel=0, abs=tick)


def test_the_seconds_may_stand_in_a_column(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(moments), [{"seconds": 90.5}, {"seconds": -3}])
        rows = connection.execute(select(after(moments.c.seconds), now()).order_by(moments.c.id))
        ahead = [(moment - clock).total_seconds() for moment, clock in rows]

    # SQLite sorts first and reads the clock of the second column row by row, a moment later.
    slack = 0.1 if engine.dialect.name == "sqlite" else 1e-6
    assert ahead == pytest.approx([90.5, -3.0], rel=0, abs=slack)


def test_the_clock_stands_still_within_a_statement(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(moments), [{"seconds": 0.0}] * 2000)
        span = select(func.count(func.distinct(now())), func.count()).select_from(moments)
        assert connection.execute(span).one() == (1, 2000)


def test_the_clock_goes_on_within_a_transaction(engine: Engine) -> None:
    with engine.begin() as connection:
        first = connection.execute(select(now())).scalar_one()
        later = first
        for _ in range(1000):
            later = connection.execute(select(now())).scalar_one()
            if later > first:
                break
        assert later > first


ZONES = {
    "postgresql": "SET TIME ZONE 'Asia/Kathmandu'",
    "mysql": "SET time_zone = '+05:45'",
    "mariadb": "SET time_zone = '+05:45'",
    "sqlite": "SELECT 1",
}


def test_the_zone_of_a_session_changes_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(ZONES[engine.dialect.name]))
        connection.execute(insert(moments), [{"at": THEN}])
        connection.execute(insert(moments).values(at=now()))
        stored, current = connection.execute(select(moments.c.at).order_by(moments.c.id)).scalars()

    assert stored == THEN
    assert abs(current - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "moment",
    [
        THEN,
        THEN.replace(microsecond=0),
        THEN.replace(microsecond=1),
        THEN.astimezone(timezone(timedelta(hours=14))),
        THEN.astimezone(timezone(-timedelta(hours=9, minutes=30))),
        datetime(2000, 2, 29, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        None,
    ],
)
def test_a_moment_comes_back_as_it_went_in(engine: Engine, moment: datetime | None) -> None:
    with engine.begin() as connection:
        connection.execute(insert(moments), [{"at": moment}])
        found = connection.execute(select(moments.c.at)).scalar_one()

        assert found == moment
        assert found is None or found.tzinfo is UTC
        same = select(func.count()).where(moments.c.at == moment)
        assert connection.scalar(same) == 1


def test_a_moment_without_a_zone_is_refused(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(StatementError, match="needs a time zone"):
        connection.execute(insert(moments), [{"at": datetime(2026, 1, 1)}])  # noqa: DTZ001


def test_what_the_clock_wrote_and_what_python_wrote_compare_alike(engine: Engine) -> None:
    with engine.begin() as connection:
        current = connection.execute(select(now())).scalar_one()
        near = [current + timedelta(seconds=seconds) for seconds in (-60, 60)]
        connection.execute(insert(moments), [{"at": moment} for moment in near])
        connection.execute(insert(moments).values(at=after(-30)))
        connection.execute(insert(moments).values(at=after(30)))

        past = select(moments.c.at).where(moments.c.at <= now()).order_by(moments.c.at)
        coming = select(moments.c.at).where(moments.c.at > now()).order_by(moments.c.at)
        ago = [(moment - current).total_seconds() for moment in connection.scalars(past)]
        ahead = [(moment - current).total_seconds() for moment in connection.scalars(coming)]

    assert ago == [-60, pytest.approx(-30, abs=5)]
    assert ahead == [pytest.approx(30, abs=5), 60]


def test_a_comparison_with_the_clock_uses_the_index(engine: Engine) -> None:
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    analyze = "ANALYZE TABLE moments" if engine.dialect.name in ("mysql", "mariadb") else "ANALYZE"
    query = select(moments.c.seconds).where(moments.c.at <= after(-1.5))
    with engine.begin() as connection:
        hours = [{"at": datetime.now(UTC) + timedelta(hours=hour)} for hour in range(-10, 4000)]
        connection.execute(insert(moments), hours)
        connection.execute(text(analyze))
        compiled = query.compile(engine, compile_kwargs={"render_postcompile": True})
        plan = connection.exec_driver_sql(f"{explain} {compiled}", _bound(compiled)).all()

    assert "ix_moments_at" in str(plan)


def _bound(compiled: Any) -> Any:
    """The values of a compiled statement in the form that its driver takes."""
    if compiled.positiontup is None:
        return compiled.params
    return tuple(compiled.params[name] for name in compiled.positiontup)
