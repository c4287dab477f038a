"""The overview and a job's own page: counts, the last hours, the story, and the pictures."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image
from sqlalchemy import update

from cutwork import ledger, schema
from cutwork.console import counting, gallery, rendering, sparkline, trends
from cutwork.console.app import Console
from cutwork.console.gallery import Gallery, Piece, shrink
from cutwork.console.recent import Recent
from cutwork.states import State
from cutwork.storage import Storage
from tests.console.client import Client
from tests.console.conftest import Enter
from tests.console.test_console_jobs import held
from tests.house import picture
from tests.tables import add_job
from tests.world import RESULT, World, failed

each_database_is_not_needed = pytest.mark.parametrize("kind", ["sqlite"])


def cut_out(world: World, **options: Any) -> UUID:
    """A job with pictures in storage: a red one before, a see-through one after."""
    source = picture("red", (300, 200))
    given = {"image_file": source, "settings": world.settings, "image_url": None, **options}
    ticket = world.storing(**given)
    made = Image.new("RGBA", (300, 200))
    made.paste((255, 0, 0, 255), (100, 50, 200, 150))
    out = BytesIO()
    made.save(out, "PNG")
    storage = Storage.at(world.settings.storage)
    uri = storage.put(f"results/{ticket.job_id}/image.png", out.getvalue())
    facts = {**RESULT["files"]["image"], "uri": uri, "width": 300, "height": 200}
    world.do(ledger.stored, ticket, {**RESULT, "files": {"image": facts}}, world.settings)
    return ticket.job_id


def addresses(text: str, size: str) -> dict[str, str]:
    """Name → address of each picture of a page, of this size."""
    found = re.findall(rf'(?:src|href)="(/jobs/[0-9a-f-]+/(\w+)/{size}\?v=\w+)"', text)
    return {name: address for address, name in found}


def test_the_overview_counts_each_state_and_says_how_old(world: World, person: Enter) -> None:
    world.enqueue()
    world.succeeded()
    held(world)

    words = person().get("/").words

    assert re.search(r"\b1 queued oldest \d+\b", words)
    assert re.search(r"\b1 held oldest \d+\b", words)
    assert "1 succeeded" in words
    assert "0 failed" in words


def test_many_are_counted_up_to_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST", 3)
    monkeypatch.setattr(counting, "_LOOKED", 6)
    monkeypatch.setattr(counting, "MOST_UNFINISHED", 4)
    with world.engine.begin() as tx:
        for state, number in ((State.SUCCEEDED, 5), (State.HELD, 3), (State.FAILED, 4)):
            for _ in range(number):
                add_job(tx, state)
        for _ in range(5):
            add_job(tx, State.QUEUED, due=0)
        counted = counting.count(tx).jobs

    assert str(counted[State.QUEUED]) == "4+"
    assert str(counted[State.FAILED]) == "3+"
    assert str(counted[State.HELD]) == "3"
    assert str(counted[State.SUCCEEDED]).endswith("+")
    assert str(counted[State.WAITING]) == "0"


def test_the_last_hours_are_told_by_the_time_of_the_submit(world: World, person: Enter) -> None:
    called, other, paid = world.succeeded(), world.waiting(), world.succeeded()
    world.learn(other, failed(), via="poll")
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    with world.engine.begin() as tx:
        then = update(schema.attempt).where(schema.attempt.c.job_id == paid)
        tx.execute(then.values(intended_at=long_ago))
        took = update(schema.job).where(schema.job.c.id == called)
        made = schema.job.c.finished_at
        tx.execute(
            took.values(created_at=datetime.now(UTC) - timedelta(seconds=30), finished_at=made)
        )

    with world.engine.connect() as tx:
        steps = trends.read(tx)

    *_, last = [step for step in steps if step.charges or step.called is not None]
    assert [step.charges for step in steps if step.charges] == [1, 1]
    assert last.called == 0.5
    assert last.latency == pytest.approx(30, abs=5)
    assert steps[0].called is None
    assert len(steps) == trends.STEPS
    page = person().get("/")
    assert 'aria-label="Charges: 1 in ten minutes at last, from 0 to 1; 2 in all"' in page.text
    assert "6 h ago now from 0 to 1; 2 in all" in page.words


def test_what_was_cut_off_in_counting_is_said_to_whoever_sees_it(
    world: World, person: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trends, "_LOOKED", 1)
    world.succeeded()

    words = person().get("/").words

    assert "from 0 to 1; 1 in all (more than could be counted)" in words


def test_what_is_counted_is_counted_once_for_all_who_come() -> None:
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        return len(calls)

    recent = Recent(count, 60)
    assert [recent.get(), recent.get()] == [1, 1]
    recent.forget()
    assert recent.get() == 2
    assert [Recent(count, 0.0).get() for _ in range(2)] == [3, 4]


def test_a_line_has_gaps_where_nothing_is_known() -> None:
    drawn = sparkline.draw([None, 1.0, 2.0, None, 4.0], "<told>", top=4.0)

    assert drawn.count("<polyline") == 2
    assert 'aria-label="&lt;told&gt;"' in drawn
    assert "style=" not in drawn
    assert "<circle" not in sparkline.draw([None, None], "nothing")


def test_a_jobs_page_tells_its_story(world: World, person: Enter) -> None:
    job_id = cut_out(world, idempotency_key="order-1", owner="shop 1", meta={"order": 1})

    page = person().get(f"/jobs/{job_id}")

    for told in (
        "It succeeded; its files are stored", "enqueued", "intent", "attempt 1 was charged",
        "order-1", "shop 1", '"order": 1', "png, 300x200", str(job_id), "task-1",
    ):  # fmt: skip
        assert told in page.words, told
    assert "signature=secret" not in page.text
    assert "data-compare" in page.text


def test_what_will_never_be_made_is_not_awaited(world: World, person: Enter) -> None:
    given: dict[str, Any] = {"image_file": picture(), "image_url": None}
    waiting, over = (world.waiting(settings=world.settings, **given) for _ in range(2))
    world.learn(over, failed(), via="poll")
    client = person()

    pages = [client.get(f"/jobs/{one.job_id}").words for one in (waiting, over)]

    assert "Not made yet" in pages[0]
    assert "Not made" in pages[1]
    assert "Not made yet" not in pages[1]


def test_a_job_that_is_not_there_is_said_to_be_gone(person: Enter) -> None:
    reply = person().get("/jobs/00000000-0000-0000-0000-000000000000")

    assert reply.status == 404
    assert "no such job any more" in reply.words


def test_an_address_is_shown_without_its_query_and_not_fetched(world: World, person: Enter) -> None:
    job_id = world.enqueue(image_url="https://shop.example/a.jpg?signature=secret")

    page = person().get(f"/jobs/{job_id}")

    assert "https://shop.example/a.jpg" in page.words
    assert "signature" not in page.text
    assert addresses(page.text, r"\w+") == {}
    assert person().get(f"/jobs/{job_id}/source/thumb").status == 404


@each_database_is_not_needed
def test_small_pictures_are_made_from_storage_and_may_be_kept(world: World, person: Enter) -> None:
    client = person()
    job_id = cut_out(world)
    thumbs = addresses(client.get("/jobs").text, "thumb")
    previews = addresses(client.get(f"/jobs/{job_id}").text, "preview")

    assert thumbs.keys() == previews.keys() == {"source", "image"}
    for name, address in thumbs.items():
        reply = client.get(address)
        assert reply.headers["content-type"] == "image/webp"
        assert reply.headers["cache-control"] == "private, max-age=31536000, immutable"
        small = Image.open(BytesIO(reply.body))
        assert small.size == (160, 107)
        assert small.mode == ("RGBA" if name == "image" else "RGB")
        again = client.get(address, **{"If-None-Match": reply.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
    shown = Image.open(BytesIO(client.get(previews["image"]).body))
    assert shown.size == (300, 200)
    assert shown.getpixel((5, 5))[3] == 0  # type: ignore[index]
    assert client.get(thumbs["image"].replace("thumb", "huge")).status == 404


@each_database_is_not_needed
def test_a_whole_picture_is_the_file_itself_under_a_harmless_type(
    world: World, person: Enter
) -> None:
    client, job_id = person(), cut_out(world)
    address = addresses(client.get(f"/jobs/{job_id}").text, "whole")["image"]

    reply = client.get(address)

    stored = Storage.at(world.settings.storage).get(str(world.job(job_id).image))
    assert reply.body == stored
    assert reply.headers["content-type"] == "image/png"
    assert int(reply.headers["content-length"]) == len(stored)
    name = f"{job_id.hex[-8:]}-image.png"
    assert reply.headers["content-disposition"] == f'inline; filename="{name}"'
    assert "sandbox" in reply.headers["content-security-policy"]
    assert client.send("HEAD", address).body == b""
    assert client.get(address, **{"If-None-Match": reply.headers["etag"]}).status == 304


def test_what_is_no_picture_is_downloaded_and_never_shown(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path.as_uri())
    uri = storage.put("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    made = Gallery(storage, 1000)
    piece = Piece(uri, "svg", 1, 1, "0" * 64, 10)

    whole = made.whole(piece, "a", "")
    assert whole.kind == "application/octet-stream"
    assert ("Content-Disposition", 'attachment; filename="a.svg"') in whole.headers()
    whole.body.close()  # type: ignore[union-attr]
    assert made.small(piece, "thumb", "").status == "404 Not Found"
    gone = replace(piece, uri=storage.uri("gone.png"), format="png")
    assert (
        made.small(gone, "thumb", "").status == made.whole(gone, "a", "").status == "404 Not Found"
    )
    elsewhere = replace(piece, uri="file:///etc/passwd", format="png")
    assert made.whole(elsewhere, "a", "").status == "404 Not Found"


def test_a_picture_that_claims_too_much_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery.pictures, "MAX_RESULT_PIXELS", 100)
    assert shrink(picture("red", (11, 10)), 160) is None
    assert shrink(picture("red", (10, 10)), 160) is not None
    assert shrink(picture("red", (10, 10))[:40], 160) is None
    assert shrink(b"GIF89a" + bytes(100), 160) is None


def test_the_memory_of_small_pictures_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.at(tmp_path.as_uri())
    made = Gallery(storage, 10**6)
    sizes = []
    for number in range(6):
        uri = storage.put(f"{number}.png", picture(f"#{number}{number}0000", (40, 40)))
        piece = Piece(uri, "png", 40, 40, f"{number}" * 64, 100)
        body = made.small(piece, "thumb", "").body
        assert isinstance(body, bytes)
        sizes.append(len(body))
        monkeypatch.setattr(gallery, "_KEPT", 3 * max(sizes))
    assert made._size <= 3 * max(sizes)
    assert made._size == sum(map(len, made._kept.values()))


def test_times_and_sizes_are_written_as_people_read_them() -> None:
    at = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

    told = [rendering.duration(seconds) for seconds in (0.04, 9.96, 50, 150, 7300, 200_000, None)]
    assert told == ["0.0 s", "10.0 s", "50 s", "2 min", "2 h", "2 d", "none"]
    assert [rendering.size(count) for count in (999, 34_400, 1_250_000)] == [
        "999 bytes", "34 kB", "1.2 MB",
    ]  # fmt: skip
    assert rendering.ago(at - timedelta(hours=3), at).endswith(">3 h</time>")
    assert "2026-03-01 12:00:00 UTC" in rendering.moment(at)
    assert rendering.clock(at + timedelta(hours=11), at).endswith(">23:00:00</time>")
    assert rendering.clock(at + timedelta(hours=12), at).endswith(">03-02 00:00:00</time>")
    assert [rendering.since(seconds) for seconds in (0.04, 7199, 90_000)] == [
        "+0.0 s", "+7199.0 s", "+25 h",
    ]  # fmt: skip


@each_database_is_not_needed
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", "The database does not answer."),
        ("sqlite://{}/empty.db", "The database has no cutwork tables"),
    ],
)
def test_a_database_that_is_away_or_empty_is_said_to_be(
    world: World, tmp_path: Path, url: str, told: str
) -> None:
    settings = replace(world.settings, database_url=url.format(f"/{tmp_path}"))
    client = Client(Console(settings))
    client.log_in()

    reply = client.get("/jobs")
    client.close()

    assert reply.status == 503
    assert told in reply.words


@each_database_is_not_needed
def test_a_statement_that_fails_is_not_blamed_on_the_connection(
    world: World, person: Enter
) -> None:
    client = person()
    with world.engine.begin() as tx:
        tx.exec_driver_sql("ALTER TABLE cutwork_job RENAME TO cutwork_job_gone")

    reply = client.get("/jobs")
    with world.engine.begin() as tx:
        tx.exec_driver_sql("ALTER TABLE cutwork_job_gone RENAME TO cutwork_job")

    assert reply.status == 503
    assert "The database did not do what it was asked." in reply.words


@each_database_is_not_needed
def test_the_static_files_are_all_served_and_each_is_named_by_its_content(
    person: Enter,
) -> None:
    client = person()
    folder = Path(rendering.__file__).parent / "static"
    served = {
        path.name for path in folder.iterdir() if client.get(f"/static/{path.name}").status == 200
    }

    assert served == {"console.css", "console.js", "htmx.min.js", "icon.svg"}
    page = client.get("/").text
    assert rendering.address_of("console.css") in page
