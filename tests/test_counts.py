"""What a job costs in transactions, statements and log bytes: numbers that no machine makes better.

A number that rises fails here. One that falls is written down, so that it does not rise again.
"""

import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text

from cutwork import callbacks, gate, jobs, ledger
from cutwork.ledger import Heard, Ticket
from cutwork.provider import Accepted
from cutwork.request import Segmentation
from cutwork.webhook.app import Webhook
from cutwork.webhook.inbox import Hearing, Inbox
from cutwork.worker import submitting
from cutwork.worker.group import Group
from cutwork.worker.reconciler import Reconciler
from cutwork.worker.submitting import orders
from cutwork.worker.tools import Tools
from tests.services.private import PrivateServer
from tests.services.waiting import run_until
from tests.world import KEY_ID, RESULT, SETTINGS, World, done

BUSY = replace(SETTINGS, rate=10_000.0, max_in_flight=10_000, submit_lane=1000, store_lane=1000)
BACKLOG = 100


@pytest.fixture(autouse=True)
def no_late_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is later than 0.3 s takes a permit, two statements: a slow machine's count."""
    monkeypatch.setattr(gate, "fresh_for", lambda _rate: 600.0)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


@dataclass
class Meter:
    """How many statements and commits an engine sends."""

    statements: list[str] = field(default_factory=list)
    commits: int = 0

    @contextmanager
    def reading(self, engine: Any) -> Iterator["Meter"]:
        def sent(_tx: object, _cursor: object, statement: str, *_: object) -> None:
            self.statements.append(statement)

        def committed(_tx: object) -> None:
            self.commits += 1

        event.listen(engine, "before_cursor_execute", sent)
        event.listen(engine, "commit", committed)
        try:
            yield self
        finally:
            event.remove(engine, "before_cursor_execute", sent)
            event.remove(engine, "commit", committed)


class Assembly(Group):
    """A group that commits when so many have wished."""

    def __init__(self, engine: Engine, parties: int) -> None:
        super().__init__(engine)
        self._parties = parties

    def _lead(self) -> None:
        run_until(lambda: len(self._wishes) == self._parties, 30, "all wish")
        super()._lead()


def at_once(world: World, calls: Sequence[tuple[UUID, Callable[..., Any]]]) -> list[Any]:
    """What a worker's threads get that want these verbs at the same moment."""
    group = Assembly(world.engine, len(calls))
    with ThreadPoolExecutor(len(calls)) as crowd:
        return list(crowd.map(lambda call: group.run(*call), calls))


def travel(world: World, count: int) -> None:
    """So many jobs from the app to their results, every step of all of them at once."""
    with world.engine.begin() as tx:
        jobs.enqueue_many(tx, [Segmentation(image_url="https://a.example/b.jpg")] * count)
    sent: list[UUID] = []
    reconciler = Reconciler(world.engine, BUSY, lambda _lane, ids: sent.extend(ids))
    reconciler.run_once()
    assert len(sent) == count
    tools = Tools(BUSY, world.engine, None, None, Group(world.engine))  # type: ignore[arg-type]
    assert len(orders(tools, sent)) == count
    claim = partial(ledger.claim, settings=BUSY, callback=True, key_id=KEY_ID)
    tickets = at_once(world, [(one, partial(_about, claim, one)) for one in sent])
    told = [partial(_record, ticket) for ticket in tickets]
    at_once(world, [(one.args[0].job_id, one) for one in told])
    inbox = Inbox(world.engine, BUSY)
    hearings = [Hearing(ticket.job_id, 1, done()) for ticket in tickets]
    inbox._settle(hearings)
    assert {one.answer.result(0) for one in hearings} == {Heard.MOVED}
    sent.clear()
    reconciler.run_once()
    assert len(sent) == count
    reconciler.close()
    take = partial(ledger.claim_store, settings=BUSY)
    held = at_once(world, [(one, partial(_about, take, one)) for one in sent])
    kept = [partial(_stored, ticket) for ticket in held]
    assert all(at_once(world, [(one.args[0].job_id, one) for one in kept]))


def _about(verb: Callable[..., Any], job_id: UUID, tx: Any) -> Any:
    return verb(tx, job_id)


def _record(ticket: Ticket, tx: Any) -> None:
    submitting.record(tx, outcome=Accepted("task-1", None), ticket=ticket, settings=BUSY)


def _stored(ticket: Ticket, tx: Any) -> bool:
    return ledger.stored(tx, ticket, RESULT, BUSY)


# Statements for the whole way of one job, and of a hundred that go together; SQLite's count
# includes its BEGIN IMMEDIATE.
STATEMENTS = {
    ("sqlite", 1): 43,
    ("sqlite", BACKLOG): 46,
    ("postgresql", 1): 30,
    ("postgresql", BACKLOG): 32,
    ("mysql", 1): 36,
    ("mysql", BACKLOG): 38,
}
TRANSACTIONS = 10
# Bytes of PostgreSQL's log for each job, without the images of pages.
LOG_BYTES = {1: 7_000, BACKLOG: 8_400}


@pytest.mark.parametrize("count", [1, BACKLOG])
def test_the_statements_and_transactions_of_the_whole_way(world: World, count: int) -> None:
    travel(world, 1)  # what is done once for each process is done
    with Meter().reading(world.engine) as meter:
        travel(world, count)

    assert meter.commits == TRANSACTIONS
    assert len(meter.statements) == STATEMENTS[world.engine.dialect.name, count]


@pytest.mark.parametrize("count", [1, BACKLOG])
def test_the_log_bytes_of_the_whole_way(private_postgresql: PrivateServer, count: int) -> None:
    world = World.at(private_postgresql.url)
    with world.engine.connect() as tx:
        admin = tx.execution_options(isolation_level="AUTOCOMMIT")
        for setting in ("full_page_writes = off", "autovacuum = off"):
            admin.execute(text(f"ALTER SYSTEM SET {setting}"))
        admin.execute(text("SELECT pg_reload_conf()"))
    travel(world, 1)

    before = log_position(world)
    travel(world, count)
    each = (log_position(world) - before) / count

    assert 0.5 * LOG_BYTES[count] < each < LOG_BYTES[count]
    world.engine.dispose()


def log_position(world: World) -> int:
    position = text("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    with world.engine.connect() as tx:
        return int(tx.execute(position).scalar_one())


def test_the_commits_of_two_hundred_callbacks_that_come_at_once(world: World) -> None:
    tickets = [world.submitting() for _ in range(20)]
    inbox = Inbox(world.engine, BUSY)
    with Meter().reading(world.engine) as meter:
        hearings = [Hearing(ticket.job_id, 1, done()) for ticket in tickets for _ in range(10)]
        for hearing in hearings:
            inbox.put(hearing)
        answers = [hearing.answer.result(30) for hearing in hearings]
    inbox.close()

    assert answers.count(Heard.MOVED) == len(tickets)
    assert meter.commits <= len(hearings) // 20


def called(webhook: Webhook, token: str, body: bytes) -> str:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"/callbacks/{token}",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
    }
    statuses: list[str] = []
    list(webhook(environ, lambda status, _headers: statuses.append(status)))
    return statuses[0]


@contextmanager
def calls_of_python(counted: list[int]) -> Iterator[None]:
    """Counts the calls of functions, Python's and C's, in this thread."""
    counted.append(0)

    def count(_frame: object, what: str, _argument: object) -> None:
        counted[0] += what in ("call", "c_call")

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(
    ("genuine", "status", "calls", "peak"),
    [(False, "404 Not Found", 65, 4_000), (True, "200 OK", 255, 50_000)],
    ids=["forged", "genuine"],
)
def test_the_calls_and_memory_of_one_callback(
    empty_database: Callable[[str], str], genuine: bool, status: str, calls: int, peak: int
) -> None:
    """In the thread that answers; the transaction is another's, and counted above."""
    world = World.at(empty_database("sqlite"))
    job_id = world.submitting().job_id
    settings = replace(BUSY, database_url=world.engine.url.render_as_string(False))
    webhook = Webhook(settings)
    secret = settings.callback_secrets[0] if genuine else "another secret"
    token = callbacks.mint(secret, job_id, 1, 2**32 - 1)
    body = b'{"state": 1, "task_id": "task-1", "image": "https://a.example/b.png"}'
    assert called(webhook, token, body) == status  # caches are filled
    counted: list[int] = []
    with calls_of_python(counted):
        assert called(webhook, token, body) == status
    tracemalloc.start()
    called(webhook, token, body)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    webhook.close()
    world.engine.dispose()

    assert counted[0] <= calls
    assert most <= peak
