"""The jobs' page: what is listed, found and gone on with, on each database."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import pytest
from sqlalchemy import insert

from cutwork import jobs, schema
from cutwork.console import filtering, keys, walking
from cutwork.console.filtering import Filter, Meta
from cutwork.states import State
from tests.console.conftest import Enter
from tests.tables import job_values
from tests.world import World, failed

HOSTILE = "<script>alert(1)</script>\"'{{7919*7919}}"


def ids(text: str) -> list[str]:
    """The last digits of the jobs of a page, in their order."""
    return re.findall(r'id="job-([0-9a-f]{8})"', text)


def short(job_id: UUID) -> str:
    return job_id.hex[-8:]


def found(person: Enter, **texts: str) -> list[str]:
    return ids(person().get(f"/jobs?{urlencode(texts)}").text)


def held(world: World, **options: Any) -> UUID:
    ticket = world.uncertain(on_uncertain="hold", **options)
    world.ring(ticket.job_id)
    world.do(lambda tx: walking_settle(tx, world))
    return ticket.job_id


def walking_settle(tx: Any, world: World) -> None:
    from cutwork import ledger

    ledger.settle(tx, world.settings)


def test_the_newest_come_first(world: World, person: Enter) -> None:
    made = [world.enqueue() for _ in range(3)]

    assert found(person) == [short(one) for one in reversed(made)]


def test_a_page_says_when_there_is_nothing(person: Enter) -> None:
    assert "There are no such jobs." in person().get("/jobs").words


def test_pages_go_on_where_the_last_one_ended(world: World, person: Enter) -> None:
    client = person()
    made = [world.enqueue() for _ in range(walking.PAGE + 7)]
    first = client.get("/jobs?state=queued").text
    (older,) = re.findall(r'rel="next" href="([^"]+)"', first)
    newer = world.enqueue()  # does not shift what comes next

    second = client.get(older.replace("&amp;", "&")).text

    assert ids(first) + ids(second) == [short(one) for one in reversed(made)]
    assert short(newer) not in ids(second)
    assert 'rel="next"' not in second


def test_a_state_is_found_whatever_it_is(world: World, person: Enter) -> None:
    reached: dict[State, UUID] = {
        State.QUEUED: world.enqueue(),
        State.SUBMITTING: world.submitting().job_id,
        State.UNCERTAIN: world.uncertain().job_id,
        State.WAITING: world.waiting().job_id,
        State.STORING: world.storing().job_id,
        State.HELD: held(world),
        State.SUCCEEDED: world.succeeded(),
        State.CANCELLED: world.enqueue(),
    }
    world.do(jobs.cancel, reached[State.CANCELLED])
    ticket = world.waiting()
    world.learn(ticket, failed())
    reached[State.FAILED] = ticket.job_id

    assert reached.keys() == set(State)
    for state, job_id in reached.items():
        assert found(person, state=state) == [short(job_id)], state


def test_a_key_is_found_with_and_without_its_owner(world: World, person: Enter) -> None:
    plain = world.enqueue(idempotency_key="order-7")
    owned = world.enqueue(idempotency_key="order-7", owner="shop 2")
    for number in range(5):
        world.enqueue(idempotency_key=f"order-{number}", owner=f"shop {number}")

    assert found(person, key="order-7") == [short(owned), short(plain)]
    assert found(person, key="order-7", owner="shop 2") == [short(owned)]
    assert found(person, key="order-7", state="held") == []
    assert found(person, key="ORDER-7") == []
    assert found(person, key="no such key") == []


def test_owners_that_were_not_asked_for_a_key_are_not_said_to_have_none(
    world: World, person: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MOST_OWNERS", 2)
    client = person()
    world.enqueue(owner="a", idempotency_key="k")
    assert "There are no such jobs." in client.get("/jobs?key=there").words
    for owner in ("b", "c"):
        world.enqueue(owner=owner, idempotency_key="k")
    hidden = world.enqueue(owner="d", idempotency_key="there")

    assert "None of the first 2 owners has such a job." in client.get("/jobs?key=there").words
    assert found(person, key="there", owner="d") == [short(hidden)]
    assert "There are no such jobs." in client.get("/jobs?key=none&owner=d").words


def test_an_owner_is_found(world: World, person: Enter) -> None:
    world.enqueue()
    mine = world.enqueue(owner="shop 1")

    assert found(person, owner="shop 1") == [short(mine)]


def test_an_error_is_found_with_and_without_its_state(world: World, person: Enter) -> None:
    world.enqueue()
    first, second = held(world), held(world)
    ticket = world.waiting()
    world.learn(ticket, failed(-7))

    assert found(person, error="uncertain") == [short(second), short(first)]
    assert found(person, error="provider_-7") == [short(ticket.job_id)]
    assert found(person, error="provider_-7", state="held") == []


METAS: list[tuple[str, list[int]]] = [
    ("order.id=42", [0, 1]),
    ("order.id=4", []),
    ("order.id~4", [0, 1]),
    ("order.tags.1=b", [0]),
    ("order.paid=true", [0]),
    ("order.paid=false", [1]),
    ("name~MÜL", [2]),
    ("name=Müller", [2]),
    ("müller", [2]),
    ("order", [0, 1]),
    ("100%", [3]),
    ("rate=100%_", [3]),
    ("no.such.path=1", []),
    ("order.id=' OR 1=1 --", []),
    ('"', [0, 1, 2, 3]),
]


def test_meta_is_found_by_path_or_by_word(world: World, person: Enter) -> None:
    kept = [
        {"order": {"id": 42, "tags": ["a", "b"], "paid": True}},
        {"order": {"id": "42", "tags": [], "paid": False}},
        {"name": "Müller"},
        {"rate": "100%_"},
    ]
    made = [short(world.enqueue(meta=one)) for one in kept]
    world.enqueue()
    client = person()

    for text, expected in METAS:
        told = ids(client.get(f"/jobs?meta={quote(text)}").text)
        assert told == [made[one] for one in reversed(expected)], text


def aged(world: World, hours: float, state: State = State.SUCCEEDED, **changes: Any) -> UUID:
    """A job that was made so many hours ago, with an id of that time."""
    made = datetime.now(UTC) - timedelta(hours=hours)
    job_id = UUID(int=(int(made.timestamp() * 1000) << 80) + (7 << 76) + (2 << 62) + int(hours))
    values = job_values(state, created_at=made, **changes) | {"id": job_id}
    with world.engine.begin() as tx:
        tx.execute(insert(schema.job).values(values))
    return job_id


def test_age_is_a_span_or_a_time(world: World, person: Enter) -> None:
    old, middle, young = (aged(world, hours) for hours in (100, 10, 1))
    noon = f"{datetime.now(UTC) - timedelta(hours=50):%Y-%m-%d %H:%M}"

    assert found(person, after="2d") == [short(young), short(middle)]
    assert found(person, before="2d") == [short(old)]
    assert found(person, after="20h", before="5h") == [short(middle)]
    assert found(person, after=noon) == [short(young), short(middle)]
    assert found(person, after="20h", before="5h", state="succeeded") == [short(middle)]


def test_an_id_is_found_by_its_beginning_or_its_end(world: World, person: Enter) -> None:
    job_id = world.enqueue()
    other = world.enqueue()

    assert found(person, id=str(job_id)) == [short(job_id)]
    # Two of one millisecond differ after that only.
    assert found(person, id=job_id.hex[:28]) == [short(job_id)]
    assert found(person, id=short(other).upper()) == [short(other)]
    assert found(person, id=short(other), state="held") == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("state=lost", "State is no state of a job."),
        ("after=soon", "After must be a span"),
        ("before=2026-99-99", "Before must be a span"),
        ("after=0001-01-01", "After must be a span"),
        ("before=9999-12-31T23:59", "Before must be a span"),
        ("after=0001-01-01T00:00%2B14:00", "After must be a span"),
        ("id=xyz", "Id must be an id"),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_cannot_be_understood_is_said_by_name(person: Enter, query: str, fault: str) -> None:
    reply = person().get(f"/jobs?{query}")

    assert reply.status == 400
    assert fault in reply.words


@pytest.mark.parametrize("name", ["key", "owner", "meta", "error", "id", "state"])
def test_a_character_that_no_text_has_is_refused_on_every_database(
    person: Enter, name: str
) -> None:
    client = person()

    assert client.get(f"/jobs?{name}=a%00").status == 400
    assert client.post("/troubles/ask", {"verb": "retry", name: "a\0"}).status == 400


def test_a_search_stops_at_its_bound_and_can_go_on(
    world: World, person: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "LOOKED", 5)
    hidden = world.enqueue(meta={"order": 1})
    for _ in range(7):
        world.enqueue()
    client = person()

    first = client.get("/jobs?meta=order%3D1")
    (older,) = re.findall(r'rel="next" href="([^"]+)"', first.text)
    second = client.get(older.replace("&amp;", "&"))

    assert ids(first.text) == []
    assert "Look further back" in first.words
    assert ids(second.text) == [short(hidden)]
    assert "Look further back" not in second.words


def test_walks_that_stop_in_different_places_lose_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "LOOKED", 4)
    wanted: list[UUID] = []
    for number in range(30):
        code = "other" if number % 5 else "lost"
        state = State.HELD if number % 3 else State.FAILED
        made = aged(world, 30 - number, state, error_code=code)
        wanted += [made] * (code == "lost")

    seen: list[UUID] = []
    older: UUID | None = None
    with world.engine.connect() as tx:
        for _ in range(100):
            page = walking.find(tx, Filter({"error": "lost"}, older=older), size=2)
            seen += page.ids
            older = page.older
            if older is None:
                break

    assert seen == sorted(wanted, reverse=True)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_strangers_wrote_is_shown_and_not_obeyed(world: World, person: Enter) -> None:
    job_id = world.enqueue(
        meta={HOSTILE: HOSTILE}, owner=HOSTILE, idempotency_key=HOSTILE,
        image_url="http://example.com/a.jpg?token=secret",
    )  # fmt: skip
    world.release()
    world.do(lambda tx: put_back(tx, job_id))
    client = person()

    for path in ("/jobs", f"/jobs?owner={quote(HOSTILE)}&meta={quote(HOSTILE)}", f"/jobs/{job_id}"):
        page = client.get(path)
        assert page.status == 200
        assert "<script>alert" not in page.text
        assert HOSTILE in page.words.replace('\\"', '"') or "{{7919*7919}}" in page.text
        assert str(7919 * 7919) not in page.words
        assert "token=secret" not in page.text


def put_back(tx: Any, job_id: UUID) -> None:
    from cutwork import ledger

    assert ledger.put_back(tx, job_id, HOSTILE)


@pytest.mark.parametrize(
    ("text", "meta"),
    [
        ("a.b = c", Meta(("a", "b"), "c", whole=True)),
        ("a~b=c", Meta(("a",), "b=c", whole=False)),
        ("a word", Meta((), "a word", whole=False)),
        ("a..b=c", Meta((), "a..b=c", whole=False)),
    ],
)
def test_a_search_in_meta_is_read(text: str, meta: Meta, asked: Callable[..., Any]) -> None:
    assert filtering.read(asked(meta=text), datetime.now(UTC)).meta == meta
