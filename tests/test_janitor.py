"""Each reconciler deletes what was kept long enough, and no alarm waits for it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from cutwork import schema
from cutwork.clock import after
from cutwork.errors import StorageError
from cutwork.storage import Storage
from cutwork.worker.janitor import Janitor
from tests.services.processes import Processes
from tests.services.waiting import run_until
from tests.test_purging import DAY, cancelled, finished
from tests.world import World

Made = Callable[..., Janitor]


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> Iterator[World]:
    made = World.at(empty_database(request.param))
    yield made
    made.engine.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at((tmp_path / "files").as_uri())


@pytest.fixture
def janitor(world: World, tmp_path: Path) -> Iterator[Made]:
    hired: list[Janitor] = []

    def make(**changes: Any) -> Janitor:
        chosen = {"storage_url": (tmp_path / "files").as_uri(), "purge_every": 1.0, **changes}
        hired.append(Janitor(world.engine, replace(world.settings, **chosen)))
        return hired[-1]

    yield make
    for one in hired:
        one.close()


def test_it_sweeps_by_itself(world: World, storage: Storage, janitor: Made) -> None:
    finished(world, storage, 31)
    finished(world, storage, 1)

    janitor(keep_jobs=30 * DAY).start()

    run_until(lambda: world.count() == 1, 10, "the old job goes")


def test_several_share_the_work_and_each_row_goes_once(
    world: World, storage: Storage, janitor: Made, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(8):
        finished(world, storage, 31)
    caplog.set_level("INFO", "cutwork")
    hands = [janitor(keep_jobs=DAY) for _ in range(3)]
    start = threading.Barrier(3)

    def sweep(one: Janitor) -> None:
        start.wait(10)
        one.run_once()

    threads = [threading.Thread(target=sweep, args=(one,)) for one in hands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert world.count() == 0
    told = [record.cutwork_fields for record in caplog.records if record.message == "purged"]
    assert sum(one["jobs"] for one in told) == 8


def test_without_a_policy_it_never_begins(janitor: Made) -> None:
    one = janitor()
    one.start()

    assert not [thread for thread in threading.enumerate() if thread.name == "janitor"]


def test_a_storage_that_is_away_is_said_and_tried_again(
    world: World, storage: Storage, janitor: Made, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    finished(world, storage, 31)
    one = janitor(keep_jobs=DAY)

    def away(_self: Storage, uri: str) -> None:
        raise StorageError(uri, "the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", away)
        assert one.run_once() > 0
    assert "not purged" in caplog.text
    assert world.count() == 1
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "at", lambda url: away(storage, url))
        assert janitor(keep_jobs=DAY).run_once() > 0
    assert "nothing purged" in caplog.text

    janitor(keep_jobs=DAY).run_once()
    assert world.count() == 0


def test_the_reconcilers_process_purges_and_its_alarms_do_not_wait(
    empty_database: Callable[[str], str], processes: Processes, tmp_path: Path
) -> None:
    world = World.at(empty_database("sqlite"))
    storage = Storage.at((tmp_path / "files").as_uri())
    old, uri = cancelled(world, storage, 31)
    due = world.submitting()
    with world.engine.begin() as tx:
        same = schema.job.c.id == due.job_id
        tx.execute(update(schema.job).where(same).values(due_at=after(-1)))
    environ = {
        "CUTWORK_HOME": str(tmp_path / "home"),
        "CUTWORK_DATABASE_URL": str(world.engine.url),
        "CUTWORK_STORAGE_URL": (tmp_path / "files").as_uri(),
        "CUTWORK_API_TOKENS": "test-key",
        "CUTWORK_KEEP_INPUTS": "30d",
        "CUTWORK_PURGE_EVERY": "1",
    }

    process = processes.start("cutwork", "reconciler", env=environ)

    process.wait_for_log("purged what=inputs jobs=1 files=1", 20)
    run_until(lambda: world.state(due.job_id) != "submitting", 10, "the alarm rings")
    assert not storage.exists(uri)
    assert world.job(old).input_purged_at is not None
    world.engine.dispose()
    process.stop()
    assert process.returncode == 0
