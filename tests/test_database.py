"""Engines that wait, try again and reconnect when that is right, and only then."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from cutwork import database, schema
from cutwork.clock import now
from cutwork.database import transact
from cutwork.errors import DatabaseNotReady, InvalidSetting
from cutwork.migrations.upgrade import upgrade
from tests.services.waiting import run_until

PASSWORD = "p4ssword-of-the-app"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a database with one table of two counters."""
    made = database.engine(database_url)
    with made.begin() as tx:
        tx.execute(text("CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)"))
        tx.execute(text("INSERT INTO counter VALUES (1, 0), (2, 0)"))
    yield made
    made.dispose()


@pytest.fixture
def on(empty_database: Callable[[str], str]) -> Iterator[Callable[[str], Engine]]:
    """``on(kind)``: an engine on a database of one kind, with the same table."""
    engines: list[Engine] = []

    def make(kind: str) -> Engine:
        engines.append(database.engine(empty_database(kind)))
        with engines[0].begin() as tx:
            tx.execute(text("CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)"))
            tx.execute(text("INSERT INTO counter VALUES (1, 0), (2, 0)"))
        return engines[0]

    yield make
    for made in engines:
        made.dispose()


def counted(engine: Engine) -> list[int]:
    with database.read_only(engine).connect() as connection:
        return list(connection.execute(text("SELECT n FROM counter ORDER BY id")).scalars())


def add(tx: Connection, counter: int) -> None:
    tx.execute(text("UPDATE counter SET n = n + 1 WHERE id = :id"), {"id": counter})


# URLs


@pytest.mark.parametrize(
    ("url", "drivername"),
    [
        ("postgresql://app@db/app", "postgresql+psycopg"),
        ("postgresql+psycopg://app@db/app", "postgresql+psycopg"),
        ("postgres://app@db/app", "postgresql+psycopg"),
        ("postgresql+asyncpg://app@db/app", "postgresql+psycopg"),
        ("sqlite+aiosqlite:///app.db", "sqlite"),
        ("mysql://app@db/app", "mysql+pymysql"),
        ("mariadb://app@db/app", "mariadb+pymysql"),
        ("mysql+pymysql://app@db/app", "mysql+pymysql"),
        ("sqlite://", "sqlite"),
    ],
)
def test_a_url_without_a_driver_gets_ours(url: str, drivername: str) -> None:
    assert database.engine(url).url.drivername == drivername


@pytest.mark.parametrize(
    "url",
    [
        "", "app.db", "://", f"postgresql:/{PASSWORD}@db", f"postgresql://app:{PASSWORD}@db:port/app",
        f"oracle://app:{PASSWORD}@db/app",
        f"postgresql+psycopg2://app:{PASSWORD}@db/app", f"mysql+nothing://app:{PASSWORD}@db/app",
        f"sqlite+nothing:///{PASSWORD}.db",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_a_wrong_setting_that_shows_no_password(url: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^CUTWORK_DATABASE_URL ") as caught:
        database.engine(url)

    assert PASSWORD not in f"{caught.value} {vars(caught.value)}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("postgresql+psycopg2://db/app", "pip install 'cutwork[postgresql]'"),
        ("mysql+mysqldb://db/app", "pip install 'cutwork[mysql]'"),
        ("sqlite+pysqlcipher:///app.db", "begin it with sqlite://"),
    ],
)
def test_a_driver_that_is_not_there_has_a_remedy(url: str, remedy: str) -> None:
    with pytest.raises(InvalidSetting, match="needs a driver that is not installed") as caught:
        database.engine(url)

    assert caught.value.remedy == remedy


def test_an_engine_connects_only_when_it_is_used() -> None:
    database.engine("postgresql://nobody@127.0.0.1:1/nothing").dispose()


def test_the_directory_of_a_sqlite_file_is_made(tmp_path: Path) -> None:
    made = database.engine(f"sqlite:///{tmp_path / 'a' / 'b' / 'c.db'}")
    with made.begin() as tx:
        tx.execute(text("CREATE TABLE t (id INTEGER)"))
    made.dispose()

    assert (tmp_path / "a" / "b" / "c.db").stat().st_size > 0


def test_transactions_are_read_committed_or_better(engine: Engine) -> None:
    with engine.connect() as connection:
        expected = "SERIALIZABLE" if engine.dialect.name == "sqlite" else "READ COMMITTED"
        assert connection.get_isolation_level() == expected


def test_a_sqlite_commit_survives_a_power_cut(on: Callable[[str], Engine]) -> None:
    with on("sqlite").connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        told = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]

    assert told == ["wal", 2, 1]


# Writers


def test_writers_that_read_first_wait_for_each_other(engine: Engine) -> None:
    def read_then_write(tx: Connection) -> None:
        lock = "" if engine.dialect.name == "sqlite" else " FOR UPDATE"
        n = tx.execute(text(f"SELECT n FROM counter WHERE id = 1{lock}")).scalar_one()
        tx.execute(text("UPDATE counter SET n = :n WHERE id = 1"), {"n": n + 1})

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(transact, engine, read_then_write) for _ in range(40)]:
            done.result()

    assert counted(engine) == [40, 0]


def test_a_sqlite_writer_waits_before_it_reads(on: Callable[[str], Engine]) -> None:
    engine = on("sqlite")
    seen: list[int] = []

    def second() -> None:
        with engine.begin() as tx:
            seen.append(tx.execute(text("SELECT n FROM counter WHERE id = 1")).scalar_one())
            add(tx, 1)

    with engine.begin() as tx:
        add(tx, 1)
        thread = threading.Thread(target=second)
        thread.start()
        # It has a connection of its own, and stands before its first statement.
        run_until(lambda: engine.pool.checkedout() == 2)  # type: ignore[attr-defined]
        assert seen == []
    thread.join()

    assert seen == [1]
    assert counted(engine) == [2, 0]


def test_a_reader_does_not_wait_for_a_writer(engine: Engine) -> None:
    with engine.begin() as tx:
        add(tx, 1)
        assert counted(engine) == [0, 0]
    assert counted(engine) == [1, 0]


def test_a_reader_leaves_no_transaction_open(engine: Engine) -> None:
    with database.read_only(engine).connect() as connection:
        assert connection.execute(text("SELECT n FROM counter")).scalars().first() == 0
        if engine.dialect.name != "sqlite":
            with engine.begin() as tx:
                add(tx, 1)
            assert connection.execute(text("SELECT n FROM counter WHERE id = 1")).scalar() == 1


# Contention


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_deadlock_is_tried_again_until_both_have_written(
    on: Callable[[str], Engine], kind: str
) -> None:
    engine = on(kind)
    embraced = threading.Barrier(2)
    tries: list[int] = []

    def cross(tx: Connection, first: int, second: int) -> int:
        tries.append(first)
        add(tx, first)
        if tries.count(first) == 1:
            embraced.wait(10)  # each has its first row now, and wants the other's
        add(tx, second)
        return first

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(transact, engine, cross, one, 3 - one) for one in (1, 2)]
        assert [each.result() for each in done] == [1, 2]

    assert counted(engine) == [2, 2]
    assert len(tries) >= 3


def test_a_lock_that_cannot_be_had_is_tried_again_and_then_given_up(engine: Engine) -> None:
    tries: list[int] = []

    def grab(tx: Connection) -> None:
        tries.append(1)
        tx.execute(text("SELECT n FROM counter WHERE id = 1 FOR UPDATE NOWAIT"))

    def write(tx: Connection) -> None:
        tries.append(1)
        tx.execute(text("UPDATE counter SET n = 9 WHERE id = 1"))

    impatient = create_engine(engine.url, connect_args={"timeout": 0})
    sqlite = engine.dialect.name == "sqlite"
    with engine.begin() as tx:
        add(tx, 1)
        with pytest.raises(DBAPIError) as caught:
            transact(impatient if sqlite else engine, write if sqlite else grab)
    impatient.dispose()

    assert database.is_contention(caught.value)
    assert len(tries) == 5
    assert counted(engine) == [1, 0]


def test_a_serialization_failure_is_contention(on: Callable[[str], Engine]) -> None:
    engine = on("postgresql")
    strict = engine.execution_options(isolation_level="REPEATABLE READ")
    with strict.connect() as late:
        late.execute(text("SELECT n FROM counter")).all()
        with engine.begin() as tx:
            add(tx, 1)
        with pytest.raises(OperationalError) as caught:
            add(late, 1)

    assert database.is_contention(caught.value)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO counter VALUES (1, 7)", IntegrityError),
        ("INSERT INTO counter (id, n) VALUES (3, NULL)", IntegrityError),
        ("SELECT n FROM nowhere", DBAPIError),
        ("SELEKT", DBAPIError),
    ],
)
def test_an_error_that_would_come_again_is_raised_at_once(
    engine: Engine, statement: str, error: type[Exception]
) -> None:
    tries: list[int] = []

    def verb(tx: Connection) -> None:
        tries.append(1)
        add(tx, 1)
        tx.execute(text(statement))

    with pytest.raises(error):
        transact(engine, verb)

    assert tries == [1]
    assert counted(engine) == [0, 0]


def test_an_error_that_is_not_the_databases_rolls_back_and_passes(engine: Engine) -> None:
    def verb(tx: Connection) -> None:
        add(tx, 1)
        raise LookupError("nobody")

    with pytest.raises(LookupError, match="nobody"):
        transact(engine, verb)

    assert counted(engine) == [0, 0]


def test_a_verb_gets_its_arguments_and_its_value_comes_back(engine: Engine) -> None:
    def verb(tx: Connection, one: int, *, two: str) -> tuple[int, str]:
        add(tx, one)
        return one, two

    assert transact(engine, verb, 2, two="x") == (2, "x")
    assert counted(engine) == [0, 1]


# Connections that died


def current_connection(engine: Engine) -> int:
    number = {
        "postgresql": "SELECT pg_backend_pid()",
        "mysql": "SELECT CONNECTION_ID()",
    }[engine.dialect.name]
    with engine.connect() as connection:
        return int(connection.execute(text(number)).scalar_one())


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
@pytest.mark.parametrize("way", [lambda engine: engine, database.read_only])
def test_a_connection_that_the_server_dropped_is_replaced_unnoticed(
    on: Callable[[str], Engine],
    kind: str,
    way: Callable[[Engine], Engine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = on(kind)
    dropped = current_connection(engine)
    monkeypatch.setattr(database, "_SURELY_ALIVE", 0.0)  # it idled for a while
    kill = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
    killer = database.engine(engine.url.render_as_string(hide_password=False))
    with killer.begin() as tx:
        tx.execute(text(kill[engine.dialect.name].format(dropped)))
    killer.dispose()

    with way(engine).connect() as connection:
        assert connection.execute(text("SELECT n FROM counter WHERE id = 1")).scalar() == 0
    assert current_connection(engine) != dropped


def test_a_connection_that_breaks_at_commit_is_the_callers_trouble(
    on: Callable[[str], Engine],
) -> None:
    engine = on("postgresql")
    killer = database.engine(engine.url.render_as_string(hide_password=False))
    tries: list[int] = []

    def verb(tx: Connection) -> None:
        tries.append(1)
        add(tx, 1)
        number = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with killer.begin() as other:
            other.execute(text("SELECT pg_terminate_backend(:number)"), {"number": number})

    with pytest.raises(OperationalError):
        transact(engine, verb)
    killer.dispose()

    assert tries == [1]


@pytest.mark.parametrize(
    ("kind", "demoted"),
    [
        ("postgresql", "SET default_transaction_read_only = on"),
        ("mariadb", "SET @role = 'read-only'"),
    ],
)
def test_a_session_on_a_server_that_was_demoted_is_given_up_after_one_error(
    on: Callable[[str], Engine], kind: str, demoted: str
) -> None:
    engine = on(kind)
    stuck = current_connection(engine)
    with engine.begin() as tx:  # it goes back to the pool, and only reads from now on
        tx.exec_driver_sql(demoted)

    def write(tx: Connection) -> None:
        if kind == "mariadb" and tx.exec_driver_sql("SELECT @role").scalar():
            tx.exec_driver_sql("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290")
        add(tx, 1)

    with pytest.raises(DBAPIError) as refused:
        transact(engine, write)
    assert refused.value.connection_invalidated
    transact(engine, write)
    assert sum(counted(engine)) == 1
    assert current_connection(engine) != stuck


# Tables


def test_missing_tables_are_recognised(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as caught, engine.begin() as tx:
        tx.execute(select(schema.job.c.id))

    assert database.is_missing_table(caught.value)


@pytest.mark.parametrize(
    "statement", ["SELECT nothing FROM counter", "INSERT INTO counter VALUES (1, 1)"]
)
def test_another_error_is_no_missing_table(engine: Engine, statement: str) -> None:
    with pytest.raises(DBAPIError) as caught, engine.begin() as tx:
        tx.execute(text(statement))

    assert not database.is_missing_table(caught.value)
    assert not database.is_contention(caught.value)


def test_a_database_without_our_tables_is_not_ready(engine: Engine) -> None:
    with pytest.raises(DatabaseNotReady) as caught:
        database.ensure_ready(engine)

    assert (caught.value.found, caught.value.wanted) == (None, schema.REVISION)


@pytest.mark.parametrize("found", ["0000", "9999", None])
def test_a_database_of_another_revision_is_not_ready(engine: Engine, found: str | None) -> None:
    upgrade(engine)
    database.ensure_ready(engine)
    with engine.begin() as tx:
        tx.execute(text(f"DELETE FROM {schema.VERSION_TABLE}"))
        if found:
            statement = f"INSERT INTO {schema.VERSION_TABLE} VALUES (:found)"
            tx.execute(text(statement), {"found": found})

    with pytest.raises(DatabaseNotReady) as caught:
        database.ensure_ready(engine)

    assert caught.value.found == found


def test_foreign_keys_hold(engine: Engine) -> None:
    upgrade(engine)
    stray = {"at": now(), "kind": "held", "job_id": uuid4()}

    with pytest.raises(IntegrityError), engine.begin() as tx:
        tx.execute(insert(schema.event).values(stray))


@pytest.mark.parametrize(
    ("kind", "ask"),
    [
        ("postgresql", "SELECT setting FROM pg_settings WHERE name LIKE 'idle_in_transaction%'"),
        ("mariadb", "SELECT @@SESSION.idle_transaction_timeout * 1000"),
    ],
)
def test_a_process_that_stands_still_in_a_transaction_is_cut_off_by_the_server(
    kind: str, ask: str, empty_database: Callable[[str], str]
) -> None:
    made = database.engine(empty_database(kind))
    for _ in range(2):  # the second time from the pool
        with made.connect() as tx:
            assert str(tx.exec_driver_sql(ask.replace("%", "%%")).scalar_one()) == "20000"
    made.dispose()
