"""`cutwork console`: a process that serves people, and says before it starts what is wrong."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.cli.conftest import cutwork_process
from tests.console.client import TOKEN
from tests.services.ports import HOST, free_port, is_open
from tests.services.processes import Process, Processes
from tests.services.waiting import run_until
from tests.tables import tables_at


def start(processes: Processes, url: str, *words: str, **env: str) -> tuple[Process, str]:
    port = free_port()
    bind = f"{HOST}:{port}"
    given = {"CUTWORK_DATABASE_URL": url, "CUTWORK_CONSOLE_TOKEN": TOKEN, **env}
    process = processes.start("cutwork", "console", "--bind", bind, *words, env=given)
    run_until(lambda: is_open(port) or not process.running, 60, "the console serves")
    return process, f"http://{bind}"


@pytest.mark.parametrize("way", ["nothing", "--read-only", "CUTWORK_CONSOLE_READ_ONLY"])
def test_it_serves_and_stops_at_a_word_and_says_nothing_of_the_token(
    processes: Processes, empty_database: Callable[[str], str], way: str
) -> None:
    url = empty_database("sqlite")
    words = ["--read-only"] if way.startswith("--") else []
    env = {way: "yes"} if way.startswith("CUTWORK") else {}
    with tables_at(url):
        process, address = start(processes, url, *words, **env)

    with requests.Session() as person:
        assert person.get(f"{address}/healthz", timeout=10).text == "OK\n"
        page = person.get(f"{address}/?token={TOKEN}", timeout=10)

    assert page.status_code == 200
    assert ("read-only" in page.text) is (way != "nothing")
    process.signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert f"console starts address={address[7:]} read_only={way != 'nothing'}" in process.log
    assert TOKEN not in process.log
    assert "WARN" not in process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize(
    ("env", "bind", "told"),
    [
        ({}, "127.0.0.1:0", "CUTWORK_CONSOLE_TOKEN must be set for a console"),
        ({"CUTWORK_CONSOLE_TOKEN": "short"}, "127.0.0.1:0", "must have at least 16 characters"),
        ({"CUTWORK_CONSOLE_TOKEN": TOKEN}, "{taken}", "cannot be listened on"),
        ({"CUTWORK_CONSOLE_TOKEN": TOKEN}, "nowhere", "must be HOST:PORT"),
    ],
)
def test_what_is_wrong_is_said_before_it_starts(
    tmp_path: Path, env: dict[str, str], bind: str, told: str
) -> None:
    with socket.create_server((HOST, 0)) as taken:
        where = bind.format(taken=f"{HOST}:{taken.getsockname()[1]}")
        said = cutwork_process("console", "--bind", where, cwd=tmp_path, env=env)

    assert said.status == 2
    assert told in said.err
    assert said.err.count("\n") == 1
    assert "short" not in said.err
