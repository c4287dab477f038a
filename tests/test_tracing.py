"""From the app's request to the stored picture: spans that link to it, and logs that name it."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from cutwork import jobs, log, schema, tracing
from cutwork.request import Segmentation
from cutwork.settings import Settings, key_id
from cutwork.states import State
from tests.canaries import canary, leaks
from tests.house import House
from tests.services.processes import Processes
from tests.snippets import ROOT, snippets
from tests.world import World

API = "opentelemetry.trace"
TOKEN, SECRET = canary("sk"), canary("sign")
PARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@cache
def loaded() -> tuple[Any, Any, Any]:
    """OpenTelemetry's API, its SDK, and what keeps spans; then as if nobody had loaded them."""
    api, sdk = import_module(API), import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    kept = import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    del sys.modules[API]
    return api, (sdk, export), kept


@dataclass
class Recording:
    """What a process of an app that uses OpenTelemetry has recorded."""

    app: Any
    exporter: Any

    def request(self, name: str = "POST /orders") -> Any:
        """A span of the app's around the block."""
        return self.app.start_as_current_span(name)

    def spans(self, name: str = "") -> list[Any]:
        found = sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time)
        return [span for span in found if not name or span.name == name]


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    api, (sdk, export), kept = loaded()
    exporter = kept.InMemorySpanExporter()
    provider = sdk.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    monkeypatch.setitem(sys.modules, API, api)
    monkeypatch.setattr(api, "get_tracer_provider", lambda: provider)
    return Recording(provider.get_tracer("app"), exporter)


@pytest.fixture
def json_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The lines of this process so far."""
    root, written = logging.getLogger(), StringIO()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", written)
    log.configure(Settings(log_format="json", log_level="DEBUG"))
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)  # what was said of it before is forgotten


@pytest.fixture
def house(empty_database: Callable[[str], str], tmp_path: Path) -> Iterator[House]:
    faults = {"schedule": {"1": ["lost_callback"], "2": ["accept_then_reset"]}}
    changes = {"check_after": 0.5, "uncertain_grace": 20.0, "api_tokens": (TOKEN,)}
    changes["callback_secrets"] = (SECRET,)
    with House(empty_database("sqlite"), tmp_path, faults, changes) as made:
        yield made


def linked(span: Any) -> list[str]:
    """The spans that it links to, as ``traceparent`` names them."""
    contexts = [link.context for link in span.links]
    return [f"00-{it.trace_id:032x}-{it.span_id:016x}-{it.trace_flags:02x}" for it in contexts]


def parent_of(span: Any) -> str:
    it = span.get_span_context()
    return f"00-{it.trace_id:032x}-{it.span_id:016x}-{it.trace_flags:02x}"


def kept(engine: Any, job_id: UUID) -> str | None:
    with engine.connect() as tx:
        found: str | None = tx.execute(
            select(schema.job.c.trace).where(schema.job.c.id == job_id)
        ).scalar_one()
    return found


def everything(span: Any) -> bytes:
    """All that an exporter could send of a span."""
    return str(span.to_json()).encode()


def test_every_step_links_to_the_apps_request_and_tells_no_secret(
    house: House, recording: Recording
) -> None:
    asked: dict[UUID, str] = {}
    for _ in range(3):
        with recording.request() as span:
            asked[house.enqueue()] = parent_of(span)
            house.step()  # so that each takes its own fault
    outside = house.enqueue()

    done = house.settle(*asked, outside, seconds=30)

    assert {job.state for job in done} == {State.SUCCEEDED}
    steps = [span for span in recording.spans() if span.name.startswith("cutwork.")]
    told: dict[str, set[str]] = {str(job.id): set() for job in done}
    for span in steps:
        job_id = span.attributes["cutwork.job"]
        told[job_id].add(span.name.removeprefix("cutwork."))
        expected = asked.get(UUID(job_id))
        assert linked(span) == ([expected] if expected else []), span.name
        assert span.attributes["cutwork.attempt"] == 1
        assert span.attributes["cutwork.key"] == key_id(TOKEN)
        assert span.attributes["cutwork.outcome"]
        assert span.kind.name == ("SERVER" if span.name == "cutwork.callback" else "CLIENT")
    first, second, third = asked
    assert told[str(first)] == {"submit", "callback", "store"}
    assert told[str(second)] == {"submit", "check", "store"}
    assert told[str(third)] == {"submit", "callback", "store"}
    outcomes = {str(span.attributes["cutwork.outcome"]) for span in steps}
    assert {"Accepted", "Uncertain", "moved", "done", "stored"} <= outcomes
    places = {f"{at} {span.name}": everything(span) for at, span in enumerate(steps)}
    assert not leaks(secrets(house), places)


def secrets(house: House) -> dict[str, str]:
    tasks = house.sandbox.ledger()["tasks"]
    tokens = [task["callback_url"].rpartition("/")[2] for task in tasks]
    with house.engine.connect() as tx:
        reports = tx.execute(select(schema.attempt.c.report)).scalars().all()
    links = [str(report["image"]).partition("?")[2] for report in reports if report]
    assert all(tokens)
    assert all(links)
    named = {f"token {at}": token for at, token in enumerate(tokens)}
    named |= {f"link {at}": link for at, link in enumerate(links)}
    return named | {"key": TOKEN, "secret": SECRET}


@pytest.mark.no_cover
def test_the_documented_starter_makes_a_worker_record_its_spans(
    empty_database: Callable[[str], str],
    tmp_path: Path,
    processes: Processes,
    recording: Recording,
) -> None:
    (commands,) = [
        one.source
        for one in snippets(ROOT / "docs" / "metrics.md")
        if "opentelemetry-instrument" in one.source
    ]
    world = World.at(empty_database("sqlite"))
    env = {
        "CUTWORK_HOME": str(tmp_path),
        "CUTWORK_DATABASE_URL": world.engine.url.render_as_string(hide_password=False),
        "CUTWORK_API_TOKENS": TOKEN,
        "CUTWORK_API_URL": "http://127.0.0.1:9",
    }
    worker = processes.start("bash", "-euc", commands, env=env)
    processes.start("cutwork", "reconciler", env=env)
    with recording.request() as span:
        world.enqueue()

    worker.wait_for_log('"name": "cutwork.submit"', 60)
    worker.wait_for_log(f'"trace_id": "0x{parent_of(span)[3:35]}"')
    world.engine.dispose()


def test_a_step_is_a_span_of_a_trace_of_its_own(recording: Recording) -> None:
    with recording.request() as span:
        parent = tracing.current()
    with tracing.step("cutwork.store", "CLIENT", parent, {"job": 7}):
        pass

    (made,) = recording.spans("cutwork.store")
    assert made.parent is None
    assert made.context.trace_id != span.get_span_context().trace_id
    assert linked(made) == [parent] == [parent_of(span)]


def test_a_step_that_raises_is_an_error_without_its_text(recording: Recording) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.step("cutwork.store", "CLIENT"):
        raise ValueError("https://r.example/?signature=secret")

    (made,) = recording.spans("cutwork.store")
    assert (made.status.status_code.name, made.status.description) == ("ERROR", "ValueError")
    assert b"secret" not in everything(made)


@pytest.mark.parametrize("bad", ["", "00-1-2-3", PARENT + "0", "00" + "-" + "0" * 32 + PARENT[35:]])
def test_what_is_no_traceparent_is_no_link(recording: Recording, bad: str) -> None:
    with tracing.step("cutwork.check", "CLIENT", bad) as step:
        step.link(bad)

    (made,) = recording.spans("cutwork.check")
    assert linked(made) == []


def test_the_trace_is_kept_only_while_a_span_records(
    database_url: str, recording: Recording
) -> None:
    world = World.at(database_url)
    api, _, _ = loaded()
    with recording.request() as span:
        traced = world.enqueue()
        with world.engine.begin() as tx:
            many = jobs.enqueue_many(tx, [Segmentation(image_url="https://a.example/b.jpg")] * 3)
    untraced = world.enqueue()
    remote = api.NonRecordingSpan(api.SpanContext(1, 2, is_remote=True))
    with api.use_span(remote):
        unrecorded = world.enqueue()

    assert {kept(world.engine, one) for one in (traced, *many)} == {parent_of(span)}
    assert kept(world.engine, untraced) is None
    assert kept(world.engine, unrecorded) is None
    world.engine.dispose()


def test_where_it_is_loaded_and_not_set_up_nothing_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api, _, _ = loaded()
    monkeypatch.setitem(sys.modules, API, api)

    with tracing.step("cutwork.store", "CLIENT", PARENT, {"job": 1}) as unrecorded:
        assert not api.get_current_span().get_span_context().is_valid
    del sys.modules[API]
    with tracing.step("cutwork.store", "CLIENT") as unloaded:
        assert unloaded is unrecorded
    assert tracing.current() is None


def test_nobody_loads_opentelemetry_but_the_app() -> None:
    source = (
        "import cutwork, cutwork.tracing, cutwork.webhook.app, cutwork.worker.submitting, sys\n"
        "with cutwork.tracing.step('cutwork.store', 'CLIENT') as step:\n"
        "    step.tell({'job': 1})\n"
        "    step.link('x')\n"
        "print(cutwork.tracing.current(), [n for n in sys.modules if 'opentelemetry' in n])"
    )
    said = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, check=True, text=True
    ).stdout

    assert said == "None []\n"


@pytest.mark.parametrize(
    ("given", "told"), [(PARENT, PARENT[3:35]), (None, None), ("nonsense", None)]
)
def test_the_traces_id_is_what_logs_are_searched_by(given: str | None, told: str | None) -> None:
    assert tracing.trace_id(given) == told


def test_every_line_about_a_job_names_its_attempt_its_key_and_its_trace(
    house: House, recording: Recording, json_logs: Callable[[], list[dict[str, Any]]]
) -> None:
    with recording.request() as span:
        ids = [house.enqueue(notify="http://127.0.0.1:9/nobody") for _ in range(3)]
    house.settle(*ids, seconds=30)
    house.run(lambda: "not told" in str(json_logs()), 20, "nobody was to be told")
    trace = parent_of(span)[3:35]

    lines = [line for line in json_logs() if line["logger"] == "cutwork"]

    about = [line for line in lines if "job" in line]
    assert {line["job"] for line in about} == {str(one) for one in ids}
    events = {line["event"] for line in about}
    assert {"submitted", "callback", "checked", "stored", "not told"} <= events
    for line in about:
        assert line["key"] == key_id(TOKEN), line
        assert line["attempt"] == 1, line
        assert line["trace"] == trace, line


def test_a_line_about_a_job_without_a_trace_has_none(
    house: House, json_logs: Callable[[], list[dict[str, Any]]]
) -> None:
    house.settle(house.enqueue())

    stored = [line for line in json_logs() if line["event"] == "stored"]

    assert len(stored) == 1
    assert "trace" not in stored[0]
    assert stored[0]["key"] == key_id(TOKEN)
