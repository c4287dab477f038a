"""Commands about jobs, on a database that is driven by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert

from cutwork import ledger, schema
from cutwork.cli.ids import short
from cutwork.states import State
from cutwork.storage import Storage
from tests.tables import job_values
from tests.test_purging import finished
from tests.world import KEY_ID, World, done, failed

Command = Callable[..., Any]
PHOTOGRAPHS = Path(__file__).parents[2] / "cutwork" / "cli" / "photographs"
COFFEE = PHOTOGRAPHS / "coffee.png"


def add(world: World, job_id: str, state: State = State.QUEUED) -> UUID:
    values = job_values(state, due=60) | {"id": UUID(job_id)}
    with world.engine.begin() as tx:
        tx.execute(insert(schema.job).values(values))
    return UUID(job_id)


def broken(world: World) -> UUID:
    """A job that failed, and whose retry is paid for again."""
    ticket = world.waiting()
    world.learn(ticket, failed())
    return ticket.job_id


def test_enqueue_prints_the_id_of_each_picture_in_order(command: Command, world: World) -> None:
    said = command("enqueue", COFFEE, "http://example.com/a.png", "--type", "object")

    first, second = map(UUID, said.lines)
    assert world.job(first).request["image_file"]["width"] == 600
    assert world.job(second).request["image_url"] == "http://example.com/a.png"
    assert world.job(first).request["type"] == "object"


def test_enqueue_passes_every_option_on(command: Command, world: World) -> None:
    said = command(
        "enqueue", COFFEE, "--type", "stamp", "--output-type", "1", "--crop", "--format", "jpg",
        "--bg-color", "#FF0000", "--key", "order-1", "--priority", "1", "--owner", "shop", "--json",
    )  # fmt: skip

    (told,) = json.loads(said.out)
    request = told["request"]
    assert (told["owner"], told["priority"], told["idempotency_key"]) == ("shop", 1, "order-1")
    assert (request["type"], request["output_type"], request["crop"]) == ("stamp", 1, True)
    assert (request["format"], request["bg_color"]) == ("jpg", "ff0000")
    assert set(told) == set(world.job(UUID(told["id"])).to_json())


@pytest.mark.usefixtures("world")
def test_the_same_key_gives_the_same_job(command: Command) -> None:
    first = command("enqueue", COFFEE, "--key", "k").out

    assert command("enqueue", COFFEE, "--key", "k").out == first
    other = command("enqueue", PHOTOGRAPHS / "astronaut.png", "--key", "k")
    assert other.status == 1
    assert "use a new key" in other.err


def test_a_picture_may_come_from_standard_input(spoken: Command, world: World) -> None:
    with COFFEE.open("rb") as picture:
        said = spoken("enqueue", "-", stdin=picture)

    assert world.job(UUID(said.out.strip())).request["image_file"]["format"] == "png"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["nix.png"], "image_file must name a file that exists, got 'nix.png'"),
        (["."], "not a directory"),
        (["text.png"], "text.png: image_file must be a jpg, png, bmp, webp or tiff picture"),
        (["ftp://example.com/a.png"], "image_url must start with http:// or https://"),
        (["http://example.com/a.png", "--type", "persn"], "did you mean 'person'?"),
        (["http://example.com/a.png", "--output-type", "4"], "output_type must be 1"),
        (["http://example.com/a.png", "--bg-color", "ffffff"], "set format='jpg'"),
        (["http://example.com/a.png", "--priority", "10"], "priority must be a whole number"),
        (["http://a.com/a.png", "http://a.com/b.png", "--key", "k"], "--key goes with one"),
    ],
)
def test_a_bad_picture_or_option_is_one_sentence_and_no_job(
    command: Command, world: World, home: Path, words: list[str], fault: str
) -> None:
    (home / "text.png").write_text("not a picture")

    said = command("enqueue", *words)

    assert said.status == 2
    assert fault in said.err
    assert said.err.count("\n") == 1
    assert world.count() == 0


def test_one_broken_picture_keeps_its_neighbours_out(
    command: Command, world: World, home: Path
) -> None:
    (home / "half.png").write_bytes(COFFEE.read_bytes()[:20_000])

    said = command("enqueue", COFFEE, "half.png")

    assert said.status == 2
    assert "half.png" in said.err
    assert world.count() == 0
    assert not [one for one in (home / ".cutwork" / "files").rglob("*") if one.is_file()]


@pytest.mark.usefixtures("world")
def test_waiting_ends_with_the_time_that_was_given(command: Command) -> None:
    said = command("enqueue", "http://example.com/a.png", "--wait", "--timeout", "0.1")

    assert said.status == 1
    assert "is still queued after 0.1 s: it goes on" in said.err


def test_waiting_for_a_job_that_is_over_says_how_it_ended(command: Command, world: World) -> None:
    job_id = broken(world)
    command("enqueue", "http://example.com/a.jpg", "--key", "k")
    ticket = world.claim(world.release()[0])
    world.learn(ticket, failed())

    said = command("enqueue", "http://example.com/a.jpg", "--key", "k", "--wait")

    assert said.status == 1
    assert said.out == ""
    assert f"job {short(ticket.job_id)} failed (" in said.err
    assert short(job_id) not in said.err


def test_list_shows_the_newest_first_and_filters(command: Command, world: World) -> None:
    old, new = world.enqueue(), world.enqueue(owner="shop")
    over = world.succeeded()

    def ids(*words: str) -> list[str]:
        return [one["id"] for one in json.loads(command("list", "--json", *words).out)]

    assert ids() == [str(over), str(new), str(old)]
    assert ids("--owner", "shop") == [str(new)]
    assert ids("--state", "succeeded", "--state", "failed") == [str(over)]
    assert ids("--limit", "1") == [str(over)]
    assert short(new) in command("list").out


def test_show_has_the_names_of_the_library(command: Command, world: World) -> None:
    job_id = world.succeeded()

    assert json.loads(command("show", str(job_id), "--json").out) == world.job(job_id).to_json()
    assert "succeeded" in command("show", short(job_id)).out


def test_a_job_is_named_by_its_beginning_or_its_end(command: Command, world: World) -> None:
    job_id = add(world, "01a20913-f62b-76e4-aefa-9bf4a9bb322c")
    add(world, "01a20914-f62b-76e4-aefa-9bf58f9c322d")

    for text in ("01a20913", "01A20913-f6", "322c", "a9bb322c", str(job_id)):
        assert f"job          {job_id}" in command("show", text).out


def test_an_id_that_fits_several_jobs_lists_them(command: Command, world: World) -> None:
    add(world, "01a20913-f62b-76e4-aefa-9bf4a9bb322c")
    add(world, "01a20914-f62b-76e4-aefa-9bf58f9c322d")

    said = command("show", "01a2")

    assert said.status == 2
    assert "fits more than one job" in said.err
    assert "write one of 8f9c322d, a9bb322c" in said.err


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("text", "status", "fault"),
    [
        ("beef", 1, "there is no job beef"),
        ("01a20913-f62b-76e4-aefa-9bf4a9bb322c", 1, "there is no job 01a20913"),
        ("abc", 2, "at least 4 hex digits"),
        ("what", 2, "at least 4 hex digits"),
        ("%%%%", 2, "at least 4 hex digits"),
    ],
)
def test_an_unknown_job_is_one_sentence(
    command: Command, text: str, status: int, fault: str
) -> None:
    for verb in ("show", "explain", "cancel", "retry"):
        said = command(verb, text)

        assert said.status == status
        assert fault in said.err
        assert said.err.count("\n") == 1


def test_cancel_takes_all_or_none(command: Command, world: World) -> None:
    first, second, over = world.enqueue(), world.enqueue(), world.succeeded()

    refused = command("cancel", short(first), short(over))
    assert refused.status == 1
    assert f"cannot cancel job {over}: it is succeeded" in refused.err
    assert world.state(first) is State.QUEUED

    assert command("cancel", short(first), short(second)).status == 0
    assert world.state(first) is world.state(second) is State.CANCELLED


def test_retry_says_of_each_job_whether_it_is_paid_for_again(
    command: Command, world: World
) -> None:
    paid, held = broken(world), world.storing()
    world.do(
        ledger.not_stored, held, "too_large", "it is too large", world.settings, permanent=True
    )

    said = command("retry", short(paid), short(held.job_id))

    assert f"{short(paid)} is sent, and paid for, again" in said.out
    assert f"{short(held.job_id)} its result is fetched, for free" in said.out
    assert world.state(paid) is State.QUEUED
    assert world.state(held.job_id) is State.STORING


def test_retrying_all_failed_jobs_pays_only_when_told_so(command: Command, world: World) -> None:
    jobs = [broken(world), broken(world)]

    refused = command("retry", "--failed")
    assert refused.status == 2
    assert "would pay again for 2 of them" in refused.err
    assert all(world.state(one) is State.FAILED for one in jobs)

    told = json.loads(command("retry", "--failed", "--yes", "--json").out)
    assert {one["id"] for one in told} == {str(one) for one in jobs}
    assert all(one["paid_again"] and one["state"] == "queued" for one in told)
    assert "There are no failed jobs." in command("retry", "--failed").err


@pytest.mark.usefixtures("world")
def test_retry_wants_ids_or_failed_and_not_both(command: Command) -> None:
    assert command("retry").status == 2
    assert command("retry", "abcd", "--failed").status == 2


@pytest.mark.usefixtures("world")
def test_pause_and_resume_every_key_or_one(command: Command) -> None:
    assert command("pause").out == f"key {KEY_ID} is paused\n"
    assert command("pause", "--key", KEY_ID).out == f"key {KEY_ID} was paused already\n"
    assert "paused (paused by an operator)" in command("doctor", "--local").out
    assert command("resume").out == f"key {KEY_ID} is open\n"
    assert command("resume").out == f"key {KEY_ID} was open already\n"


@pytest.mark.usefixtures("world")
def test_an_api_token_given_as_a_keys_name_is_not_shown(command: Command) -> None:
    said = command("pause", "--key", "sk-very-secret")

    assert said.status == 2
    assert "very-secret" not in said.err
    assert KEY_ID in said.err


def test_stats_count_what_there_is(command: Command, world: World) -> None:
    world.succeeded()
    world.enqueue()

    told = json.loads(command("stats", "--json").out)

    assert (told["jobs"]["succeeded"], told["jobs"]["queued"]) == (1, 1)
    assert (told["charges"], told["second_charges"], told["uncertain"]) == (1, 0, 0)
    assert told["shares"] == {"callback": 1.0}
    assert [one["condition"] for one in told["keys"]] == ["open"]
    assert "charges: 1, beyond a job's first: 0" in command("stats").out


def test_explain_ends_with_what_comes_next(command: Command, world: World) -> None:
    ticket = world.waiting()

    said = command("explain", short(ticket.job_id))

    assert "task task-1" in said.out
    assert said.lines[-1].startswith("A callback completes it; else the provider is asked in ")
    told = json.loads(command("explain", short(ticket.job_id), "--json").out)
    assert [one["what"] for one in told["timeline"]] == ["enqueued", "intent", "post", "reply"]


def test_purge_counts_first_and_deletes_then(command: Command, world: World, home: Path) -> None:
    job_id = UUID(command("enqueue", COFFEE).out.strip())
    command("cancel", short(job_id))
    (picture,) = (home / ".cutwork" / "files" / "inputs").iterdir()

    counted = f"jobs 1, files 1, bytes {COFFEE.stat().st_size}\n"
    would = command("purge", "--older-than", "0s", "--dry-run").out
    assert would == f"jobs older than 0 s: would be deleted: {counted}"
    assert picture.exists()

    assert command("purge", "--inputs", "0s").out == f"inputs older than 0 s: deleted: {counted}"
    assert not picture.exists()
    assert "source picture was deleted" in command("retry", short(job_id)).err
    told = json.loads(command("purge", "--older-than", "0s", "--json").out)
    assert (told["jobs"]["jobs"], told["jobs"]["files"], told["dry_run"]) == (1, 0, False)
    assert world.count() == 0


def test_a_job_whose_results_were_deleted_says_so_wherever_it_is_shown(
    command: Command, world: World, home: Path
) -> None:
    storage = Storage.at((home / ".cutwork" / "files").as_uri())
    job_id = finished(
        world, storage, 1, image_url="https://shop.example/a.jpg", idempotency_key="k"
    )
    path = home / ".cutwork" / "files" / "results" / str(job_id) / "image.png"
    assert str(path) in command("show", short(job_id)).out

    said = command("purge", "--results", "1h").out
    assert said == "results older than 60 min: deleted: jobs 1, files 1, bytes 4\n"

    assert not path.exists()
    shown = command("show", short(job_id)).out
    assert "deleted 20" in shown
    assert str(path) not in shown
    asked = command("enqueue", "https://shop.example/a.jpg", "--key", "k", "--wait")
    assert (asked.status, asked.out) == (0, "")
    assert f"the image of job {short(job_id)} was deleted from storage" in asked.err
    assert "purged" in command("explain", short(job_id)).out


def test_purge_goes_by_the_settings_or_says_what_is_missing(
    command: Command, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = UUID(command("enqueue", COFFEE, "--owner", "anna").out.strip())
    command("cancel", short(job_id))

    asked = command("purge")
    assert asked.status == 2
    assert "nothing says what to delete" in asked.err
    assert command("purge", "--owner", "anna", "--inputs", "1d").status == 2
    assert command("purge", "--cancel").status == 2
    monkeypatch.setenv("CUTWORK_KEEP_JOBS", "30d")
    assert command("purge").out == "jobs older than 30 d: deleted: jobs 0, files 0, bytes 0\n"
    assert world.count() == 1


def test_purge_deletes_all_of_an_owner_once_nothing_is_unfinished(
    command: Command, world: World
) -> None:
    job_id = world.enqueue(owner="anna")

    refused = command("purge", "--owner", "anna")
    assert refused.status == 1
    assert str(job_id) in refused.err
    assert "cancel them first (--cancel)" in refused.err
    said = command("purge", "--owner", "anna", "--cancel")
    assert said.out == "owner anna: deleted: jobs 1, files 0, bytes 0\n"
    assert world.count() == 0


def test_stats_money_lists_days_and_second_charges(command: Command, world: World) -> None:
    first = world.uncertain()
    world.ring(first.job_id)
    world.do(ledger.settle, world.settings)
    world.learn(world.next_attempt(first.job_id), done("task-2"))
    world.learn(first, done("task-1"))

    said = command("stats", "--money").out
    told = json.loads(command("stats", "--money", "--json").out)

    assert short(first.job_id) in said
    assert "charged more than once" in said
    assert [day["charges"] for day in told["days"]] == [2]
    assert told["second_charges"] == [{"job": str(first.job_id), "attempts": [1, 2]}]


def test_owners_are_listed_and_weighed(command: Command, world: World) -> None:
    world.enqueue(owner="small")
    world.enqueue()

    assert command("owners", "small", "--weight", "3").status == 0
    told = json.loads(command("owners", "--json").out)

    assert sorted(told, key=lambda one: one["owner"]) == [
        {"owner": "", "queued": 1, "weight": 1.0},
        {"owner": "small", "queued": 1, "weight": 3.0},
    ]
    assert "(none)" in command("owners").out
    assert command("owners", "small").status == 2
    assert "weight must be from" in command("owners", "small", "--weight", "0").err
