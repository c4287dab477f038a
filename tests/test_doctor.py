"""What the doctor finds, and what it must not show."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from cutwork import doctor, gate, ledger, room, schema, skew
from cutwork.clock import after
from cutwork.contradictions import contradictions
from cutwork.doctor import examine, glance
from cutwork.finding import FAULT, FINDINGS, OK, WARNING, Finding
from cutwork.settings import SEEN_RESULT_HOST, Settings
from tests.world import KEY_ID, SETTINGS, World

SOUND = Settings(
    api_tokens=("sk-hush",),
    public_url="https://hooks.example",
    callback_secrets=("0123456789abcdef",),
    result_hosts=("results.example",),
)


def settle(tmp_path: Path, **changes: Any) -> Settings:
    url = f"sqlite:///{tmp_path / 'cutwork.db'}"
    return replace(SETTINGS, home=tmp_path, database_url=url, **changes)


def found(settings: Settings, about: str) -> list[Finding]:
    return [one for one in examine(settings, ask_outside=False) if one.about == about]


def test_sound_settings_have_no_contradictions() -> None:
    assert list(contradictions(SOUND)) == []


@pytest.mark.parametrize(
    ("changes", "level", "sentence"),
    [
        ({"api_tokens": ()}, WARNING, "no API token is set"),
        ({"callback_secrets": ()}, FAULT, "PUBLIC_URL is set without CUTWORK_CALLBACK_SECRETS"),
        ({"public_url": "http://hooks.example"}, WARNING, "CUTWORK_PUBLIC_URL is plain http"),
        ({"public_url": "http://127.0.0.1:8000"}, FAULT, "the provider cannot call it"),
        ({"public_url": "https://192.168.1.5"}, WARNING, "leads into a private network"),
        ({"public_url": "https://[fd00::5]:8443/x"}, WARNING, "leads into a private network"),
        ({"public_url": "https://webhook"}, WARNING, "leads into a private network"),
        ({"public_url": "https://hooks.corp.internal"}, WARNING, "leads into a private network"),
        ({"api_url": "http://api.example"}, WARNING, "CUTWORK_API_URL is plain http"),
        (
            {"result_ttl": 29.0, "result_timeout": 5.0, "check_max_interval": 20.0},
            FAULT, "RESULT_TTL (29 s) is over before CHECK_LATEST (30 s)",
        ),
        ({"check_earliest": 60.0}, FAULT, "CHECK_EARLIEST is later than CHECK_LATEST"),
        ({"wait_timeout": 10.0}, FAULT, "WAIT_TIMEOUT (10 s) is over before CHECK_LATEST"),
        ({"callback_ttl": 3000.0}, WARNING, "CALLBACK_TTL is shorter than WAIT_TIMEOUT"),
        ({"broker_url": "memory://"}, FAULT, "CUTWORK_BROKER_URL is in memory"),
        ({"storage_url": "memory://"}, FAULT, "CUTWORK_STORAGE_URL is in memory"),
        ({"database_url": "sqlite://"}, FAULT, "CUTWORK_DATABASE_URL is in memory"),
        ({"max_paid_attempts": 1}, WARNING, "jobs are held"),
        ({"public_url": ""}, WARNING, "CALLBACK_SECRETS is set without CUTWORK_PUBLIC_URL"),
        ({"callback_secrets": ("sk-hush",)}, FAULT, "an API key is also a callback secret"),
        (
            {"api_url": "https://api.example", "result_hosts": (SEEN_RESULT_HOST,)},
            WARNING, "CUTWORK_RESULT_HOSTS still names another provider's host",
        ),
        ({"daily_budget": 1}, WARNING, "DAILY_BUDGET (1) is less than MAX_PAID_ATTEMPTS (2)"),
        (
            {"callback_ttl": 100.0, "wait_timeout": 90.0},
            FAULT, "the callback that would prove a submit is turned away",
        ),
        ({"uncertain_grace": 10.0}, WARNING, "UNCERTAIN_GRACE (10 s) is shorter than the provider"),
        ({"guard_window": 60.0}, WARNING, "GUARD_WINDOW (60 s) is shorter than UNCERTAIN_GRACE"),
        ({"breaker_pause": 1000.0}, WARNING, "BREAKER_PAUSE is longer than BREAKER_LONGEST"),
        ({"connect_timeout": 20.0}, WARNING, "CONNECT_TIMEOUT is longer than QUERY_TIMEOUT"),
        ({"permit_ttl": 2000.0}, FAULT, "PERMIT_TTL is more than half of RESULT_TTL"),
        ({"result_timeout": 1800.0}, FAULT, "the lease of a download (twice RESULT_TIMEOUT"),
        ({"check_max_interval": 3600.0}, FAULT, "CHECK_MAX_INTERVAL is as long as RESULT_TTL"),
        ({"concurrency": 8}, WARNING, "CONCURRENCY (8) is less than the lanes together (12)"),
        ({"rate": 4.0, "max_in_flight": 10}, WARNING, "MAX_IN_FLIGHT (10) is less than RATE"),
        ({"rate": 8.0}, WARNING, "SUBMIT_LANE (6) is less than all keys may start in a second (8)"),
        (
            {"keep_jobs": 60.0, "keep_inputs": 60.0},
            WARNING, "KEEP_INPUTS is no shorter than KEEP_JOBS",
        ),
        (
            {"keep_jobs": 60.0, "keep_results": 90.0},
            WARNING, "KEEP_RESULTS is no shorter than KEEP_JOBS",
        ),
        (
            {"broker_url": "amqp://mq.example//", "database_url": "postgresql://db.example/shop"},
            WARNING, "CUTWORK_STORAGE_URL is a file or directory of this machine",
        ),
        (
            {"broker_url": "amqp://mq.example//", "storage_url": "s3://bucket"},
            WARNING, "CUTWORK_DATABASE_URL is a file or directory of this machine",
        ),
        (
            {"database_url": "postgresql://db.example/shop", "storage_url": "s3://bucket"},
            WARNING, "CUTWORK_BROKER_URL is a file or directory of this machine",
        ),
    ],
)  # fmt: skip
def test_each_contradiction_is_one_finding_with_a_remedy(
    changes: dict[str, Any], level: str, sentence: str
) -> None:
    (one,) = contradictions(replace(SOUND, **changes))

    assert one.level == level
    assert sentence in one.sentence
    assert one.remedy
    assert "hush" not in str(one.to_json())


def test_without_a_public_url_the_polls_are_what_counts() -> None:
    asked = {"public_url": "", "callback_secrets": (), "result_timeout": 5.0}
    times = {"result_ttl": 50.0, "poll_after": 60.0, "check_max_interval": 20.0}

    (one,) = contradictions(replace(SOUND, **asked, **times))
    assert "is over before POLL_AFTER (60 s)" in one.sentence


def test_a_loopback_webhook_is_fine_for_a_loopback_provider() -> None:
    local = {"public_url": "http://localhost:8000", "api_url": "http://[::1]:8600"}

    assert list(contradictions(replace(SOUND, **local))) == []


def test_a_webhook_inside_is_fine_for_a_provider_inside() -> None:
    inside = {"api_url": "https://provider.internal", "public_url": "https://webhook.internal"}

    assert list(contradictions(replace(SOUND, **inside))) == []


def test_servers_on_this_machine_are_not_far_away() -> None:
    here = {"broker_url": "amqp://localhost//", "database_url": "postgresql:///shop"}

    assert list(contradictions(replace(SOUND, **here))) == []


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


@pytest.mark.parametrize(
    ("revision", "sentence", "remedy"),
    [
        ("0000", "is at revision 0000, this program needs", "run `cutwork db upgrade`"),
        ("9999", "which a newer cutwork made", "update this cutwork"),
    ],
)
def test_tables_of_another_version_are_a_fault(
    tmp_path: Path, revision: str, sentence: str, remedy: str
) -> None:
    settings = settle(tmp_path)
    world = World.at(settings.database, settings)
    with world.engine.begin() as tx:
        tx.execute(text("UPDATE cutwork_version SET version_num = :it"), {"it": revision})
    world.engine.dispose()

    (one,) = found(settings, "database")

    assert one.level == FAULT
    assert sentence in one.sentence
    assert one.remedy == remedy


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


def test_results_from_hosts_that_are_not_allowed_are_counted(tmp_path: Path) -> None:
    settings = settle(tmp_path)
    world = World.at(settings.database, settings)
    assert found(settings, "results") == []

    ticket = world.storing()
    fault = ("host_refused", "no such host is allowed")
    world.do(ledger.not_stored, ticket, *fault, world.settings, permanent=True)
    (one,) = found(settings, "results")
    world.engine.dispose()

    assert one.level == WARNING
    assert "within a day 1 results were not fetched" in one.sentence
    assert "CUTWORK_RESULT_HOSTS" in one.remedy


def test_a_disk_is_as_full_as_it_is(tmp_path: Path) -> None:
    huge, missing = 2**62, tmp_path / "not" / "yet"

    full = room.measure(room.Place(missing, "pictures", huge, huge))
    low = room.measure(room.Place(missing, "pictures", 0, huge))
    assert full is not None
    assert low is not None
    assert (full.level, low.level) == (FAULT, WARNING)
    assert full.sentence.startswith(f"{tmp_path} has ")
    assert full.sentence.endswith(" MiB left for pictures: it is about to be full")
    assert room.measure(room.Place(missing, "pictures", 0, 0)) is None


def test_the_disks_that_are_looked_at_are_those_that_are_written_to(tmp_path: Path) -> None:
    embedded = [one.path for one in room.places(settle(tmp_path))]
    elsewhere = {"storage_url": "s3://bucket", "database_url": "postgresql://h/d"}

    assert embedded[1:] == [tmp_path / "files", tmp_path]
    assert len(list(room.places(replace(SETTINGS, **elsewhere)))) == 1


def test_a_host_whose_clock_is_wrong_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settle(tmp_path)
    World.at(settings.database, settings).engine.dispose()
    assert [one.level for one in found(settings, "clock")] == [OK]

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=90)

    monkeypatch.setattr(skew, "datetime", Ahead)
    (one,) = found(settings, "clock")

    assert one.level == WARNING
    assert one.sentence.startswith("this host's clock is 90 s ahead of the database's")
    assert one.remedy == "let NTP set both"
    (theirs,) = skew.compare_provider(datetime.now(UTC))
    assert theirs.sentence.startswith("the provider's clock is 90 s behind this host's")


def test_a_glance_says_only_what_is_wrong_in_the_doctors_words(tmp_path: Path) -> None:
    settings = settle(tmp_path, concurrency=3)
    world = World.at(settings.database, settings)
    world.enqueue()
    with world.engine.begin() as tx:
        tx.execute(update(schema.job).values(due_at=after(-60)))
    world.do(gate.pause, KEY_ID)
    world.engine.dispose()

    wide, paused = glance(settings)

    assert [wide, paused] == [
        one
        for one in examine(settings, ask_outside=False)
        if one.level != OK and one.about != "progress"
    ]
    assert (wide.code, paused.code) == ("lanes_wide", "gate_paused")


def test_every_finding_that_is_not_ok_has_a_sentence_and_a_remedy() -> None:
    for code, (level, about, sentence, remedy) in FINDINGS.items():
        assert level in (OK, WARNING, FAULT), code
        assert about, code
        assert sentence, code
        assert bool(remedy) == (level != OK), code
        assert not sentence.endswith("."), code
        assert not remedy.endswith("."), code


def test_no_finding_is_in_the_table_alone() -> None:
    sources = Path(doctor.__file__).parent
    told = "".join(
        path.read_text(encoding="utf-8") for path in sources.glob("*.py") if path.stem != "finding"
    )

    assert not [code for code in FINDINGS if f'"{code}"' not in told]
