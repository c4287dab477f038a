"""Finished jobs and their files are deleted, the rest is left alone, and nothing blocks it."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import update

from cutwork import jobs, ledger, purging, schema
from cutwork.clock import after
from cutwork.purging import Purged, purge
from cutwork.states import State
from cutwork.storage import Storage
from tests.world import World, failed

DAY = 86400.0


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at((tmp_path / "files").as_uri())


def finished(world: World, storage: Storage, days: float, name: str = "image.png") -> UUID:
    """A job that succeeded so long ago, with a result of four bytes."""
    ticket = world.storing()
    uri = storage.put(f"results/{ticket.job_id}/{name}", b"four")
    facts = {"uri": uri, "size": 4, "sha256": "0" * 64, "format": "png", "width": 1, "height": 1}
    result = {"files": {"image": facts}, "foreground_rect": None}
    assert world.do(ledger.stored, ticket, result, world.settings)
    age(world, ticket.job_id, days)
    return ticket.job_id


def age(world: World, job_id: UUID, days: float) -> None:
    with world.engine.begin() as tx:
        same = schema.job.c.id == job_id
        tx.execute(update(schema.job).where(same).values(finished_at=after(-days * DAY)))


def delete(world: World, storage: Storage, days: float = 30, *, dry_run: bool = False) -> Purged:
    return purge(world.engine, storage, days * DAY, dry_run=dry_run)


def test_what_is_old_and_over_goes_with_its_files(world: World, storage: Storage) -> None:
    old, young = finished(world, storage, 31), finished(world, storage, 29)
    uri = str(world.job(old).image)

    assert delete(world, storage) == Purged(jobs=1, files=1, size=4)

    assert not storage.exists(uri)
    assert storage.exists(str(world.job(young).image))
    assert world.count() == 1
    assert world.count(schema.attempt) == 1


def test_a_dry_run_counts_and_deletes_nothing(world: World, storage: Storage) -> None:
    job_id = finished(world, storage, 31)

    assert delete(world, storage, dry_run=True) == Purged(jobs=1, files=1, size=4)

    assert storage.exists(str(world.job(job_id).image))


def test_unfinished_and_held_jobs_stay(world: World, storage: Storage) -> None:
    world.enqueue()
    world.waiting()
    held = world.storing()
    world.do(ledger.not_stored, held, "too_large", "too large", world.settings, permanent=True)

    assert delete(world, storage, 0) == Purged()
    assert world.state(held.job_id) is State.HELD


def test_failed_and_cancelled_jobs_go_too(world: World, storage: Storage) -> None:
    ticket = world.waiting()
    world.learn(ticket, failed())
    cancelled = world.enqueue()
    with world.engine.begin() as tx:
        jobs.cancel(tx, cancelled)
    age(world, ticket.job_id, 31)
    age(world, cancelled, 31)

    assert delete(world, storage).jobs == 2


def test_running_it_again_finishes_what_was_cut_short(world: World, storage: Storage) -> None:
    job_id = finished(world, storage, 31)
    storage.delete(str(world.job(job_id).image))

    assert delete(world, storage).jobs == 1
    assert delete(world, storage) == Purged()


def test_a_job_in_another_storage_is_kept_and_does_not_block_the_rest(
    world: World, storage: Storage, tmp_path: Path
) -> None:
    elsewhere = Storage.at((tmp_path / "elsewhere").as_uri())
    stuck, gone = finished(world, elsewhere, 40), finished(world, storage, 35)

    told = delete(world, storage)

    assert (told.jobs, told.kept) == (1, 1)
    assert "it is not in this storage" in told.fault
    assert world.state(stuck) is State.SUCCEEDED
    assert world.count() == 1
    assert gone != stuck


def test_more_jobs_than_a_batch_are_deleted(
    world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "_BATCH", 2)
    for _ in range(5):
        finished(world, storage, 31)

    assert delete(world, storage, dry_run=True).jobs == 5
    assert delete(world, storage).jobs == 5
