"""Retry, cancel, pause and resume: for one job, for many by their cause, and not at all."""

import re
from uuid import UUID

import pytest
from sqlalchemy import update

from cutwork import gate, jobs, schema
from cutwork.clock import now
from cutwork.console import deciding, troubles
from cutwork.states import State
from tests.console.client import Client
from tests.console.conftest import Enter
from tests.console.test_console_jobs import held
from tests.house import picture
from tests.world import KEY_ID, World, done, failed


def fails(world: World, state: int = -7) -> UUID:
    ticket = world.waiting()
    world.learn(ticket, failed(state))
    return ticket.job_id


def fields(text: str) -> dict[str, list[str]]:
    """The hidden fields of a page's last form."""
    form = text[text.rindex('<form method="post" action="/troubles/') :]
    form = form[: form.index("</form>")]
    told: dict[str, list[str]] = {}
    for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form):
        told.setdefault(name, []).append(value)
    return told


def ask(client: Client, verb: str, state: str, code: str) -> dict[str, list[str]]:
    client.get("/troubles")
    reply = client.post("/troubles/ask", {"verb": verb, "state": state, "code": code})
    assert reply.status == 200, reply.words
    return fields(reply.text)


def test_a_job_that_would_be_paid_for_again_says_so_and_is_sent(
    world: World, person: Enter
) -> None:
    job_id, client = fails(world), person()
    before = world.events(job_id)

    page = client.get(f"/jobs/{job_id}")

    assert "Retry, and pay again" in page.words
    assert (world.state(job_id), world.events(job_id)) == (State.FAILED, before)
    reply = client.post(f"/jobs/{job_id}/retry", {"agreed": "1"})
    assert reply.headers["location"] == f"/jobs/{job_id}?told=retried-1-0-0"
    assert world.state(job_id) is State.QUEUED
    assert "1 sent again: 1 paid for again" in client.get(reply.headers["location"]).words


def test_a_result_that_can_be_fetched_again_costs_nothing(world: World, person: Enter) -> None:
    ticket = world.waiting()
    world.learn(ticket, failed())
    world.do(jobs.retry, ticket.job_id, settings=world.settings)
    world.do(jobs.cancel, ticket.job_id)
    world.learn(ticket, done())  # a late success, kept on its attempt
    client = person()

    page = client.get(f"/jobs/{ticket.job_id}")

    assert "Fetch the result again, for free" in page.words
    assert client.post(f"/jobs/{ticket.job_id}/retry", {"agreed": "0"}).status == 303
    assert world.state(ticket.job_id) is State.STORING


def test_nobody_pays_who_was_told_that_it_is_free(world: World, person: Enter) -> None:
    job_id, client = fails(world), person()
    client.get(f"/jobs/{job_id}")

    reply = client.post(f"/jobs/{job_id}/retry", {"agreed": "0"})

    assert reply.status == 409
    assert "more of them would be paid for than you were told" in reply.words
    assert world.state(job_id) is State.FAILED
    again = client.post("/troubles/retry", fields(reply.text))
    assert again.status == 303
    assert world.state(job_id) is State.QUEUED


def test_a_job_is_cancelled_and_has_no_such_button_afterwards(world: World, person: Enter) -> None:
    job_id, client = world.enqueue(), person()
    assert "Cancel" in client.get(f"/jobs/{job_id}").words

    assert client.post(f"/jobs/{job_id}/cancel").status == 303

    assert world.state(job_id) is State.CANCELLED
    assert ">Cancel<" not in client.get(f"/jobs/{job_id}").text


def test_a_job_that_went_on_meanwhile_is_left_alone(world: World, person: Enter) -> None:
    job_id, client = world.succeeded(), person()
    client.get("/")

    reply = client.post(f"/jobs/{job_id}/cancel")

    assert reply.headers["location"].endswith("?told=cancelled-0-0-1")
    assert "1 could not be" in client.get(reply.headers["location"]).words
    assert world.state(job_id) is State.SUCCEEDED


def test_a_job_whose_picture_was_deleted_cannot_be_sent_again(world: World, person: Enter) -> None:
    given = {"image_file": picture(), "image_url": None, "settings": world.settings}
    gone, other, client = held(world, **given), held(world), person()
    with world.engine.begin() as tx:
        own = update(schema.job).where(schema.job.c.id == gone)
        tx.execute(own.values(input_purged_at=now()))

    page = client.get(f"/jobs/{gone}")

    assert "It cannot be sent again: its picture was deleted." in page.words
    assert "/retry" not in page.text
    assert "/source/" not in page.text
    form = ask(client, "retry", "held", "uncertain")
    assert form["agreed"] == ["1"]
    reply = client.post("/troubles/retry", form)
    assert reply.headers["location"] == "/troubles?told=retried-1-0-1"
    assert (world.state(gone), world.state(other)) == (State.HELD, State.QUEUED)


def test_troubles_are_grouped_by_their_cause(world: World, person: Enter) -> None:
    for _ in range(3):
        held(world)
    fails(world, -7)
    fails(world, -5)
    world.enqueue()

    with world.engine.connect() as tx:
        told = troubles.read(tx)

    assert [(one.jobs, one.state, one.code) for one in told.causes] == [
        (3, "held", "uncertain"),
        (1, "failed", told.causes[1].code),
        (1, "failed", told.causes[2].code),
    ]
    assert {one.code for one in told.causes[1:]} == {"provider_-7", "provider_-5"}
    assert told.more == []
    words = person().get("/troubles").words
    assert "3 held uncertain" in words
    assert "1 failed provider_-7" in words


def test_many_are_told_what_they_cost_before_they_are_sent(world: World, person: Enter) -> None:
    ids = [held(world) for _ in range(4)]
    other = fails(world)
    client = person()

    form = ask(client, "retry", "held", "uncertain")

    assert form["agreed"] == ["4"]
    assert sorted(form["job"]) == sorted(map(str, ids))
    assert {world.state(one) for one in ids} == {State.HELD}
    reply = client.post("/troubles/retry", form)
    assert reply.headers["location"] == "/troubles?told=retried-4-0-0"
    assert {world.state(one) for one in ids} == {State.QUEUED}
    assert world.state(other) is State.FAILED


def test_a_page_of_many_is_bounded(
    world: World, person: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "PAGE", 2)
    for _ in range(3):
        held(world)
    client = person()

    form = ask(client, "cancel", "held", "uncertain")

    assert len(form["job"]) == 2
    client.post("/troubles/cancel", form)
    assert "1 held uncertain" in client.get("/troubles").words
    too_many = {"job": [str(one) for one in map(UUID, form["job"] * 2)]}
    assert client.post("/troubles/cancel", too_many).status == 400


def test_one_that_went_on_does_not_stop_the_others(world: World, person: Enter) -> None:
    ids = [held(world) for _ in range(3)]
    client = person()
    form = ask(client, "retry", "held", "uncertain")
    world.do(jobs.cancel, ids[0])
    world.do(jobs.retry, ids[1], settings=world.settings)

    reply = client.post("/troubles/retry", form)

    # A cancelled job can be retried; one that was sent already cannot.
    assert reply.headers["location"] == "/troubles?told=retried-2-0-1"


@pytest.mark.parametrize("kind", ["sqlite"])
def test_nonsense_is_no_decision(person: Enter) -> None:
    client = person()
    client.get("/troubles")

    for form in (
        {},
        {"verb": "purge", "state": "held", "code": "x"},
        {"verb": "retry", "state": "waiting", "code": "x"},
        {"verb": "retry", "state": "held", "code": ""},
    ):
        assert client.post("/troubles/ask", form).status == 404
    assert client.post("/jobs/00000000-0000-0000-0000-000000000000/purge").status == 404
    assert client.post("/troubles/retry", {"job": "x"}).headers["location"].endswith("0-0-0")


def test_keys_are_paused_and_resumed_one_or_all(world: World, person: Enter) -> None:
    world.do(gate.ensure, ["another1"])
    client = person()
    client.get("/")

    assert client.post("/gates/pause", {"key": KEY_ID}).headers["location"] == "/?told=paused-1-0-0"
    assert conditions(world) == {KEY_ID: "paused", "another1": "open"}
    words = client.get("/").words
    assert f"{KEY_ID} paused" in words
    assert "paused by an operator" in words
    client.post("/gates/pause")
    assert set(conditions(world).values()) == {"paused"}
    client.post("/gates/resume")
    assert set(conditions(world).values()) == {"open"}
    assert client.post("/gates/pause", {"key": "nobody's"}).status == 400


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_key_that_was_stopped_can_be_paused_or_let_go(world: World, person: Enter) -> None:
    client = person()
    world.do(gate.throttle, KEY_ID, 60.0)

    page = client.get("/")

    assert conditions(world) == {KEY_ID: "closed"}
    assert f'name="key" value="{KEY_ID}"' in page.text
    assert re.findall(r'action="/gates/(\w+)"', page.text) == ["pause", "resume"] * 2
    client.post("/gates/pause", {"key": KEY_ID})
    assert conditions(world) == {KEY_ID: "paused"}
    assert re.findall(r'action="/gates/(\w+)"', client.get("/").text) == [
        "pause", "resume", "resume",
    ]  # fmt: skip


def conditions(world: World) -> dict[str, str]:
    with world.engine.connect() as tx:
        return {one.key_id: one.condition for one in gate.read(tx)}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_read_only_shows_everything_and_changes_nothing(world: World, person: Enter) -> None:
    job_id, other = held(world), world.enqueue()
    client = person(read_only=True)

    for path in ("/", "/jobs", "/troubles", f"/jobs/{job_id}", f"/jobs/{other}"):
        page = client.get(path)
        assert page.status == 200
        assert re.findall(r'<form method="post" action="([^"]+)"', page.text) == ["/logout"]
        assert "read-only" in page.words
    for path in (
        "/gates/pause", "/gates/resume", "/troubles/ask", "/troubles/retry", "/troubles/cancel",
        f"/jobs/{job_id}/retry", f"/jobs/{other}/cancel", "/no/such/page",
    ):  # fmt: skip
        reply = client.post(path, {"job": str(job_id), "agreed": "1"})
        assert reply.status == 403
        assert "read-only" in reply.words
    assert (world.state(job_id), world.state(other)) == (State.HELD, State.QUEUED)
    assert conditions(world) == {KEY_ID: "open"}
