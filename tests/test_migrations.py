"""The tables as the migrations make, keep and drop them."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy import event as hooks

from cutwork import database, schema
from cutwork.migrations.upgrade import differences, downgrade, upgrade
from cutwork.states import DONE, RESTING, State
from tests.services.processes import Processes
from tests.tables import add_job

ROOT = Path(__file__).parent.parent
OURS = {table.name for table in schema.metadata.sorted_tables} | {schema.VERSION_TABLE}
# What the reconciler asks every few milliseconds, however many jobs are finished.
HOT = {"ix_cutwork_job_queue", "ix_cutwork_job_alarm", "ix_cutwork_job_store"} | {
    "ix_cutwork_job_lease",
    "ix_cutwork_job_turn",
    "ix_cutwork_job_asleep",
}


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = database.engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def on(empty_database: Callable[[str], str]) -> Iterator[Callable[[str], Engine]]:
    """``on(kind)``: an engine on a database of one kind, with the newest tables."""
    engines: list[Engine] = []

    def make(kind: str) -> Engine:
        engines.append(database.engine(empty_database(kind)))
        upgrade(engines[-1])
        return engines[-1]

    yield make
    for made in engines:
        made.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_the_newest_migration_is_the_one_this_program_needs() -> None:
    scripts = ScriptDirectory(str(ROOT / "migrations"))

    assert scripts.get_heads() == [schema.REVISION]


def test_an_empty_database_gets_every_table(engine: Engine) -> None:
    assert database.revision(engine) is None

    upgrade(engine)

    assert tables(engine) == OURS
    assert database.revision(engine) == schema.REVISION
    database.ensure_ready(engine)


def test_the_tables_are_those_of_the_models(engine: Engine) -> None:
    upgrade(engine)

    assert differences(engine) == []


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX ix_cutwork_job_alarm{on}",
        "ALTER TABLE cutwork_job ADD COLUMN extra INTEGER",
        "CREATE TABLE cutwork_extra (id INTEGER PRIMARY KEY)",
    ],
)
def test_a_difference_is_found(engine: Engine, change: str) -> None:
    upgrade(engine)
    on = " ON cutwork_job" if engine.dialect.name in ("mysql", "mariadb") else ""
    with engine.begin() as tx:
        tx.execute(text(change.format(on=on)))

    assert differences(engine)


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    upgrade(engine)
    with engine.begin() as tx:
        add_job(tx, State.QUEUED, due=0)
    upgrade(engine)

    assert differences(engine) == []
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM cutwork_job")) == 1


def test_going_back_to_the_base_leaves_nothing_of_ours(engine: Engine) -> None:
    upgrade(engine)
    downgrade(engine, "base")
    assert tables(engine) == set()
    assert database.revision(engine) is None

    upgrade(engine)
    assert differences(engine) == []


def test_the_apps_own_tables_are_left_alone(engine: Engine) -> None:
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY, job_id VARCHAR(36))"))
        tx.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        tx.execute(text("INSERT INTO orders VALUES (1, 'a')"))
        tx.execute(text("INSERT INTO alembic_version VALUES ('the apps own')"))

    upgrade(engine)
    assert differences(engine) == []
    downgrade(engine, "base")

    assert tables(engine) == {"orders", "alembic_version"}
    with engine.connect() as connection:
        assert connection.execute(text("SELECT * FROM orders")).all() == [(1, "a")]
        version = connection.execute(text("SELECT version_num FROM alembic_version"))
        assert version.scalar_one() == "the apps own"


UPGRADE = """
import sys, time
from pathlib import Path
from cutwork import database
from cutwork.migrations.upgrade import upgrade

engine = database.engine(sys.argv[1])
engine.connect().close()
print("ready", flush=True)
while not Path("go").exists():
    time.sleep(0.001)
upgrade(engine)
database.ensure_ready(engine)
"""


def test_several_machines_may_upgrade_at_the_same_moment(
    engine: Engine, processes: Processes, tmp_path: Path
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    started = [processes.start("python", "-c", UPGRADE, url) for _ in range(2)]
    for each in started:
        each.wait_for_log("ready", 30)

    (tmp_path / "go").touch()

    assert [(each.wait(30), each.log) for each in started] == [(0, "ready\n")] * 2
    assert differences(engine) == []


def test_whoever_waited_for_the_lock_sees_what_was_done_under_it(
    empty_database: Callable[[str], str],
) -> None:
    url = empty_database("mariadb")
    engine, observer = database.engine(url), database.engine(url)
    seen: list[str | None] = []

    @hooks.listens_for(engine, "before_cursor_execute")
    def look(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "RELEASE_LOCK" in statement:
            seen.append(database.revision(observer))

    upgrade(engine)
    engine.dispose()
    observer.dispose()

    assert seen == [schema.REVISION]


def lock_settings(connection: Connection) -> list[object]:
    asked = {
        "postgresql": "SHOW lock_timeout",
        "mysql": "SELECT @@lock_wait_timeout",
        "sqlite": "PRAGMA busy_timeout",
    }[connection.dialect.name]
    return [connection.exec_driver_sql(asked).scalar()]


def test_an_upgrade_leaves_its_connection_as_it_was(engine: Engine) -> None:
    with engine.connect() as connection:
        before = lock_settings(connection)
    upgrade(engine)
    with engine.connect() as connection:
        assert lock_settings(connection) == before


def test_alembic_works_from_the_checkout(
    empty_database: Callable[[str], str], processes: Processes
) -> None:
    url = empty_database("sqlite")
    assert "alembic" in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]

    for command in (["upgrade", "head"], ["check"]):
        run = processes.start("alembic", *command, cwd=ROOT, env={"CUTWORK_DATABASE_URL": url})
        assert run.wait(30) == 0, run.log

    assert "No new upgrade operations detected" in run.log


def test_the_tables_can_be_printed_as_sql_for_the_database_that_is_set(
    processes: Processes,
) -> None:
    arguments = ["alembic", "upgrade", "head", "--sql"]
    written = processes.start(*arguments, cwd=ROOT, env={"CUTWORK_DATABASE_URL": "mysql://"})

    assert written.wait(30) == 0, written.log
    assert "CREATE TABLE cutwork_job" in written.log
    assert "COLLATE utf8mb4_bin" in written.log


def predicates(engine: Engine) -> dict[str, str]:
    """The WHERE of each partial index of the jobs, by its name."""
    query = {
        "postgresql": "SELECT c.relname, pg_get_expr(i.indpred, i.indrelid) FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 'cutwork_job'::regclass"
        " AND i.indpred IS NOT NULL",
        "sqlite": "SELECT name, substr(sql, instr(sql, ' WHERE ') + 7) FROM sqlite_master"
        " WHERE type = 'index' AND tbl_name = 'cutwork_job' AND sql LIKE '% WHERE %'",
    }[engine.dialect.name]
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(text(query))}


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_a_finished_job_is_in_no_index_that_is_asked_all_the_time(
    on: Callable[[str], Engine], kind: str
) -> None:
    engine = on(kind)
    with engine.begin() as tx:
        for state in DONE | RESTING:
            add_job(tx, state)
        add_job(tx, State.QUEUED, due=0, lease="message", turn=1)
        add_job(tx, State.QUEUED, due=0, lease="message")

    where = predicates(engine)

    others = {"uq_cutwork_job_key", "ix_cutwork_job_over", "ix_cutwork_job_finished"}
    assert where.keys() == HOT | others
    with engine.connect() as connection:
        held = {
            name: set(
                connection.scalars(text(f"SELECT state FROM cutwork_job WHERE {where[name]}"))
            )
            for name in HOT
        }
    assert held == {name: {"queued"} for name in HOT} | {"ix_cutwork_job_store": set()}
