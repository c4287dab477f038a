"""What is asked all the time stays cheap: its plans, with many jobs finished and many scheduled.

The statements are taken from the wire, as the verbs send them, and explained with their values.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    NullPool,
    Table,
    create_engine,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy import event as hooks

from cutwork import backlog, budget, guard, lanes, ledger, notices, pace, schema, turns
from cutwork.clock import after
from cutwork.console import counting, keys, trends, troubles, walking
from cutwork.console.filtering import Filter, Meta
from cutwork.events import Kind
from cutwork.settings import Settings
from cutwork.states import ALARMED, AT_PROVIDER, DONE, Attempt, State
from tests.conftest import DATABASES
from tests.services.registry import Services
from tests.tables import job_values, tables_at
from tests.test_migrations import HOT

# A million rows take MariaDB half a minute.
pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.no_cover]

KEY = "0a1b2c3d"
CHEAP = HOT | {
    "ix_cutwork_notice_due_at",
    "PRIMARY",
    "pk_cutwork_job",
    "pk_cutwork_owner",
    "sqlite_autoindex_cutwork_job_1",
}
LATER = 3600
FINISHED, SCHEDULED, BACKLOG, FEW = 1_000_000, 5_000, 5_000, 30
# Attempts and events of a month, spread evenly.
ATTEMPTS, EVENTS, TOLD, MONTH = 200_000, 20_000, 50_000, 30 * 86_400
# In each, as seconds from now (None: no alarm): finished, for later, at work, and due.
CROWD: list[tuple[State, float | None, str | None, int]] = [
    (State.SUCCEEDED, None, None, FINISHED - 1000),
    (State.FAILED, None, None, 500),
    (State.CANCELLED, None, None, 500),
    (State.HELD, None, None, FEW),
    (State.QUEUED, LATER, None, SCHEDULED),
    (State.QUEUED, -5, None, BACKLOG),
    *[(state, -5, None, FEW) for state in sorted(ALARMED)],
    *[(state, 60, "worker", FEW) for state in sorted(AT_PROVIDER)],
    (State.QUEUED, 60, "message", FEW),
    (State.STORING, -1, "message", FEW),
]
SETTINGS = Settings()


def doubting(tx: Connection) -> object:
    made: Any = SimpleNamespace(job_id=UUID(int=1), number=1, task_id="task-1")
    return ledger.rows.claimants(tx, made, SETTINGS)


def guarding(tx: Connection) -> object:
    return guard.stops_second_tries(tx, replace(SETTINGS, guard_count=0))


ASKED: dict[str, Callable[[Connection], object]] = {
    "due": lanes.due,
    "busy": lanes.busy,
    "in_flight": lanes.in_flight,
    "standings": backlog.standings,
    "expiring": backlog.expiring,
    "wake": ledger.wake,
    "turns": lambda tx: turns.next_turns(tx, "owner 4", 5, 10),
    "submits": lambda tx: ledger.release_submits(tx, KEY, 10, 10),
    "lapsed submits": lambda tx: ledger.release_submits(tx, KEY, 1, 10, lapsed=True),
    "checks": lambda tx: ledger.release_checks(tx, KEY, 10, 10),
    "lapsed checks": lambda tx: ledger.release_checks(tx, KEY, 1, 10, lapsed=True),
    "stores": lambda tx: ledger.release_stores(tx, 10, 10),
    "lapsed stores": lambda tx: ledger.release_stores(tx, 1, 10, lapsed=True),
    "lapse": lambda tx: ledger.lapse(tx, SETTINGS),
    "settle": lambda tx: ledger.settle(tx, SETTINGS),
}


def found(**texts: str) -> Callable[[Connection], object]:
    """What the console asks for the jobs that fit a filter."""
    state = State(texts["state"]) if "state" in texts else None
    meta = Meta(("order",), "1", whole=True) if "meta" in texts else None
    then = datetime(2026, 1, 1, tzinfo=UTC) if "before" in texts else None
    wanted = Filter(texts, state=state, meta=meta, digits=texts.get("id", ""), before=then)
    return lambda tx: walking.find(tx, wanted)


# The console's pages, with what cannot be found among the million.
LOOKED_AT: dict[str, Callable[[Connection], object]] = {
    "counts": counting.count,
    "trends": trends.read,
    "troubles": troubles.read,
    "cause": lambda tx: troubles.page(tx, State.HELD, "none", 200),
    "all": found(),
    **{f"state {state}": found(state=state) for state in State},
    **{
        f"no {name}": found(**{name: "0123456789abcdef"})
        for name in ("key", "owner", "meta", "error", "id")
    },
    "more owners": keys.are_more,
    "a state's meta": found(state="succeeded", meta="1"),
    "an old state": found(state="queued", before="2026"),
}


@pytest.fixture(scope="module", params=DATABASES)
def crowded(request: pytest.FixtureRequest, services: Services) -> Iterator[Engine]:
    url = services.empty(request.param)
    with tables_at(url) as engine:
        # A million rows may take a busy server longer than any statement of cutwork's.
        filling = create_engine(url, poolclass=NullPool)
        with filling.begin() as tx:
            fill(tx)
        with filling.begin() as tx:
            tables = " TABLE cutwork_job, cutwork_attempt, cutwork_event, cutwork_notice"
            tx.execute(text("ANALYZE" + tables * (tx.dialect.name == "mysql")))
        yield engine


@pytest.fixture
def tx(crowded: Engine) -> Iterator[Connection]:
    """A transaction that comes to nothing."""
    with crowded.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def crowd(tx: Connection, table: Table, count: int, values: dict[str, Any], block: int = 0) -> None:
    """So many rows in one statement, told apart by ids that rise, as real ones do."""
    series, digits = {
        "postgresql": ("SELECT n FROM generate_series(1, {}) AS s(n)", "lpad(to_hex({}), 32, '0')"),
        "mysql": ("SELECT seq AS n FROM seq_1_to_{}", "lpad(hex({}), 32, '0')"),
        "sqlite": (
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {})"
            " SELECT n FROM s",
            "printf('%032x', {})",
        ),
    }[tx.dialect.name]
    cast = "::uuid" if tx.dialect.name == "postgresql" else ""
    rising = literal_column(digits.format(f"{block * 100_000_000} + n") + cast)
    given: dict[str, ColumnElement[Any]] = {
        name: value if isinstance(value, ColumnElement) else literal(value, table.c[name].type)
        for name, value in values.items()
        if value is not None
    }
    if table is not schema.event:
        given["job_id" if table is schema.attempt else "id"] = rising
    if table is schema.notice:
        given["job_id"] = rising
    rows = select(*given.values()).select_from(text(f"({series.format(count)}) AS numbers"))
    tx.execute(insert(table).from_select(list(given), rows, include_defaults=False))


def fill(tx: Connection) -> None:
    """The crowd, with an attempt for each of its first jobs."""
    if tx.dialect.name == "mysql":  # the first statement then builds each index by sorting
        tx.exec_driver_sql("SET SESSION unique_checks = 0, foreign_key_checks = 0")
    for block, (state, due, lease, count) in enumerate(CROWD):
        turn = block if state is State.QUEUED and due != LATER else None
        own = {"key_id": KEY, "owner": f"owner {block}", "turn": turn}
        crowd(tx, schema.job, count, job_values(state, due=due, lease=lease, **own), block)
    n = literal_column("n", Float)
    then = after(n * -literal_column(f"{MONTH}e0 / {ATTEMPTS}", Float))
    zero = dict.fromkeys(("checks", "callbacks", "relinks"), 0)
    made = {"number": 1, "state": Attempt.SUCCEEDED, "key_id": KEY, "fence": 1, "callback": True}
    times = {"intended_at": then, "accepted_at": then, "finished_at": then}
    crowd(tx, schema.attempt, ATTEMPTS, made | zero | times)
    for kind in Kind:
        crowd(tx, schema.event, EVENTS // len(Kind), {"kind": kind, "at": then})
    told = {"state": State.SUCCEEDED, "host": "shop.example", "tries": 1, "created_at": then}
    crowd(tx, schema.notice, TOLD, {**told, "told_at": then})
    for block, (due, lease) in enumerate([(-5, None), (LATER, None), (60, "worker")], 1):
        with_alarm = {**told, "due_at": after(due), "lease": lease}
        jobs_then = job_values(State.HELD, notify="https://shop.example/")
        crowd(tx, schema.job, FEW, jobs_then, 100 + block)
        crowd(tx, schema.notice, FEW, with_alarm, 100 + block)
    if tx.dialect.name == "mysql":
        tx.exec_driver_sql("SET SESSION unique_checks = 1, foreign_key_checks = 1")


def explain(
    tx: Connection, ask: Callable[[Connection], object], table: str = "cutwork_job"
) -> list[tuple[str, set[str]]]:
    """Each statement about ``table`` that ``ask`` sends, and its ``ways`` just before it runs."""
    plans: list[tuple[str, set[str]]] = []

    def look(statement: str, values: Any) -> None:
        if re.search(rf"(FROM|UPDATE) {table}\b", statement):
            plans.append((statement, ways(tx, statement, values, table)))

    watched(tx, ask, look)
    return plans


def rows_read(tx: Connection, ask: Callable[[Connection], object]) -> int:
    """How many rows or index entries the database looks at, as it says itself or is counted."""
    return {"postgresql": _read_postgresql, "mysql": _read_mysql, "sqlite": _read_sqlite}[
        tx.dialect.name
    ](tx, ask)


def _read_postgresql(tx: Connection, ask: Callable[[Connection], object]) -> int:
    total = 0.0

    def walk(node: dict[str, Any]) -> None:
        nonlocal total
        if "Scan" in node["Node Type"]:
            thrown = node.get("Rows Removed by Filter", 0) + node.get(
                "Rows Removed by Index Recheck", 0
            )
            total += (node["Actual Rows"] + thrown) * node["Actual Loops"]
        for inner in node.get("Plans", []):
            walk(inner)

    def analyse(statement: str, values: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            told = tx.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
            walk(told.scalar_one()[0]["Plan"])

    watched(tx, ask, analyse)
    return int(total)


def _read_mysql(tx: Connection, ask: Callable[[Connection], object]) -> int:
    def read() -> int:
        told = tx.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'")
        return sum(int(row[1]) for row in told)

    before = read()
    ask(tx)
    return read() - before


def _read_sqlite(tx: Connection, ask: Callable[[Connection], object]) -> int:
    """In steps of SQLite's own machine, of which a row takes a dozen at least."""
    driver: Any = tx.connection.driver_connection
    hundreds = 0

    def count() -> int:
        nonlocal hundreds
        hundreds += 1
        return 0

    driver.set_progress_handler(count, 100)
    try:
        ask(tx)
    finally:
        driver.set_progress_handler(None, 0)
    return hundreds * 100 // 12


def watched(
    tx: Connection, ask: Callable[[Connection], object], look: Callable[[str, Any], None]
) -> None:
    """Call ``look`` for each statement of ``ask``, just before it runs."""
    looking = False

    def note(_tx: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        nonlocal looking
        if not looking:
            looking = True
            look(statement, values)
            looking = False

    hooks.listen(tx.engine, "before_cursor_execute", note)
    try:
        ask(tx)
    finally:
        hooks.remove(tx.engine, "before_cursor_execute", note)


def _qmark(tx: Connection) -> bool:
    return tx.dialect.paramstyle == "qmark"


def ways(tx: Connection, statement: str, values: Any, table: str) -> set[str]:
    """How the database would find the rows: the indexes that it would use, and "everything"."""
    return {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}[tx.dialect.name](
        tx, statement, values, table
    )


def _postgresql(tx: Connection, statement: str, values: Any, table: str) -> set[str]:
    told = tx.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values).scalar_one()
    found: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        if "Index Name" in node:
            found.add(node["Index Name"])
        elif node.get("Relation Name") == table and node["Node Type"] == "Seq Scan":
            found.add("everything")
        for inner in node.get("Plans", []):
            walk(inner)

    walk(told[0]["Plan"])
    return found


def _mysql(tx: Connection, statement: str, values: Any, table: str) -> set[str]:
    rows = tx.exec_driver_sql(f"EXPLAIN {statement}", values).mappings()
    reads = [row for row in rows if row["table"] == table]
    return {row["key"] if row["type"] not in ("ALL", "index") else "everything" for row in reads}


def _sqlite(tx: Connection, statement: str, values: Any, table: str) -> set[str]:
    rows = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
    steps = [row[3] for row in rows if table in row[3]]
    named = (re.search(rf"SEARCH {table} USING (?:COVERING )?INDEX (\w+)", step) for step in steps)
    return {found[1] if found else "everything" for found in named}


def test_the_crowd_is_as_large_as_it_should_be(tx: Connection) -> None:
    over = schema.job.c.state.in_([state.value for state in DONE])
    counted = select(func.count()).select_from(schema.job).where(over)

    assert tx.execute(counted).scalar_one() == FINISHED


@pytest.mark.parametrize("name", ASKED)
def test_a_hot_statement_finds_its_jobs_by_an_index_of_unfinished_ones(
    tx: Connection, name: str
) -> None:
    plans = explain(tx, ASKED[name])

    assert plans
    for statement, found in plans:
        assert found, statement
        assert found <= CHEAP, statement


@pytest.mark.parametrize(
    ("ask", "table", "index"),
    [
        (budget.spent, "cutwork_attempt", "ix_cutwork_attempt_intended_at"),
        (lambda tx: pace.learn(tx, SETTINGS), "cutwork_attempt", "ix_cutwork_attempt_intended_at"),
        (guarding, "cutwork_attempt", "ix_cutwork_attempt_intended_at"),
        (doubting, "cutwork_attempt", "ix_cutwork_attempt_intended_at"),
        (guarding, "cutwork_event", "ix_cutwork_event_kind_at"),
        (lambda tx: budget.note(tx, SETTINGS), "cutwork_event", "ix_cutwork_event_kind_at"),
        (lambda tx: ledger.purgeable(tx, MONTH), "cutwork_job", "ix_cutwork_job_finished"),
        (
            lambda tx: ledger.purgeable(tx, MONTH, files="result", younger=2 * MONTH),
            "cutwork_job",
            "ix_cutwork_job_finished",
        ),
    ],
    ids=[
        "budget", "pace", "guard's submits", "other attempts", "guard's events", "budget's event",
        "purge", "purge of results",
    ],
)  # fmt: skip
def test_what_is_counted_of_late_is_found_by_its_time(
    tx: Connection, ask: Callable[[Connection], object], table: str, index: str
) -> None:
    plans = explain(tx, ask, table)

    # A purge also looks whether somebody is still to be told of each job.
    assert plans
    assert all(found - {"ix_cutwork_notice_job_id"} == {index} for _, found in plans), plans


def claim_notices(tx: Connection) -> object:
    return notices.claim(tx, notices.release(tx, SETTINGS), SETTINGS)


@pytest.mark.parametrize(
    "ask",
    [lanes.due, notices.busy, notices.count, claim_notices],
    ids=["due", "busy", "count", "claim"],
)
def test_notices_that_are_still_to_be_told_are_found_among_those_that_are(
    tx: Connection, ask: Callable[[Connection], object]
) -> None:
    plans = explain(tx, ask, "cutwork_notice")
    cheap = {"ix_cutwork_notice_due_at", "ix_cutwork_notice_lease", "PRIMARY", "pk_cutwork_notice"}

    assert plans
    for statement, found in plans:
        assert found <= cheap | {"sqlite_autoindex_cutwork_notice_1", *CHEAP}, statement


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("submits", "ix_cutwork_job_queue"),
        ("wake", "ix_cutwork_job_asleep"),
        ("turns", "ix_cutwork_job_queue"),
        ("busy", "ix_cutwork_job_lease"),
    ],
)
def test_an_index_of_its_own_is_used_where_there_is_one(
    tx: Connection, name: str, index: str
) -> None:
    (_, found), *_ = explain(tx, ASKED[name])

    assert index in found


@pytest.mark.parametrize("name", LOOKED_AT)
def test_no_page_of_the_console_looks_at_a_fifth_of_the_jobs(tx: Connection, name: str) -> None:
    assert rows_read(tx, LOOKED_AT[name]) < FINISHED / 5


def test_a_page_that_looked_at_all_jobs_would_be_noticed(tx: Connection) -> None:
    def count(tx: Connection) -> object:
        return tx.execute(select(func.count()).where(schema.job.c.tries > 0)).scalar_one()

    assert rows_read(tx, count) > FINISHED / 5


def test_a_statement_without_an_index_would_be_noticed(tx: Connection) -> None:
    slow = "SELECT id FROM cutwork_job WHERE owner LIKE '%%1' OR tries > 0"
    plans = explain(tx, lambda tx: tx.exec_driver_sql(slow, () if _qmark(tx) else {}))

    assert plans == [(slow, {"everything"})]
