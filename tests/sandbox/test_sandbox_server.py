"""The sandbox as a process: its options, its one line, its end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cutwork.errors import InvalidInput, InvalidSetting
from cutwork.sandbox.engine import load_engine
from cutwork.sandbox.grabcut import GrabCutEngine
from cutwork.sandbox.server import Sandbox, read_bind, read_latency, serve

ENGINE = """
import time
import numpy as np
from cutwork.sandbox.engine import Cut

class Slow:
    def cut(self, picture, kind):
        time.sleep(60)

class Whole:
    def cut(self, picture, kind):
        return Cut(np.full(picture.shape[:2], 255, np.uint8), "stamp")

class Broken:
    def cut(self, picture, kind):
        raise RuntimeError("out of memory")

class NoEngine:
    pass
"""


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a module ``engines_of_the_test``."""
    (tmp_path / "engines_of_the_test.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def start(engines: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    running: list[subprocess.Popen[str]] = []

    def make(**options: Any) -> tuple[subprocess.Popen[str], str]:
        program = f"from cutwork.sandbox.server import serve; serve('127.0.0.1:0', **{options!r})"
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(engines)},
        )
        running.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip().removeprefix("sandbox: ")

    yield make
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_ends_quietly(start: Any, number: signal.Signals) -> None:
    process, url = start(seed=1)
    assert requests.get(f"{url}/healthz", timeout=5).status_code == 200

    process.send_signal(number)

    out, err = process.communicate(timeout=5)
    assert (process.returncode, out, err) == (0, "", "")


def test_it_ends_quickly_while_a_picture_is_being_cut(
    start: Any, make_png: Any, until: Any
) -> None:
    process, url = start(engine="engines_of_the_test:Slow")
    requests.post(
        f"{url}/task/pic/segmentation",
        headers={"X-API-KEY": "x"},
        timeout=5,
        files={"image_file": make_png()},
    )
    until(lambda: requests.get(f"{url}/_sandbox/ledger", timeout=5).json()["tasks"][0]["state"])
    started = time.monotonic()

    process.send_signal(signal.SIGTERM)

    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert time.monotonic() - started < 5


def test_it_leaves_no_files_behind(make_client: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    client = make_client()
    client.link()
    assert list(tmp_path.glob("*/*-image.png"))

    client.sandbox.stop()

    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_ones_own_is_plugged_in(engines: Path, make_client: Any) -> None:
    assert engines.exists()
    client = make_client(engine=load_engine("engines_of_the_test:Whole"))

    assert client.submit(sync=1).json()["data"]["result_type"] == "stamp"


def test_an_engine_that_raises_fails_the_task(engines: Path, make_client: Any) -> None:
    assert engines.exists()
    client = make_client(engine=load_engine("engines_of_the_test:Broken"))

    assert client.submit(sync=1).json()["data"]["state"] == -9
    assert client.submit(sync=1).json()["data"]["state"] == -9


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("engines_of_the_test", "must be module:callable"),
        ("engines_of_the_test:Missing", "has no attribute 'Missing'"),
        ("no_such_module_at_all:Engine", "No module named"),
        ("engines_of_the_test:NoEngine", "must make an object with cut"),
    ],
)
def test_an_engine_that_cannot_be_made_says_why(
    engines: Path, reference: str, message: str
) -> None:
    assert engines.exists()
    with pytest.raises(InvalidSetting, match=message):
        load_engine(reference)


def test_the_own_engine_can_be_named() -> None:
    assert isinstance(load_engine("cutwork.sandbox.grabcut:GrabCutEngine"), GrabCutEngine)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8600", ("127.0.0.1", 8600)),
        (":0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("a.example:65535", ("a.example", 65535)),
    ],
)
def test_an_address_is_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert read_bind(text) == expected


@pytest.mark.parametrize("text", ["", "8600", "host:", "host:x", "host:65536", "host:-1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="--bind must be host:port"):
        read_bind(text)


def test_an_address_that_is_taken_is_refused(make_sandbox: Any) -> None:
    with pytest.raises(InvalidSetting, match="cannot be listened on"):
        Sandbox(bind=make_sandbox().url.removeprefix("http://"))


@pytest.mark.parametrize(
    ("text", "expected"), [("0", (0, 0)), ("0.2", (0.2, 0.2)), ("0.5-2", (0.5, 2))]
)
def test_a_latency_is_seconds_or_a_range(text: str, expected: tuple[float, float]) -> None:
    assert read_latency(text) == expected


@pytest.mark.parametrize("text", ["", "x", "2-1", "-1", "1-", "nan", "inf"])
def test_a_latency_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="--latency must be seconds"):
        read_latency(text)


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, InvalidSetting), ("{", InvalidSetting), ('{"rates": {"x": 1}}', InvalidInput)],
)
def test_a_file_of_faults_that_cannot_be_used_says_why(
    tmp_path: Path, content: str | None, error: type[Exception]
) -> None:
    path = tmp_path / "faults.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(error):
        serve("127.0.0.1:0", faults_file=path)


def test_ipv6_works_too(make_client: Any) -> None:
    client = make_client(bind="[::1]:0")

    assert client.link().startswith("http://[::1]:")


def test_a_latency_is_added_to_the_cutting(make_client: Any) -> None:
    client = make_client(latency=(0.3, 0.3))

    row = client.finish(client.accept())

    assert row["completed_at"] - row["created_at"] >= 0.3


def test_waiting_tasks_do_not_wait_for_each_other(make_client: Any) -> None:
    client = make_client(latency=(0.5, 0.5))
    started = time.monotonic()

    for task_id in [client.accept() for _ in range(12)]:
        client.finish(task_id)

    assert time.monotonic() - started < 3


def test_without_a_seed_the_task_ids_differ() -> None:
    first, second = Sandbox(engine=GrabCutEngine()), Sandbox()
    for sandbox in (first, second):
        sandbox.start()
        sandbox.stop()

    assert first.seed != second.seed
