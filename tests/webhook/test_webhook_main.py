"""`cutwork webhook`: it starts without a warning and stops at a word, whatever goes on."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cutwork.errors import InvalidSetting
from cutwork.serving import address
from cutwork.settings import current
from cutwork.webhook.main import serve
from tests.services.ports import HOST
from tests.services.processes import clean_environment
from tests.services.waiting import run_until
from tests.webhook.desk import DONE, Desk
from tests.webhook.servers import Served

Serve = Callable[..., Served]


def test_it_starts_without_a_warning_and_logs_requests_itself(
    make_desk: Callable[..., Desk], serve: Serve
) -> None:
    desk = make_desk()
    served = serve("granian", desk)
    _, token = desk.send()

    served.post(token, DONE)

    log = served.process.wait_for_log("status=200")
    assert "WARN" not in log
    assert "ERROR" not in log
    assert "webhook starts address=127.0.0.1:" in log
    assert "request method=POST route=callback status=200 ms=" in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_and_leaves_nobody_behind(
    make_desk: Callable[..., Desk], serve: Serve, number: signal.Signals
) -> None:
    desk = make_desk()
    served = serve("granian", desk)
    assert served.post(desk.send()[1], DONE).status == 200
    family = served.process.family()
    assert len(family) > 1

    served.process.signal(number)

    assert served.process.wait(5) == 0
    run_until(lambda: not any(one.is_running() for one in family), 5.0, "all are gone")
    assert "Traceback" not in served.process.log


def test_a_sender_who_stalls_cannot_keep_it_from_stopping(
    make_desk: Callable[..., Desk], serve: Serve
) -> None:
    desk = make_desk()
    served = serve("granian", desk)
    _, token = desk.send()
    with socket.create_connection((HOST, served.port)) as connection:
        head = f"POST /callbacks/{token} HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n{{"
        connection.sendall(head.encode())
        assert served.post(desk.send()[1], DONE).status == 200

        served.process.signal(signal.SIGTERM)

        served.process.wait(12)
    assert not served.process.family()


def test_neither_celery_nor_an_http_client_is_loaded(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    program = """
import sys
from cutwork.webhook.app import application
import cutwork.webhook.main
list(application({"PATH_INFO": "/callbacks/x", "REQUEST_METHOD": "POST"}, lambda *_: None))
unwanted = {"celery", "kombu", "requests", "urllib3", "PIL", "numpy", "alembic", "granian"}
unwanted |= {"sqlalchemy.orm"}
print(sorted(unwanted & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(desk.environment),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("workers", "loaded"), [(1, []), (2, ["psycopg", "sqlalchemy"])])
def test_the_process_that_starts_others_loads_only_what_they_share(
    workers: int, loaded: list[str]
) -> None:
    program = f"""
import sys, granian
from cutwork.cli.commands import cutwork
granian.Granian.serve = lambda _: print(sorted({{"psycopg", "sqlalchemy"}} & set(sys.modules)))
cutwork(["webhook", "--bind", "127.0.0.1:0", "--workers", "{workers}"])
"""
    environ = {**SECRETS, "CUTWORK_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(environ), capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == f"{loaded}\n"


def test_an_address_is_read_in_two_parts() -> None:
    assert address("127.0.0.1:8000") == ("127.0.0.1", 8000)
    assert address("[::1]:80") == ("::1", 80)
    assert address(":80") == ("0.0.0.0", 80)  # noqa: S104


@pytest.mark.parametrize(
    "bind", ["", "8000", "host", "host:", "host:http", "h:65536", "h:-1", "h:٣"]
)
def test_an_address_that_is_none_is_refused(bind: str) -> None:
    with pytest.raises(InvalidSetting, match="--bind"):
        address(bind)


SECRETS = {"CUTWORK_CALLBACK_SECRETS": "s" * 32}


@pytest.mark.parametrize(
    ("variables", "bind", "named"),
    [
        ({}, "127.0.0.1:0", "CUTWORK_CALLBACK_SECRETS"),
        ({**SECRETS, "CUTWORK_DATABASE_URL": "oracle://h/d"}, "127.0.0.1:0", "oracle"),
        ({**SECRETS, "CUTWORK_DATABASE_URL": "mysql+pyodbc://h/d"}, "127.0.0.1:0", "a driver that"),
        (SECRETS, "no-such-host.invalid:80", "cannot be listened on"),
        (SECRETS, "127.0.0.1:{taken}", "cannot be listened on"),
    ],
)
def test_what_is_wrong_is_said_before_it_starts(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    bind: str,
    named: str,
) -> None:
    monkeypatch.setenv("CUTWORK_HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    current.cache_clear()
    with socket.create_server((HOST, 0)) as taken:
        try:
            with pytest.raises(InvalidSetting, match=named):
                serve(bind.format(taken=taken.getsockname()[1]))
        finally:
            current.cache_clear()
