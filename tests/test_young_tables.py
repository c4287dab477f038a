"""PostgreSQL keeps a plan that it made while the tables were small, and a crowd comes at once."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from cutwork import jobs, ledger
from cutwork.request import Segmentation
from tests.world import KEY_ID, RESULT, SETTINGS, World, done, pending

# A driver prepares a statement after five times, and the server plans it for good after five more.
WARM_UP, CROWD, PAGE = 12, 2000, 10
READ = text(
    "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_xact_user_tables"
    " WHERE relname IN ('cutwork_job', 'cutwork_attempt')"
)
Step = Callable[[Connection, Sequence[UUID]], object]


def together(verb: Callable[[Connection, UUID], object]) -> Step:
    def step(tx: Connection, ids: Sequence[UUID]) -> None:
        with ledger.together(tx, ids):
            for one in ids:
                assert verb(tx, one)

    return step


def stored(tx: Connection, job_id: UUID) -> bool:
    ticket = ledger.claim_store(tx, job_id, SETTINGS)
    assert ticket is not None
    return ledger.stored(tx, ticket, RESULT, SETTINGS)


def completed(tx: Connection, ids: Sequence[UUID]) -> None:
    """Half of them at once, and half as the uncommon ones are."""
    half = len(ids) // 2
    news = [(one, 1, done(str(one))) for one in ids[:half]]
    assert None not in ledger.complete(tx, news, SETTINGS)
    together(lambda tx, one: ledger.hear(tx, one, 1, done(str(one)), SETTINGS))(tx, ids[half:])


STEPS: dict[str, Step] = {
    "claims": together(lambda tx, one: ledger.claim(tx, one, SETTINGS, callback=True)),
    "replies": together(
        lambda tx, one: ledger.learn(tx, one, 1, pending(str(one)), "reply", SETTINGS)
    ),
    "callbacks": completed,
    "release of stores": lambda tx, ids: ledger.release_stores(tx, len(ids), 30.0),
    "stores": together(stored),
}


@pytest.fixture
def world(empty_database: Callable[[str], str]) -> Iterator[World]:
    made = World.at(empty_database("postgresql"))
    yield made
    made.engine.dispose()


def crowd(world: World, count: int) -> None:
    asked = [Segmentation(image_url=f"http://shop.example/{n}.jpg") for n in range(count)]
    with world.engine.begin() as tx:
        jobs.enqueue_many(tx, asked)
    while world.do(ledger.wake):
        pass


def counted(tx: Connection, read: dict[str, int], name: str, step: Callable[[], object]) -> None:
    before = tx.execute(READ).scalar_one()
    step()
    read[name] = int(tx.execute(READ).scalar_one() - before)


def walk(world: World, count: int) -> dict[str, int]:
    """So many jobs all the way, and how many rows each step looked at."""
    read: dict[str, int] = {}
    ids: list[UUID] = []
    with world.engine.begin() as tx:
        release = partial(ledger.release_submits, tx, KEY_ID, count, 30.0)
        counted(tx, read, "release of submits", lambda: ids.extend(release()))
    assert len(ids) == count
    for name, step in STEPS.items():
        with world.engine.begin() as tx:
            counted(tx, read, name, partial(step, tx, ids))
    return read


def test_plans_of_small_tables_do_not_read_all_of_a_crowd_that_comes(world: World) -> None:
    for _ in range(WARM_UP):
        crowd(world, PAGE)
        walk(world, PAGE)
    crowd(world, CROWD)
    for _ in range(3):
        walk(world, CROWD // 10)

    read = walk(world, PAGE)

    assert {name: rows for name, rows in read.items() if rows > 20 * PAGE} == {}
