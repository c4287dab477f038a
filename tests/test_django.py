"""Jobs through Django's own connection: its transactions, its savepoints, its adapters.

Django is set up without time zones, in a zone that is not UTC: the harder case, in which it gives
naive local times.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import django
import django.conf
import pymysql
import pytest
from asgiref.sync import sync_to_async
from django.db import IntegrityError, connections, transaction
from sqlalchemy import make_url, text

import cutwork
from cutwork import database
from cutwork.django import connection
from cutwork.errors import InvalidInput, JobNotFound, KeyConflict
from cutwork.states import State
from tests.house import picture
from tests.world import SETTINGS, World

URL = "http://example.com/a.jpg"
USING = "shop"
BACKENDS = {"sqlite": "sqlite3", "postgresql": "postgresql", "mysql": "mysql"}


@pytest.fixture(scope="module", autouse=True)
def _configured() -> None:
    pymysql.install_as_MySQLdb()
    zone = {"USE_TZ": False, "TIME_ZONE": "Asia/Shanghai"}
    django.conf.settings.configure(LOGGING_CONFIG=None, **zone)
    django.setup()


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A database with our tables, which Django knows as ``shop``, and a table of its own."""
    made = World.at(database_url)
    url = make_url(database_url)
    kind = url.get_backend_name()
    entry = {
        "ENGINE": f"django.db.backends.{BACKENDS[kind]}",
        "NAME": url.database,
        "USER": url.username or "",
        "PASSWORD": url.password or "",
        "HOST": url.host or url.query.get("host", "") or url.query.get("unix_socket", ""),
        "PORT": str(url.port or ""),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"} if kind == "sqlite" else {},
    }
    connections.settings |= connections.configure_settings({"default": {}, USING: entry})
    with made.engine.begin() as tx:
        tx.execute(text("CREATE TABLE shop_order (article varchar(20) PRIMARY KEY)"))
    yield made
    connections[USING].close()
    del connections[USING]
    made.engine.dispose()


def order(article: str) -> None:
    with connections[USING].cursor() as cursor:
        cursor.execute("INSERT INTO shop_order VALUES (%s)", [article])


def counted(world: World) -> tuple[int, int]:
    """(orders, jobs) that have been committed."""
    tables = ("shop_order", "cutwork_job")
    with database.read_only(world.engine).connect() as tx:
        orders, jobs = (tx.execute(text(f"SELECT count(*) FROM {name}")) for name in tables)
        return orders.scalar_one(), jobs.scalar_one()


def test_an_order_and_its_job_are_there_together(world: World) -> None:
    with transaction.atomic(using=USING):
        order("shoe")
        job = cutwork.enqueue(connection(USING), image_url=URL)
        assert counted(world) == (0, 0)

    assert counted(world) == (1, 1)
    assert world.release() == [job.id]


def test_what_fails_later_in_the_block_takes_the_job_with_it(world: World) -> None:
    with transaction.atomic(using=USING):
        order("shoe")

    @transaction.atomic(using=USING)
    def place_order() -> None:
        cutwork.enqueue(connection(USING), image_url=URL)
        order("shoe")

    with pytest.raises(IntegrityError):
        place_order()

    assert counted(world) == (1, 0)


def test_a_savepoint_that_is_rolled_back_takes_its_jobs_and_no_other(world: World) -> None:
    with transaction.atomic(using=USING):
        outer = cutwork.enqueue(connection(USING), image_url=URL)
        with transaction.atomic(using=USING):
            inner = cutwork.enqueue(connection(USING), image_url=URL)
            transaction.set_rollback(True, using=USING)
        with pytest.raises(JobNotFound):
            cutwork.get(connection(USING), inner.id)
        with transaction.atomic(using=USING):
            kept = cutwork.enqueue(connection(USING), image_url=URL)

    assert sorted(world.release()) == sorted([outer.id, kept.id])


def test_without_a_transaction_it_is_refused_with_a_remedy(world: World) -> None:
    with pytest.raises(InvalidInput, match=r"got 'shop': call it inside transaction\.atomic\(\)"):
        connection(USING)

    with transaction.atomic(using=USING):
        kept = connection(USING)
    with pytest.raises(InvalidInput, match=r"transaction\.atomic\(\)"):
        cutwork.enqueue(kept, image_url=URL)
    assert counted(world) == (0, 0)


def test_a_transaction_that_django_was_told_to_keep_open_will_do(world: World) -> None:
    transaction.set_autocommit(False, using=USING)
    job = cutwork.enqueue(connection(USING), image_url=URL)
    transaction.rollback(using=USING)
    assert counted(world) == (0, 0)
    again = cutwork.enqueue(connection(USING), image_url=URL)
    transaction.commit(using=USING)
    transaction.set_autocommit(True, using=USING)

    assert job.id != again.id
    assert world.release() == [again.id]


def test_a_connection_that_was_kept_is_refused_on_djangos_next_one(world: World) -> None:
    with transaction.atomic(using=USING):
        kept = connection(USING)
    connections[USING].close()
    with transaction.atomic(using=USING), pytest.raises(InvalidInput, match="do not keep it"):
        cutwork.enqueue(kept, image_url=URL)
    assert counted(world) == (0, 0)


def test_nobody_but_django_commits_or_closes(world: World) -> None:
    with transaction.atomic(using=USING):
        with connection(USING) as tx:
            cutwork.enqueue(tx, image_url=URL)
            tx.rollback()
        tx = connection(USING)
        job = cutwork.enqueue(tx, image_url=URL)
        with pytest.raises(InvalidInput, match="must not be committed by hand"):
            tx.commit()
        tx.invalidate()
        assert cutwork.get(connection(USING), job.id).state is State.QUEUED
        order("shoe")

    assert counted(world) == (1, 2)


def test_a_block_that_is_broken_already_is_refused_as_django_does(world: World) -> None:
    with transaction.atomic(using=USING):
        transaction.set_rollback(True, using=USING)
        with pytest.raises(transaction.TransactionManagementError):
            connection(USING)
    assert counted(world) == (0, 0)


def test_everything_reads_back_as_it_does_through_sqlalchemy(world: World, tmp_path: Path) -> None:
    settings = replace(SETTINGS, storage_url=(tmp_path / "files").as_uri())
    later = datetime.now(UTC) + timedelta(hours=1)
    done = world.succeeded(meta={"order": [1, "é", None]}, idempotency_key="k")
    usual = world.job(done)
    with transaction.atomic(using=USING):
        tx = connection(USING)
        assert cutwork.get(tx, done) == usual
        assert cutwork.enqueue(tx, image_url=URL, idempotency_key="k").id == done
        with pytest.raises(KeyConflict):
            cutwork.enqueue(tx, image_url=URL, type="person", idempotency_key="k")
        asleep = cutwork.enqueue(
            tx, image_file=picture(), not_before=later, meta=[{"é": 1.5}], settings=settings
        )
        many = cutwork.enqueue_many(
            tx, [cutwork.Segmentation(image_url=URL)] * 3, idempotency_keys=["a", "b", "k2"]
        )
        cutwork.cancel(tx, many[0])
        cutwork.cancel(tx, many[1])
        assert cutwork.retry(tx, many[1], settings=settings) is State.QUEUED
        seen = cutwork.get(tx, asleep.id)

    assert seen == world.job(asleep.id)
    assert (seen.due_at, seen.meta) == (later, [{"é": 1.5}])
    assert [world.state(one) for one in many] == [State.CANCELLED, State.QUEUED, State.QUEUED]
    assert sorted(world.release()) == sorted(many[1:])


def test_nothing_is_set_up_on_djangos_connection(world: World) -> None:
    """What Django reads after us is what it reads without us."""

    def read() -> list[Any]:
        with connections[USING].cursor() as cursor:
            cursor.execute("SELECT id, request, created_at FROM cutwork_job")
            return [(type(value), value) for value in cursor.fetchone()]

    job_id = world.enqueue()
    usual, before = world.job(job_id), read()
    with transaction.atomic(using=USING):
        assert cutwork.get(connection(USING), job_id) == usual
        assert read() == before
    assert read() == before


def test_a_view_that_is_a_coroutine_calls_the_block_in_a_thread(world: World) -> None:
    def place_order() -> UUID:
        try:
            with transaction.atomic(using=USING):
                order("shoe")
                return cutwork.enqueue(connection(USING), image_url=URL).id
        finally:
            connections[USING].close()  # as Django does at the end of a request
            del connections[USING]  # the thread stays, and another test's database is elsewhere

    job_id = asyncio.run(sync_to_async(place_order)())

    assert counted(world) == (1, 1)
    assert world.release() == [job_id]


def test_a_driver_that_is_not_supported_is_named() -> None:
    from cutwork.django import _driver

    class Oracle:
        vendor = "oracle"
        connection = object()

    with pytest.raises(InvalidInput, match="'oracle with builtins'"):
        _driver(Oracle())
