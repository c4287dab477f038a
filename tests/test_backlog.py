"""Unfinished jobs and results that will expire, on every database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select, update

from cutwork import backlog, schema
from cutwork.backlog import SOON, Expiring, Standing
from cutwork.clock import after
from cutwork.states import ALARMED, State
from tests.tables import add_job, tables_at


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with tables_at(database_url) as made:
        yield made


def test_every_state_that_has_an_alarm_is_told(engine: Engine) -> None:
    with engine.connect() as tx:
        assert backlog.standings(tx) == dict.fromkeys(sorted(ALARMED), Standing())


def test_jobs_are_counted_with_the_oldest_and_the_latest(engine: Engine) -> None:
    with engine.begin() as tx:
        add_job(tx, State.WAITING, due=-30, created_at=after(-100))
        add_job(tx, State.WAITING, due=-20, created_at=after(-200))
        add_job(tx, State.WAITING, due=60, created_at=after(-10))
        add_job(tx, State.QUEUED, due=60)
        add_job(tx, State.SUCCEEDED, created_at=after(-900))

    with engine.connect() as tx:
        found = backlog.standings(tx)

    assert (found[State.WAITING].jobs, found[State.WAITING].due) == (3, 2)
    assert found[State.WAITING].age == pytest.approx(200, abs=20)
    assert found[State.WAITING].late == pytest.approx(30, abs=20)
    assert (found[State.QUEUED].jobs, found[State.QUEUED].due, found[State.QUEUED].late) == (
        1,
        0,
        0.0,
    )
    assert set(found) == set(ALARMED)


def test_results_whose_links_die_soon_are_told(engine: Engine) -> None:
    with engine.connect() as tx:
        assert backlog.expiring(tx) == Expiring(0, None)

    with engine.begin() as tx:
        add_job(tx, State.STORING, due=0, result_expires_at=after(SOON - 60))
        add_job(tx, State.STORING, due=0, result_expires_at=after(SOON + 600))
        add_job(tx, State.SUCCEEDED, result_expires_at=after(-60))
    with engine.connect() as tx:
        found = backlog.expiring(tx)
        ids = tx.execute(select(schema.job.c.id).where(schema.job.c.state == State.STORING))
        first = ids.scalars().first()
    assert found.jobs == 1
    assert found.soonest == pytest.approx(SOON - 60, abs=20)

    with engine.begin() as tx:
        tx.execute(
            update(schema.job)
            .where(schema.job.c.id == first)
            .values(result_expires_at=after(-5), state=State.STORING)
        )
    with engine.connect() as tx:
        dead = backlog.expiring(tx).soonest
    assert dead is not None
    assert dead < 0
