"""What the doctor finds, and what it must not show."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from cutwork import gate, schema
from cutwork.clock import after
from cutwork.contradictions import FAULT, OK, WARNING, Finding, contradictions
from cutwork.doctor import examine
from cutwork.settings import Settings
from tests.world import KEY_ID, SETTINGS, World

SOUND = Settings(
    api_tokens=("sk-hush",),
    public_url="https://hooks.example",
    callback_secrets=("0123456789abcdef",),
)


def settle(tmp_path: Path, **changes: Any) -> Settings:
    url = f"sqlite:///{tmp_path / 'cutwork.db'}"
    return replace(SETTINGS, home=tmp_path, database_url=url, **changes)


def found(settings: Settings, about: str) -> list[Finding]:
    return [one for one in examine(settings) if one.about == about]


def test_sound_settings_have_no_contradictions() -> None:
    assert list(contradictions(SOUND)) == []


@pytest.mark.parametrize(
    ("changes", "level", "sentence"),
    [
        ({"api_tokens": ()}, WARNING, "no API token is set"),
        ({"callback_secrets": ()}, FAULT, "PUBLIC_URL is set without CUTWORK_CALLBACK_SECRETS"),
        ({"public_url": "http://hooks.example"}, WARNING, "CUTWORK_PUBLIC_URL is plain http"),
        ({"public_url": "http://127.0.0.1:8000"}, FAULT, "the provider cannot call it"),
        ({"api_url": "http://api.example"}, WARNING, "CUTWORK_API_URL is plain http"),
        ({"result_ttl": 10.0}, FAULT, "RESULT_TTL (10 s) is over before CHECK_LATEST (30 s)"),
        ({"check_earliest": 60.0}, FAULT, "CHECK_EARLIEST is later than CHECK_LATEST"),
        ({"wait_timeout": 10.0}, FAULT, "WAIT_TIMEOUT (10 s) is over before CHECK_LATEST"),
        ({"callback_ttl": 60.0}, WARNING, "CALLBACK_TTL is shorter than WAIT_TIMEOUT"),
        ({"broker_url": "memory://"}, FAULT, "CUTWORK_BROKER_URL is memory://"),
        ({"storage_url": "memory://"}, FAULT, "CUTWORK_STORAGE_URL is memory://"),
        ({"max_paid_attempts": 1}, WARNING, "jobs are held"),
    ],
)
def test_each_contradiction_is_one_finding_with_a_remedy(
    changes: dict[str, Any], level: str, sentence: str
) -> None:
    (one,) = contradictions(replace(SOUND, **changes))

    assert one.level == level
    assert sentence in one.sentence
    assert one.remedy
    assert "hush" not in str(one.to_json())


def test_without_a_public_url_the_polls_are_what_counts() -> None:
    settings = replace(SOUND, public_url="", callback_secrets=(), result_ttl=50.0, poll_after=60.0)

    (one,) = contradictions(settings)
    assert "is over before POLL_AFTER (60 s)" in one.sentence


def test_a_loopback_webhook_is_fine_for_a_loopback_provider() -> None:
    local = {"public_url": "http://localhost:8000", "api_url": "http://[::1]:8600"}

    assert list(contradictions(replace(SOUND, **local))) == []


def test_a_database_that_was_never_made_is_not_made_by_looking(tmp_path: Path) -> None:
    (one,) = found(settle(tmp_path), "database")

    assert (one.level, one.remedy) == (FAULT, "run `cutwork db upgrade`")
    assert not (tmp_path / "cutwork.db").exists()


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:hush@127.0.0.1:1/none", "mariadb://u:hush@127.0.0.1:1/none", "nonsense"],
)
def test_a_database_that_is_away_is_a_fault_without_its_password(tmp_path: Path, url: str) -> None:
    (one,) = found(replace(settle(tmp_path), database_url=url), "database")

    assert one.level == FAULT
    assert one.remedy
    assert "hush" not in str(one)


@pytest.mark.parametrize(
    "url", ["amqp://u:hush@127.0.0.1:1//", "redis://:hush@127.0.0.1:1/0", "carrier-pigeon://x"]
)
def test_a_broker_that_is_away_is_a_fault_without_its_password(tmp_path: Path, url: str) -> None:
    (one,) = found(settle(tmp_path, broker_url=url), "broker")

    assert one.level == FAULT
    assert "CUTWORK_BROKER_URL" in one.sentence + one.remedy
    assert "hush" not in str(one)


def test_a_broker_that_answers_is_fine(tmp_path: Path, empty_broker: Callable[[str], str]) -> None:
    (one,) = found(settle(tmp_path, broker_url=empty_broker("redis")), "broker")

    assert one == Finding(OK, "broker", "the broker answers")


def test_storage_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (one,) = found(settle(tmp_path), "storage")

    assert one.level == OK
    assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


def test_storage_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")

    (one,) = found(settle(tmp_path), "storage")

    assert one.level == FAULT
    assert one.remedy


def test_gates_are_told_one_by_one(tmp_path: Path) -> None:
    settings = settle(tmp_path)
    world = World.at(settings.database, settings)
    assert [one.level for one in found(settings, "gate")] == [OK]

    world.do(gate.throttle, KEY_ID, 30.0)
    assert "closed for a while" in found(settings, "gate")[0].sentence

    world.do(gate.pause, KEY_ID)
    (one,) = found(settings, "gate")
    world.engine.dispose()
    assert (one.level, one.remedy) == (FAULT, f"`cutwork resume --key {KEY_ID}`")


def test_an_overdue_job_says_what_is_in_the_way_of_all(tmp_path: Path) -> None:
    settings = settle(tmp_path)
    world = World.at(settings.database, settings)
    assert [one.level for one in found(settings, "progress")] == [OK]

    job_id = world.enqueue()
    with world.engine.begin() as tx:
        tx.execute(update(schema.job).values(due_at=after(-60)))
    (one,) = found(settings, "progress")
    world.engine.dispose()

    assert one.level == FAULT
    assert f"job {job_id} should have gone on" in one.sentence
    assert "see that a reconciler runs" in one.sentence
