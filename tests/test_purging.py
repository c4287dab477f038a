"""What was kept long enough is deleted, by each policy; the rest stays, and nothing blocks it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from cutwork import explain, jobs, ledger, purging, schema, turns
from cutwork.clock import after
from cutwork.errors import InputPurged, InvalidInput, OwnerBusy, StorageError, WrongState
from cutwork.purging import Broom, Policy, Purged, erase_owner, purge
from cutwork.states import State
from cutwork.storage import Storage
from tests.house import picture
from tests.world import World, failed

DAY = 86400.0


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def embedded(empty_database: Callable[[str], str]) -> Iterator[World]:
    """SQLite alone, for what no other database does otherwise."""
    made = World.at(empty_database("sqlite"))
    yield made
    made.engine.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at((tmp_path / "files").as_uri())


def finished(
    world: World, storage: Storage, days: float, name: str = "image.png", **options: Any
) -> UUID:
    """A job that succeeded so long ago, with a result of four bytes."""
    ticket = world.storing(**options)
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


def test_running_it_again_finishes_what_was_cut_short(embedded: World, storage: Storage) -> None:
    job_id = finished(embedded, storage, 31)
    storage.delete(str(embedded.job(job_id).image))

    assert delete(embedded, storage).jobs == 1
    assert delete(embedded, storage) == Purged()


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


def sent(world: World, storage: Storage, **options: Any) -> UUID:
    """A job with a source picture of its own, queued."""
    settings = replace(world.settings, storage_url=storage.uri("x").removesuffix("/x"))
    with world.engine.begin() as tx:
        return jobs.enqueue(tx, image_file=picture(), settings=settings, **options).id


def cancelled(world: World, storage: Storage, days: float = 31, **options: Any) -> tuple[UUID, str]:
    """A job that was cancelled so long ago, and where its source picture is."""
    job_id = sent(world, storage, **options)
    with world.engine.begin() as tx:
        jobs.cancel(tx, job_id)
    age(world, job_id, days)
    return job_id, str(world.job(job_id).request["image_file"]["uri"])


def test_results_go_by_their_own_policy_and_the_job_says_so(world: World, storage: Storage) -> None:
    old, young = finished(world, storage, 8), finished(world, storage, 6)
    uri = str(world.job(old).image)
    policy = Policy(results=7 * DAY)
    broom = Broom(world.engine, storage)

    assert broom.sweep(policy, dry_run=True) == {"results": Purged(1, 1, 4)}
    assert storage.exists(uri)
    assert broom.sweep(policy) == {"results": Purged(1, 1, 4)}
    assert broom.sweep(policy) == {"results": Purged()}

    assert not storage.exists(uri)
    job = world.job(old)
    assert (job.state, job.image) == (State.SUCCEEDED, None)
    assert job.files["image"].purged_at is not None
    assert (job.files["image"].uri, job.files["image"].size) == (uri, 4)
    assert job.to_json()["files"]["image"]["purged_at"] is not None
    assert storage.exists(str(world.job(young).image))
    with world.engine.connect() as tx:
        told = explain.explain(tx, old, world.settings)
    assert "its files were deleted" in told.stands
    assert [one.detail for one in told.timeline if one.what == "purged"] == [
        "the results, deleted from storage, as it was kept long enough"
    ]


def test_inputs_go_by_their_own_policy_and_a_retry_is_refused_before_it_costs(
    world: World, storage: Storage
) -> None:
    old, uri = cancelled(world, storage, 8)
    young, kept = cancelled(world, storage, 6)
    queued = sent(world, storage)
    by_url = finished(world, storage, 8)

    told = Broom(world.engine, storage).sweep(Policy(inputs=7 * DAY))

    assert (told["inputs"].jobs, told["inputs"].files) == (1, 1)
    assert (storage.exists(uri), storage.exists(kept)) == (False, True)
    assert world.job(old).input_purged_at is not None
    assert world.job(by_url).input_purged_at is None
    assert world.job(by_url).image is not None
    assert world.state(queued) is State.QUEUED
    with world.engine.begin() as tx, pytest.raises(InputPurged, match="enqueue the picture anew"):
        jobs.retry(tx, old, settings=world.settings)
    with world.engine.connect() as tx:
        told_of = explain.explain(tx, old, world.settings)
    assert "cannot be submitted again" in told_of.next
    assert world.state(old) is State.CANCELLED
    with world.engine.begin() as tx:
        assert jobs.retry(tx, young, settings=world.settings) is State.QUEUED


def test_a_job_that_cannot_be_retried_anyway_says_why(embedded: World, storage: Storage) -> None:
    job_id = finished(embedded, storage, 8)
    with embedded.engine.begin() as tx:
        ledger.forget(tx, [job_id], "input")

    with embedded.engine.begin() as tx, pytest.raises(WrongState):
        jobs.retry(tx, job_id, settings=embedded.settings)


def test_all_three_policies_work_side_by_side(world: World, storage: Storage) -> None:
    gone, bare, whole = (finished(world, storage, days) for days in (31, 8, 1))
    dropped, uri = cancelled(world, storage, 2)
    policy = Policy(inputs=DAY, results=7 * DAY, jobs=30 * DAY)
    broom = Broom(world.engine, storage, batch=1)

    planned = broom.sweep(policy, dry_run=True)
    done = broom.sweep(policy)

    assert planned == done
    assert [one.jobs for one in done.values()] == [1, 1, 1]
    assert list(done) == ["jobs", "results", "inputs"]
    assert world.count() == 3
    assert world.job(bare).image is None
    assert world.job(whole).image is not None
    assert not storage.exists(uri)
    assert gone not in (bare, whole, dropped)


def test_purged_files_are_not_counted_when_their_job_goes(
    embedded: World, storage: Storage
) -> None:
    finished(embedded, storage, 31)
    Broom(embedded.engine, storage).sweep(Policy(results=DAY))

    assert delete(embedded, storage) == Purged(jobs=1)


def test_without_a_policy_nothing_is_deleted(embedded: World, storage: Storage) -> None:
    finished(embedded, storage, 3000)

    assert Policy.of(embedded.settings) == Policy()
    assert Broom(embedded.engine, storage).sweep(Policy.of(embedded.settings)) == {}
    assert embedded.count() == 1


def test_a_broom_does_not_look_twice_at_what_it_found_clean(
    embedded: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = ledger.purgeable

    def counted(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        seen.append(len(found))
        return found

    monkeypatch.setattr(ledger, "purgeable", counted)
    for _ in range(3):
        finished(embedded, storage, 8)  # without a source picture of ours
    broom = Broom(embedded.engine, storage, batch=2)

    broom.sweep(Policy(inputs=DAY))
    again = len(seen)
    broom.sweep(Policy(inputs=DAY))

    assert seen[:again] == [2, 1, 0]
    assert seen[again:] == [0]


def test_a_storage_that_is_away_ends_a_sweep_and_is_tried_again(
    embedded: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(9):
        finished(embedded, storage, 31)
    broom, tries = Broom(embedded.engine, storage), []

    def away(uri: str) -> None:
        tries.append(uri)
        raise StorageError(uri, "the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "delete", away)
        told = broom.sweep(Policy(jobs=DAY))["jobs"]

    assert told.dead
    assert (told.jobs, len(tries)) == (0, 5)
    assert "the network is down" in told.fault
    assert broom.sweep(Policy(jobs=DAY))["jobs"].jobs == 9


def test_a_file_that_goes_while_its_job_is_retried_costs_nothing(
    world: World, storage: Storage
) -> None:
    job_id, uri = cancelled(world, storage)
    with world.engine.connect() as tx:
        batch = ledger.purgeable(tx, DAY, files="input")
    with world.engine.begin() as tx:
        jobs.retry(tx, job_id, settings=world.settings)

    gone, _ = purging._delete_files(storage, batch, "input")
    assert world.do(ledger.forget, gone, "input") == 1

    assert world.state(job_id) is State.QUEUED
    assert world.job(job_id).input_purged_at is not None
    assert not storage.exists(uri)


_KILLED = """
import os, signal, sys
from cutwork import database, purging
from cutwork.storage import Storage
purging.database.transact = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
url, place, what = sys.argv[1:]
engine = database.engine(url)
if what == "owner":
    purging.erase_owner(engine, "anna", storage=Storage.at(place))
else:
    purging.Broom(engine, Storage.at(place)).sweep(purging.Policy(**{what: 86400.0}))
"""


@pytest.mark.parametrize(
    ("database", "what"),
    [("sqlite", "jobs"), ("mariadb", "jobs"), ("postgresql", "results"), ("postgresql", "owner")],
)
def test_who_is_killed_between_the_files_and_the_rows_is_finished_by_the_next(
    empty_database: Callable[[str], str], storage: Storage, database: str, what: str
) -> None:
    world = World.at(empty_database(database))
    job_id = finished(world, storage, 8, owner="anna")
    uri, place = str(world.job(job_id).image), storage.uri("x").removesuffix("/x")
    url = world.engine.url.render_as_string(hide_password=False)

    killed = subprocess.run([sys.executable, "-c", _KILLED, url, place, what], check=False)

    assert killed.returncode == -9
    assert not storage.exists(uri)
    assert world.job(job_id).image == uri
    if what == "owner":
        assert erase_owner(world.engine, "anna", storage=storage).jobs == 1
    else:
        told = Broom(world.engine, storage).sweep(Policy(**{what: DAY}))
        assert told[what].jobs == 1
    assert world.count() == (1 if what == "results" else 0)
    world.engine.dispose()


def test_everything_of_an_owner_goes_and_nothing_of_others(world: World, storage: Storage) -> None:
    mine = [finished(world, storage, days, owner="anna") for days in (0, 31)]
    dropped, source = cancelled(world, storage, 0, owner="anna")
    other = finished(world, storage, 31, owner="bert")
    world.do(turns.set_weight, "anna", 3.0)
    world.do(turns.set_weight, "bert", 3.0)
    uris = [str(world.job(one).image) for one in mine]
    orphan = storage.put(f"results/{mine[0]}/image-99.png", b"of a worker that died")

    planned = erase_owner(world.engine, "anna", storage=storage, dry_run=True)
    assert planned == Purged(jobs=3, files=3, size=8 + len(picture()))
    assert world.count() == 4
    assert erase_owner(world.engine, "anna", storage=storage) == planned

    assert world.count() == 1
    assert world.count(schema.attempt) == 1
    assert world.events(dropped) == []
    assert not any(storage.exists(uri) for uri in [*uris, source, orphan])
    assert storage.exists(str(world.job(other).image))
    with world.engine.connect() as tx:
        assert turns.weights(tx) == {"bert": 3.0}
    assert erase_owner(world.engine, "anna", storage=storage) == Purged()


def test_an_owners_unfinished_jobs_are_refused_or_cancelled_first(
    world: World, storage: Storage
) -> None:
    finished(world, storage, 1, owner="anna")
    waiting = world.waiting(owner="anna").job_id
    queued = sent(world, storage, owner="anna")
    held = world.storing(owner="anna")
    world.do(ledger.not_stored, held, "too_large", "too large", world.settings, permanent=True)

    with pytest.raises(OwnerBusy) as refused:
        erase_owner(world.engine, "anna", storage=storage)
    assert set(refused.value.job_ids) == {waiting, queued, held.job_id}
    assert str(queued) in str(refused.value) or "…" in str(refused.value)
    assert world.count() == 4
    assert erase_owner(world.engine, "anna", storage=storage, cancel=True, dry_run=True).jobs == 4

    assert erase_owner(world.engine, "anna", storage=storage, cancel=True).jobs == 4
    assert world.count() == 0
    assert world.count(schema.event) == 0


def test_the_jobs_of_nobody_are_not_erased_as_an_owners(embedded: World, storage: Storage) -> None:
    with pytest.raises(InvalidInput, match="must be named"):
        erase_owner(embedded.engine, "", storage=storage)
