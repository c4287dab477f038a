"""What is asked all the time stays cheap: its plans, with many jobs finished and many scheduled.

The statements are taken from the wire, as the verbs send them, and explained with their values.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

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

from cutwork import budget, guard, lanes, ledger, pace, schema, turns
from cutwork.clock import after
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
CHEAP = HOT | {"PRIMARY", "pk_cutwork_job", "sqlite_autoindex_cutwork_job_1"}
LATER = 3600
FINISHED, SCHEDULED, BACKLOG, FEW = 1_000_000, 5_000, 5_000, 30
# Attempts and events of a month, spread evenly.
ATTEMPTS, EVENTS, MONTH = 200_000, 20_000, 30 * 86_400
# In each, as seconds from now (None: no alarm): finished, for later, at work, and due.
CROWD: list[tuple[State, float | None, str | None, int]] = [
    (State.SUCCEEDED, None, None, FINISHED - 1000),
    (State.FAILED, None, None, 500),
    (State.CANCELLED, None, None, 500),
    (State.QUEUED, LATER, None, SCHEDULED),
    (State.QUEUED, -5, None, BACKLOG),
    *[(state, -5, None, FEW) for state in sorted(ALARMED)],
    *[(state, 60, "worker", FEW) for state in sorted(AT_PROVIDER)],
    (State.QUEUED, 60, "message", FEW),
    (State.STORING, -1, "message", FEW),
]
SETTINGS = Settings()


def guarding(tx: Connection) -> object:
    return guard.stops_second_tries(tx, replace(SETTINGS, guard_count=0))


ASKED: dict[str, Callable[[Connection], object]] = {
    "due": lanes.due,
    "busy": lanes.busy,
    "in_flight": lanes.in_flight,
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


@pytest.fixture(scope="module", params=DATABASES)
def crowded(request: pytest.FixtureRequest, services: Services) -> Iterator[Engine]:
    url = services.empty(request.param)
    with tables_at(url) as engine:
        # A million rows may take a busy server longer than any statement of cutwork's.
        filling = create_engine(url, poolclass=NullPool)
        with filling.begin() as tx:
            fill(tx)
        with filling.begin() as tx:
            tables = " TABLE cutwork_job, cutwork_attempt, cutwork_event"
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
        given["id" if table is schema.job else "job_id"] = rising
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
    if tx.dialect.name == "mysql":
        tx.exec_driver_sql("SET SESSION unique_checks = 1, foreign_key_checks = 1")


def explain(
    tx: Connection, ask: Callable[[Connection], object], table: str = "cutwork_job"
) -> list[tuple[str, set[str]]]:
    """Each statement about ``table`` that ``ask`` sends, and its ``ways`` just before it runs."""
    plans: list[tuple[str, set[str]]] = []
    explaining = False

    def note(_tx: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        nonlocal explaining
        if re.search(rf"(FROM|UPDATE) {table}\b", statement) and not explaining:
            explaining = True
            plans.append((statement, ways(tx, statement, values, table)))
            explaining = False

    hooks.listen(tx.engine, "before_cursor_execute", note)
    try:
        ask(tx)
    finally:
        hooks.remove(tx.engine, "before_cursor_execute", note)
    return plans


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
        "budget", "pace", "guard's submits", "guard's events", "budget's event",
        "purge", "purge of results",
    ],
)  # fmt: skip
def test_what_is_counted_of_late_is_found_by_its_time(
    tx: Connection, ask: Callable[[Connection], object], table: str, index: str
) -> None:
    plans = explain(tx, ask, table)

    assert plans
    assert all(found == {index} for _, found in plans), plans


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


def test_a_statement_without_an_index_would_be_noticed(tx: Connection) -> None:
    slow = "SELECT id FROM cutwork_job WHERE owner LIKE '%%1' OR tries > 0"
    plans = explain(tx, lambda tx: tx.exec_driver_sql(slow, () if _qmark(tx) else {}))

    assert plans == [(slow, {"everything"})]
