"""What Prometheus is served: in its format, as large as the counts in SQL, and never falling."""

import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from cutwork import database, gate, ledger, metrics, pace, stats
from cutwork.events import Kind, record
from cutwork.exporter import Exporter
from cutwork.metrics import METRICS
from cutwork.settings import Settings
from cutwork.states import State
from tests.services.ports import free_port, is_open
from tests.services.processes import Processes
from tests.services.waiting import run_until
from tests.world import KEY_ID, SETTINGS, TOKEN, World, done

Sample = tuple[str, frozenset[tuple[str, str]]]
BUDGET = replace(SETTINGS, daily_budget=100)
# What a label may say, so that no table of jobs can make ever more series.
BOUNDED = {
    "version": None,
    "database": {"sqlite", "postgresql", "mysql", "mariadb"},
    "state": {*State, "sending", "void", "accepted", "failed", "uncertain", "succeeded"},
    "lane": {"submit", "check", "store"},
    "by": {"callback", "poll", "reply", "policy", "operator", "nobody"},
    "kind": set(Kind),
    "condition": set(metrics.CONDITIONS),
    "progress": {"waiting", "failing"},
    "percentile": {"50", "90", "99"},
    "callback": {"yes", "no"},
    "code": None,
    "key": None,
}


@pytest.fixture
def world(empty_database: Callable[[str], str]) -> Iterator[World]:
    made = World.at(empty_database("sqlite"), BUDGET)
    yield made
    made.engine.dispose()


def scraped(exporter: Exporter) -> dict[Sample, float]:
    """Every sample, read as Prometheus reads it."""
    page = generate_latest(exporter).decode()
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def fresh(world: World, settings: Settings = BUDGET) -> dict[Sample, float]:
    exporter = Exporter(world.engine, settings)
    exporter.count()
    return scraped(exporter)


def a_bit_of_everything(world: World) -> None:
    world.succeeded()
    world.succeeded()
    world.waiting()
    world.enqueue()
    ticket = world.storing()
    world.do(ledger.not_stored, ticket, "too_large", "too large", world.settings, permanent=True)
    world.uncertain()
    world.learn(world.waiting(), done(), "poll")
    world.do(gate.pause, KEY_ID)
    with world.engine.begin() as tx:
        record(tx, Kind.FORGED, "7")


def test_at_rest_the_metrics_are_the_counts_in_sql(database_url: str) -> None:
    world = World.at(database_url, BUDGET)
    a_bit_of_everything(world)

    told = fresh(world)
    with world.engine.connect() as tx:
        known = stats.collect(tx)

    for state, count in known.jobs.items():
        assert told[sample("cutwork_jobs", state=state)] == count, state
    for state, count in known.attempts.items():
        assert told[sample("cutwork_attempts", state=state)] == count, state
    assert told[sample("cutwork_charges_total", key=KEY_ID)] == known.charges
    assert told[sample("cutwork_second_charges_total")] == known.second_charges
    assert told[sample("cutwork_events_total", kind="forged")] == known.callbacks.forged == 7
    for who, count in known.decided.items():
        decided = sample("cutwork_jobs_finished_total", state="succeeded", by=who)
        assert told[decided] == count, who
    assert told[sample("cutwork_held_jobs", code="too_large")] == 1
    (key,) = known.keys
    assert told[sample("cutwork_key_in_flight", key=KEY_ID)] == key.in_flight == 3
    assert told[sample("cutwork_key_condition", key=KEY_ID, condition="paused")] == 1
    assert told[sample("cutwork_key_condition", key=KEY_ID, condition="open")] == 0
    assert told[sample("cutwork_expiring_results")] == 0
    assert told[sample("cutwork_result_expires_in_seconds")] == pytest.approx(3600, abs=60)
    assert told[sample("cutwork_backlog_jobs", lane="store")] == 1
    # One more is named in the broker, and will be spent.
    assert told[sample("cutwork_budget_left_submits")] == 99 - sum(known.attempts.values())
    world.engine.dispose()


def test_every_name_and_help_is_as_prometheus_wants_it(world: World) -> None:
    for _ in range(6):
        world.succeeded()
    a_bit_of_everything(world)
    assert world.do(pace.learn, BUDGET)
    exporter = Exporter(world.engine, BUDGET)
    exporter.count()
    page = generate_latest(exporter).decode()
    table = {metric.name: metric for metric in METRICS}
    helps = dict(re.findall(r"^# HELP (\w+) (.+)$", page, re.MULTILINE))
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE))
    named = set(re.findall(r"^(\w+)", page.replace("# ", ""), re.MULTILINE)) - {"HELP", "TYPE"}

    assert named == set(table) == set(helps) == set(types)
    for name, kind in types.items():
        assert kind == table[name].kind
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search(r"_(milliseconds|minutes|percent|count|sum|bucket)(_|$)", name), name
        assert helps[name] == table[name].help
        assert helps[name].endswith("."), name
        assert not set(table[name].labels) & {"job", "instance", "quantile", "le"}, name


def test_labels_are_bounded(world: World) -> None:
    a_bit_of_everything(world)
    told = fresh(world)

    for name, labels in told:
        for label, value in labels:
            allowed = BOUNDED[label]
            assert allowed is None or value in allowed, (name, label, value)
    assert len(told) < 200
    assert TOKEN not in str(told)


def test_it_can_be_read_as_openmetrics_too(
    world: World,
) -> None:
    from prometheus_client.openmetrics.exposition import generate_latest as as_open_metrics

    a_bit_of_everything(world)
    exporter = Exporter(world.engine, BUDGET)
    exporter.count()

    families = list(open_metrics(as_open_metrics(exporter).decode()))

    assert {family.type for family in families} == {"gauge", "counter"}
    assert len(families) == len(METRICS)


def test_a_counter_does_not_fall_when_jobs_are_purged(world: World) -> None:
    gone = [world.succeeded() for _ in range(3)]
    before = fresh(world)
    world.do(ledger.purge, gone)
    after = fresh(world)

    finished = sample("cutwork_jobs_finished_total", state="succeeded", by="callback")
    assert before[finished] == after[finished] == 3
    assert after[sample("cutwork_jobs", state="succeeded")] == 0
    fell = [
        name for name, value in before.items() if name[0].endswith("_total") and after[name] < value
    ]
    assert not fell


def test_a_counter_does_not_fall_when_a_failed_job_is_tried_again(world: World) -> None:
    ticket = world.submitting()
    world.do(ledger.rejected, ticket, "bad", "refused")
    exporter = Exporter(world.engine, BUDGET)
    failed = sample("cutwork_jobs_finished_total", state="failed", by="reply")
    exporter.count()
    assert scraped(exporter)[failed] == 1

    world.do(ledger.retry, ticket.job_id, BUDGET)
    exporter.count()

    assert scraped(exporter)[failed] == 1


def test_without_a_count_there_are_no_counters_and_no_wait(world: World) -> None:
    told = scraped(Exporter(world.engine, SETTINGS))

    assert told[sample("cutwork_database_up")] == 1
    assert not [name for name, _ in told if name.endswith("_total")]
    assert sample("cutwork_census_age_seconds") not in told
    assert sample("cutwork_budget_left_submits") not in told


def test_a_count_that_takes_long_is_made_seldom(world: World) -> None:
    clock = iter([100.0, 100.1, 200.0, 212.0])
    exporter = Exporter(world.engine, SETTINGS, lambda: next(clock))

    assert exporter.count() == 30.0
    assert exporter.count() == pytest.approx(1200.0)


def test_scrapes_of_one_moment_are_one_reading(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[float] = []
    real = metrics.live
    monkeypatch.setattr(metrics, "live", lambda *given: readings.append(1) or real(*given))
    now = [1000.0]
    exporter = Exporter(world.engine, SETTINGS, lambda: now[0])

    scraped(exporter)
    scraped(exporter)
    assert len(readings) == 1
    now[0] += 1.5
    scraped(exporter)

    assert len(readings) == 2


def test_a_reading_that_takes_long_is_made_seldom(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]

    def slow(*_: object) -> metrics.Values:
        now[0] += 3.0
        return {}

    monkeypatch.setattr(metrics, "live", slow)
    exporter = Exporter(world.engine, SETTINGS, lambda: now[0])
    scraped(exporter)
    assert now == [1003.0]

    now[0] += 59.0
    scraped(exporter)
    assert now == [1062.0]
    now[0] += 2.0
    scraped(exporter)

    assert now == [1067.0]


def test_a_database_that_is_away_is_said_so(empty_database: Callable[[str], str]) -> None:
    world = World.at(empty_database("sqlite"))
    exporter = Exporter(world.engine, SETTINGS)
    with world.engine.begin() as tx:
        tx.execute(text("DROP TABLE cutwork_pace"))

    told = scraped(exporter)

    assert told[sample("cutwork_database_up")] == 0
    assert {name for name, _ in told} == {"cutwork_database_up", "cutwork_build_info"}
    world.engine.dispose()


def test_the_command_serves_it_and_ends_when_told(
    empty_database: Callable[[str], str], processes: Processes, tmp_path: Path
) -> None:
    url = empty_database("postgresql")
    world = World.at(url)
    world.succeeded()
    port = free_port()
    environ = {"CUTWORK_DATABASE_URL": url, "CUTWORK_HOME": str(tmp_path)}
    bind = f"127.0.0.1:{port}"
    serving = processes.start("cutwork", "metrics", "--bind", bind, env=environ)
    run_until(lambda: is_open(port), 30, "it does not listen")

    def page(**headers: str) -> requests.Response:
        return requests.get(f"http://{bind}/metrics", headers=headers, timeout=10)

    counted = 'cutwork_jobs_finished_total{by="callback",state="succeeded"} 1.0'
    run_until(lambda: counted in page().text.replace('state="succeeded",by="callback"',
              'by="callback",state="succeeded"'), 20, "it is counted")  # fmt: skip
    plain, newer = page(), page(Accept="application/openmetrics-text; version=1.0.0")
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    assert newer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert newer.text.endswith("# EOF\n")
    assert requests.get(f"http://{bind}/healthz", timeout=10).text == "OK\n"
    assert requests.get(f"http://{bind}/other", timeout=10).status_code == 404
    asked = requests.head(f"http://{bind}/metrics", timeout=10)
    assert (asked.status_code, asked.content) == (200, b"")
    assert int(asked.headers["Content-Length"]) > 0

    taken = processes.start("cutwork", "metrics", "--bind", bind, env=environ, name="second")
    assert taken.wait(20) == 2
    assert "cannot be listened on" in taken.log
    serving.signal(signal.SIGTERM)
    assert serving.wait(10) == 0
    assert "metrics stop" in serving.log
    world.engine.dispose()


def test_tables_that_are_missing_are_said_at_the_start(
    processes: Processes, tmp_path: Path
) -> None:
    environ = {"CUTWORK_HOME": str(tmp_path), "CUTWORK_DATABASE_URL": f"sqlite:///{tmp_path}/x.db"}
    started = processes.start("cutwork", "metrics", "--bind", "127.0.0.1:0", env=environ)

    assert started.wait(20) == 1
    assert "cutwork db upgrade" in started.log
    database.engine(environ["CUTWORK_DATABASE_URL"]).dispose()
