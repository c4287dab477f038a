"""The alarm clock: what it releases, in what order, how fast, and what a broker's failure costs."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import Engine, update
from sqlalchemy.exc import OperationalError as DatabaseAway

from cutwork import database, gate, ledger, schema
from cutwork.gate import burst
from cutwork.settings import Settings
from cutwork.states import State
from cutwork.worker.configuration import configuration, publish_options
from cutwork.worker.publishing import Publisher
from cutwork.worker.reconciler import Reconciler
from tests.services.ports import free_port
from tests.services.waiting import run_until
from tests.world import SETTINGS, World, done

FAST = replace(SETTINGS, rate=1000.0, max_in_flight=1000, submit_lane=500)


Clock = Callable[..., Reconciler]


class Broker:
    """Remembers what it is sent; ``away`` makes it refuse."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[UUID]]] = []
        self.away = False

    def __call__(self, lane: str, job_ids: Sequence[UUID]) -> None:
        if self.away:
            raise OperationalError("the broker is away")
        self.sent.append((lane, list(job_ids)))

    def jobs(self, lane: str) -> list[UUID]:
        return [job_id for sent, job_ids in self.sent if sent == lane for job_id in job_ids]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url, FAST)
    yield made
    made.engine.dispose()


@pytest.fixture
def clock() -> Iterator[Clock]:
    made: list[Reconciler] = []

    def make(world: World, publish: Any, settings: Settings = FAST) -> Reconciler:
        made.append(Reconciler(world.engine, settings, publish))
        return made[-1]

    yield make
    for one in made:
        one.close()


def many(world: World, count: int) -> list[UUID]:
    return [world.enqueue() for _ in range(count)]


def test_what_is_due_is_named_once_and_what_is_not_due_is_not(
    world: World, broker: Broker, clock: Clock
) -> None:
    due = world.enqueue()
    later = world.enqueue()
    with world.engine.begin() as tx:
        far = schema.job.c.created_at
        tx.execute(update(schema.job).where(schema.job.c.id == due).values(due_at=far))
        other = update(schema.job).where(schema.job.c.id == later)
        tx.execute(other.values(state=State.HELD, due_at=None))
    reconciler = clock(world, broker)
    reconciler.run_once()
    reconciler.run_once()
    assert broker.sent == [("submit", [due])]


def test_each_lane_has_its_own_messages(world: World, broker: Broker, clock: Clock) -> None:
    ready = world.waiting()
    world.learn(ready, done())
    overdue = world.waiting()
    world.ring(overdue.job_id)
    new = world.enqueue()
    clock(world, broker).run_once()
    assert broker.jobs("store") == [ready.job_id]
    assert broker.jobs("check") == [overdue.job_id]
    assert broker.jobs("submit") == [new]


def test_a_backlog_shares_messages(world: World, broker: Broker, clock: Clock) -> None:
    many(world, 100)
    clock(world, broker).run_once()
    assert len(broker.jobs("submit")) == 100
    assert len(broker.sent) <= 16


def test_a_broker_that_is_down_at_publish_leaves_the_job_due(
    world: World, broker: Broker, clock: Clock
) -> None:
    job_ids = many(world, 3)
    reconciler = clock(world, broker)
    broker.away = True
    with pytest.raises(OperationalError):
        reconciler.run_once()
    assert {world.row(one)["lease"] for one in job_ids} == {None}
    broker.away = False
    run_until(lambda: reconciler.run_once() and len(broker.jobs("submit")) == 3, 5)


def test_a_real_broker_that_is_down_is_an_error_within_seconds(world: World, clock: Clock) -> None:
    settings = replace(FAST, broker_url=f"redis://127.0.0.1:{free_port()}/0")
    app = Celery("test")
    app.conf.update(configuration(settings))
    job_id = world.enqueue()
    publisher = Publisher(app, publish_options(settings))
    began = time.monotonic()
    with pytest.raises(OperationalError):
        clock(world, publisher, settings).run_once()
    assert time.monotonic() - began < 20
    assert world.row(job_id)["lease"] is None
    app.close()


def test_messages_that_nobody_claims_do_not_pile_up(
    world: World, broker: Broker, clock: Clock
) -> None:
    many(world, 20)
    reconciler = clock(world, broker, replace(FAST, submit_lane=4))
    reconciler.run_once()
    assert len(broker.jobs("submit")) == 4
    broker.sent.clear()
    with world.engine.begin() as tx:  # the permits run out, and nobody came
        lapsed = update(schema.job).where(schema.job.c.lease == "message")
        tx.execute(lapsed.values(due_at=schema.job.c.created_at))
    for _ in range(5):
        reconciler.run_once()
    assert len(broker.jobs("submit")) == 1


def test_a_wiped_broker_is_refilled_as_soon_as_somebody_claims(
    world: World, broker: Broker, clock: Clock
) -> None:
    job_ids = many(world, 6)
    settings = replace(FAST, submit_lane=6)
    reconciler = clock(world, broker, settings)
    reconciler.run_once()
    broker.sent.clear()
    with world.engine.begin() as tx:
        tx.execute(update(schema.job).values(due_at=schema.job.c.created_at))

    def everything_claimed() -> bool:
        reconciler.run_once()
        for job_id in broker.jobs("submit"):
            world.do(ledger.claim, job_id, settings, callback=True)
        broker.sent.clear()
        return all(world.state(one) is State.SUBMITTING for one in job_ids)

    run_until(everything_claimed, 10)


def test_jobs_in_flight_are_capped_for_each_key(world: World, broker: Broker, clock: Clock) -> None:
    many(world, 5)
    reconciler = clock(world, broker, replace(FAST, max_in_flight=2))
    for _ in range(3):
        reconciler.run_once()
        for job_id in broker.jobs("submit"):
            world.do(ledger.claim, job_id, FAST, callback=True)
    assert len(set(broker.jobs("submit"))) == 2


def test_a_paused_key_releases_nothing(world: World, broker: Broker, clock: Clock) -> None:
    (key_id,) = FAST.keys
    job_id = world.enqueue()
    reconciler = clock(world, broker)
    world.do(gate.pause, key_id)
    reconciler.run_once()
    assert broker.sent == []
    world.do(gate.resume, key_id)
    reconciler.run_once()
    assert broker.jobs("submit") == [job_id]


def test_the_lapsed_message_of_a_paused_key_does_not_stop_the_checks_of_another(
    world: World, broker: Broker, clock: Clock
) -> None:
    keys = replace(FAST, api_tokens=(*FAST.api_tokens, "another-key"))
    (paused, other) = keys.keys
    stuck, asked = world.waiting(), world.waiting()
    past = schema.job.c.created_at
    with world.engine.begin() as tx:
        gate.ensure(tx, keys.keys)
        gate.pause(tx, paused)
        for job_id, values in (
            (stuck.job_id, {"lease": "message", "due_at": past}),
            (asked.job_id, {"key_id": other, "due_at": past}),
        ):
            tx.execute(update(schema.job).where(schema.job.c.id == job_id).values(values))
    reconciler = clock(world, broker, keys)
    run_until(lambda: reconciler.run_once() and broker.jobs("check") == [asked.job_id], 5)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_two_reconcilers_together_keep_to_the_rate_and_name_no_job_twice(
    kind: str, empty_database: Callable[[str], str]
) -> None:
    settings = replace(FAST, rate=40.0)
    world = World.at(empty_database(kind), settings)
    many(world, 60)
    brokers = [Broker(), Broker()]
    engines = [database.engine(str(world.engine.url)) for _ in brokers]
    stop = threading.Event()

    def run(engine: Engine, broker: Broker) -> None:
        reconciler = Reconciler(engine, settings, broker)
        while not stop.is_set():
            stop.wait(reconciler.run_once())
        reconciler.close()

    began = time.monotonic()
    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(engines, brokers, strict=True)
    ]
    for thread in threads:
        thread.start()
    run_until(lambda: sum(len(one.jobs("submit")) for one in brokers) >= 30, 10)
    stop.set()
    for thread in threads:
        thread.join()
    passed = time.monotonic() - began
    named = [job_id for one in brokers for job_id in one.jobs("submit")]
    assert len(named) == len(set(named))
    assert len(named) <= settings.rate * passed + burst(settings.rate)
    for engine in (*engines, world.engine):
        engine.dispose()


def test_a_job_locked_by_an_apps_transaction_is_passed_over(
    empty_database: Callable[[str], str], clock: Clock
) -> None:
    for kind in ("postgresql", "mariadb"):
        world, broker = World.at(empty_database(kind), FAST), Broker()
        first, second = many(world, 2)
        with world.engine.begin() as app:
            ledger.cancel(app, first)
            reconciler = clock(world, broker, replace(FAST, submit_lane=1))
            reconciler.run_once()
            reconciler.close()
        assert broker.jobs("submit") == [second]
        assert world.state(first) is State.CANCELLED
        world.engine.dispose()


def test_a_database_that_was_away_is_asked_again_on_a_new_connection(
    empty_database: Callable[[str], str], clock: Clock
) -> None:
    world, broker = World.at(empty_database("postgresql"), FAST), Broker()
    reconciler = clock(world, broker)
    reconciler.run_once()
    job_id = world.enqueue()
    with world.engine.connect() as tx:
        tx.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND application_name = 'cutwork'"
        )

    def named() -> bool:
        with suppress(DatabaseAway):
            reconciler.run_once()
        return broker.jobs("submit") == [job_id]

    run_until(named, 10)
    reconciler.close()
    world.engine.dispose()
