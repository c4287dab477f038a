"""What an app calls, in its own transaction, on every database."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image
from sqlalchemy import create_engine, event, func, select
from sqlalchemy.orm import Session

import cutwork
from cutwork import database, schema
from cutwork.errors import (
    DatabaseNotReady,
    InvalidInput,
    JobNotFound,
    KeyConflict,
    StorageError,
)
from cutwork.intake import Intake
from cutwork.settings import Settings
from cutwork.states import State
from tests.world import SETTINGS, World

URL = "http://example.com/a.jpg"


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def stored(tmp_path: Path) -> Settings:
    """Settings whose storage is a folder of the test's own."""
    return replace(SETTINGS, storage_url=(tmp_path / "files").as_uri())


def picture(color: str = "red") -> bytes:
    out = BytesIO()
    Image.new("RGB", (40, 30), color).save(out, "PNG")
    return out.getvalue()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_committed_job_exists_and_a_rolled_back_one_does_not(world: World) -> None:
    with Session(world.engine) as session, session.begin():
        kept = cutwork.enqueue(session, image_url=URL)
    with Session(world.engine) as session:
        lost = cutwork.enqueue(session, image_url=URL)
        session.rollback()
    assert world.job(kept.id).state == State.QUEUED
    with pytest.raises(JobNotFound), world.engine.connect() as tx:
        cutwork.get(tx, lost.id)


def test_enqueue_does_not_commit_and_needs_one_statement_or_on_mariadb_two(world: World) -> None:
    sent: list[str] = []
    with world.engine.connect() as tx:
        tx.execute(select(1))
        event.listen(world.engine, "before_cursor_execute", lambda *facts: sent.append(facts[2]))
        cutwork.enqueue(tx, image_url=URL)
        assert len(sent) == (2 if tx.dialect.name in ("mysql", "mariadb") else 1)
        assert sent[-1].startswith("INSERT INTO cutwork_job")
        tx.rollback()
    assert world.count() == 0


def test_a_new_key_costs_no_statement_more_or_on_mariadb_one(world: World) -> None:
    sent: list[str] = []
    with world.engine.connect() as tx:
        event.listen(world.engine, "before_cursor_execute", lambda *facts: sent.append(facts[2]))
        cutwork.enqueue(tx, image_url=URL, idempotency_key="k")
        sent = [one for one in sent if "cutwork" in one]
        assert len(sent) == (3 if tx.dialect.name in ("mysql", "mariadb") else 1)
        tx.rollback()


def test_a_job_reads_back_as_it_was_asked(world: World) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    with world.engine.begin() as tx:
        made = cutwork.enqueue(
            tx,
            image_url=URL,
            type="person",
            output_type=1,
            crop=True,
            format="jpg",
            bg_color="#FF0000",
            owner="shop",
            priority=2,
            not_before=later,
            meta={"order": [1, "é"]},
            on_uncertain="hold",
            idempotency_key="order-1",
        )
    job = world.job(made.id)
    assert job.request["bg_color"] == "ff0000"
    assert (job.owner, job.priority, job.meta) == ("shop", 2, {"order": [1, "é"]})
    assert job.due_at == later
    assert job.idempotency_key == "order-1"
    assert world.release() == []
    assert job.to_json()["id"] == str(made.id)


def test_the_same_key_gives_the_same_job(world: World) -> None:
    with world.engine.begin() as tx:
        first = cutwork.enqueue(tx, image_url=URL, idempotency_key="k")
        same = cutwork.enqueue(tx, image_url=URL, idempotency_key="k")
    with world.engine.begin() as tx:
        again = cutwork.enqueue(tx, image_url=URL, idempotency_key="k")
        other_owner = cutwork.enqueue(tx, image_url=URL, idempotency_key="k", owner="b")
        other_case = cutwork.enqueue(tx, image_url=URL, idempotency_key="K")
    assert first.id == same.id == again.id
    assert len({first.id, other_owner.id, other_case.id}) == 3


def test_the_same_key_for_something_else_is_an_error_that_says_what(world: World) -> None:
    with world.engine.begin() as tx:
        cutwork.enqueue(tx, image_url=URL, idempotency_key="k")
        with pytest.raises(KeyConflict, match="differs in: crop, type") as caught:
            cutwork.enqueue(tx, image_url=URL, idempotency_key="k", crop=True, type="stamp")
    assert caught.value.differs == ["crop", "type"]


def test_a_conflict_among_many_leaves_none_of_them(world: World) -> None:
    requests = [cutwork.Segmentation(image_url=f"{URL}?{n}") for n in range(3)]
    with world.engine.begin() as tx:
        known = cutwork.enqueue(tx, image_url=URL, idempotency_key="b").id
        with pytest.raises(KeyConflict):
            cutwork.enqueue_many(tx, requests, idempotency_keys=["a", "b", "c"])
    with world.engine.connect() as tx:
        assert list(tx.execute(select(schema.job.c.id)).scalars()) == [known]


def test_a_known_job_that_is_purged_meanwhile_makes_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Intake._look_up

    def purged_just_now(self: Intake, keys: Any, *, again: bool = False) -> Any:
        found = real(self, keys, again=again)
        if again and found:
            monkeypatch.undo()
            self.tx.execute(schema.job.delete())
            return {}
        return {} if not again else found

    with world.engine.begin() as tx:
        first = cutwork.enqueue(tx, image_url=URL, idempotency_key="a").id
        monkeypatch.setattr(Intake, "_look_up", purged_just_now)
        second = cutwork.enqueue(tx, image_url=URL, idempotency_key="a").id
    with world.engine.connect() as tx:
        assert list(tx.execute(select(schema.job.c.id)).scalars()) == [second]
    assert first != second


def test_a_conflict_also_takes_back_what_a_purge_made_room_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Intake._look_up

    def one_purged_just_now(self: Intake, keys: Any, *, again: bool = False) -> Any:
        if not again:
            return {}
        monkeypatch.undo()
        self.tx.execute(schema.job.delete().where(schema.job.c.idempotency_key == "a"))
        return real(self, keys, again=True)

    requests = [cutwork.Segmentation(image_url=URL, crop=crop) for crop in (False, True)]
    with world.engine.begin() as tx:
        cutwork.enqueue(tx, image_url=URL, idempotency_key="a")
        known = cutwork.enqueue(tx, image_url=URL, idempotency_key="b").id
        monkeypatch.setattr(Intake, "_look_up", one_purged_just_now)
        with pytest.raises(KeyConflict):
            cutwork.enqueue_many(tx, requests, idempotency_keys=["a", "b"])
    with world.engine.connect() as tx:
        assert list(tx.execute(select(schema.job.c.id)).scalars()) == [known]


def test_two_transactions_with_one_key_at_once_make_one_job(database_url: str) -> None:
    world = World.at(database_url)
    gathered: list[UUID] = []
    together = threading.Barrier(4)

    def enqueue() -> None:
        together.wait()
        with world.engine.begin() as tx:
            gathered.append(cutwork.enqueue(tx, image_url=URL, idempotency_key="k").id)

    threads = [threading.Thread(target=enqueue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gathered) == 4
    assert len(set(gathered)) == 1
    assert world.count() == 1
    world.engine.dispose()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_key_that_committed_meanwhile_is_found_by_the_apps_own_transaction(
    kind: str, empty_database: Any
) -> None:
    world = World.at(empty_database(kind))
    # An app's engine, with its database's own isolation level: REPEATABLE READ on MariaDB.
    app = create_engine(world.engine.url)
    with app.connect() as tx:
        tx.execute(select(func.count()).select_from(schema.job))
        with world.engine.begin() as other:
            first = cutwork.enqueue(other, image_url=URL, idempotency_key="k")
        assert cutwork.enqueue(tx, image_url=URL, idempotency_key="k").id == first.id
        tx.rollback()
    app.dispose()
    world.engine.dispose()


def test_a_file_is_copied_to_storage_as_bytes_path_or_open_file(
    world: World, stored: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "shoe.png"
    path.write_bytes(picture())
    with world.engine.begin() as tx, path.open("rb") as file:
        jobs = [
            cutwork.enqueue(tx, image_file=source, settings=stored)
            for source in (path, str(path), picture(), file)
        ]
    for job in jobs:
        facts = world.job(job.id).request["image_file"]
        assert Path(facts["uri"].removeprefix("file://")).read_bytes() == picture()
        assert (facts["format"], facts["width"], facts["height"]) == ("png", 40, 30)


def test_a_broken_picture_writes_nothing(world: World, stored: Settings, tmp_path: Path) -> None:
    with world.engine.begin() as tx:
        with pytest.raises(InvalidInput, match="image_file"):
            cutwork.enqueue(tx, image_file=picture()[:-20], settings=stored)
        with pytest.raises(InvalidInput, match="image_file"):
            cutwork.enqueue(tx, image_file=b"<html></html>", settings=stored)
    assert world.count() == 0
    assert files_in(tmp_path) == []


def test_pictures_of_a_call_that_fails_are_not_left_behind(
    world: World, stored: Settings, tmp_path: Path
) -> None:
    requests = [cutwork.Segmentation(image_file=data) for data in (picture(), b"not a picture")]
    with world.engine.begin() as tx, pytest.raises(InvalidInput):
        cutwork.enqueue_many(tx, requests, settings=stored)
    assert world.count() == 0
    assert files_in(tmp_path / "files") == []


def test_pictures_of_rows_that_were_written_are_kept_when_a_later_thousand_fails(
    world: World, stored: Settings, tmp_path: Path
) -> None:
    good = [cutwork.Segmentation(image_file=picture())]
    good += [cutwork.Segmentation(image_url=f"{URL}?{n}") for n in range(999)]
    with world.engine.begin() as tx, pytest.raises(InvalidInput):
        cutwork.enqueue_many(
            tx, [*good, cutwork.Segmentation(image_file=b"broken")], settings=stored
        )
    assert world.count() == 1000
    assert len(files_in(tmp_path / "files")) == 1


def test_the_same_key_with_the_same_picture_stores_it_once(
    world: World, stored: Settings, tmp_path: Path
) -> None:
    with world.engine.begin() as tx:
        first = cutwork.enqueue(tx, image_file=picture(), idempotency_key="k", settings=stored)
        same = cutwork.enqueue(tx, image_file=picture(), idempotency_key="k", settings=stored)
        with pytest.raises(KeyConflict, match="differs in: image_file"):
            cutwork.enqueue(tx, image_file=picture("blue"), idempotency_key="k", settings=stored)
    assert first.id == same.id
    assert len(files_in(tmp_path / "files")) == 1


def test_a_storage_that_cannot_be_written_is_a_clear_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file where the folder should be")
    settings = replace(SETTINGS, storage_url=(tmp_path / "files").as_uri())
    with world.engine.begin() as tx, pytest.raises(StorageError):
        cutwork.enqueue(tx, image_file=picture(), settings=settings)
    assert world.count() == 0


def test_many_jobs_are_written_a_thousand_to_a_statement(world: World) -> None:
    sent: list[str] = []
    event.listen(world.engine, "before_cursor_execute", lambda *facts: sent.append(facts[2]))
    with world.engine.begin() as tx:
        requests = (cutwork.Segmentation(image_url=f"{URL}?{n}") for n in range(2500))
        ids = cutwork.enqueue_many(tx, requests, owner="bulk")
    assert len([one for one in sent if one.startswith("INSERT")]) == 3
    assert len(set(ids)) == 2500
    assert world.count() == 2500
    assert world.job(ids[2499]).request["image_url"] == f"{URL}?2499"


def test_many_jobs_with_keys_give_the_existing_ones_in_their_places(world: World) -> None:
    requests = [cutwork.Segmentation(image_url=f"{URL}?{n}") for n in (0, 1, 2, 1)]
    with world.engine.begin() as tx:
        known = cutwork.enqueue(tx, image_url=f"{URL}?1", idempotency_key="b").id
        ids = cutwork.enqueue_many(tx, requests, idempotency_keys=["a", "b", None, "b"])
    assert ids[1] == ids[3] == known
    assert len(set(ids)) == 3
    assert world.count() == 3


def test_too_few_keys_for_many_jobs_are_refused(world: World) -> None:
    requests = [cutwork.Segmentation(image_url=URL)] * 2
    with world.engine.begin() as tx, pytest.raises(InvalidInput, match="as many as the requests"):
        cutwork.enqueue_many(tx, requests, idempotency_keys=["a"])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"priority": 10}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": "1"}, "priority"),
        ({"owner": "x" * 65}, "owner"),
        ({"owner": "x "}, "owner"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "a\n"}, "idempotency_key"),
        ({"idempotency_key": "x" * 201}, "idempotency_key"),
        ({"on_uncertain": "pray"}, "on_uncertain"),
        ({"max_paid_attempts": 0}, "max_paid_attempts"),
        ({"not_before": datetime(2030, 1, 1)}, "not_before"),  # noqa: DTZ001 - the fault
        ({"meta": {1, 2}}, "meta"),
        ({"meta": float("nan")}, "meta"),
        ({"image_url": "ftp://x/y"}, "image_url"),
        ({"bg_color": "ffffff"}, "bg_color"),
        ({"type": "dog"}, "type"),
        ({"priorty": 1}, "priorty"),
    ],
)
def test_a_bad_option_names_itself_its_value_and_the_rule(
    options: dict[str, Any], field: str, empty_database: Any
) -> None:
    world = World.at(empty_database("sqlite"))
    with world.engine.begin() as tx, pytest.raises(InvalidInput) as caught:
        cutwork.enqueue(tx, **{"image_url": URL, **options})
    assert caught.value.field == field
    assert field in str(caught.value)
    assert world.count() == 0
    world.engine.dispose()


def test_enqueue_in_a_database_that_was_never_migrated_says_what_to_do(database_url: str) -> None:
    engine = database.engine(database_url)
    with engine.connect() as tx, pytest.raises(DatabaseNotReady, match="cutwork db upgrade"):
        cutwork.enqueue(tx, image_url=URL)
    engine.dispose()


def test_a_broker_that_is_down_does_not_concern_the_producer(world: World) -> None:
    settings = replace(SETTINGS, broker_url="amqp://127.0.0.1:1//")
    with world.engine.begin() as tx:
        job = cutwork.enqueue(tx, image_url=URL, settings=settings)
    assert world.release() == [job.id]


def test_a_text_that_is_no_id_names_no_job(world: World) -> None:
    with world.engine.connect() as tx, pytest.raises(JobNotFound):
        cutwork.get(tx, "shoe.jpg")


def test_cancel_and_retry_work_in_the_apps_own_session(world: World) -> None:
    job_id = world.enqueue()
    with Session(world.engine) as session, session.begin():
        cutwork.cancel(session, job_id)
    assert world.state(job_id) == State.CANCELLED
    with Session(world.engine) as session, session.begin():
        assert cutwork.retry(session, job_id, settings=SETTINGS) == State.QUEUED
    assert world.release() == [job_id]
