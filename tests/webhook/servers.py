"""The webhook under real servers, and a client that sends exactly the bytes that it is given."""

import json
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.services.ports import HOST, free_port
from tests.services.processes import Process, Processes
from tests.services.waiting import run_until
from tests.webhook.desk import Desk

SERVERS = ("granian", "gunicorn", "waitress")
_APP = "cutwork.webhook.app:application"
_SERVE = "import sys; from cutwork.webhook.main import serve; serve(sys.argv[1])"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


@dataclass
class Served:
    """One server of one desk."""

    name: str
    port: int
    process: Process
    desk: Desk

    def post(self, token: str, payload: Any = None, **more: Any) -> Answer:
        body = b"" if payload is None else json.dumps(payload).encode()
        return self.send("POST", f"/callbacks/{token}", body, **more)

    def form(self, token: str, payload: dict[str, Any]) -> Answer:
        kind = "Content-Type: application/x-www-form-urlencoded"
        return self.send("POST", f"/callbacks/{token}", urlencode(payload).encode(), kind)

    def send(
        self, method: str, path: str, body: bytes = b"", *headers: str, seconds: float = 10.0
    ) -> Answer:
        lines = [*headers, f"Content-Length: {len(body)}"] if body else list(headers)
        answer = self.raw(f"{method} {path} HTTP/1.1", lines, body, seconds=seconds)
        assert answer is not None, f"no answer to {method} {path}"
        return answer

    def raw(
        self,
        line: str,
        headers: list[str],
        *parts: bytes,
        shut: bool = False,
        seconds: float = 10.0,
    ) -> Answer | None:
        """Send a head and parts of a body; None when the server hangs up without a word."""
        started = time.monotonic()
        with socket.create_connection((HOST, self.port), seconds) as connection:
            head = "\r\n".join([line, "Host: hooks.example", *headers, "", ""]).encode("latin-1")
            connection.sendall(head + b"".join(parts))
            if shut:
                connection.shutdown(socket.SHUT_WR)
            return read(connection, started, bodiless=line.startswith("HEAD"))

    def is_well(self) -> bool:
        answer = self.raw("GET /healthz HTTP/1.1", [], seconds=3.0)
        return answer is not None and answer.status == 200

    def assert_discreet(self) -> None:
        """No token and no query in anything that the process wrote."""
        assert "route=healthz" in self.process.log, "the level DEBUG is not on: this proves nothing"
        told = [token for token in self.desk.tokens if token in self.process.log]
        assert not told, f"{self.name} wrote {len(told)} tokens"
        assert "do-not-log-me" not in self.process.log
        assert "Traceback" not in self.process.log


def read(
    connection: socket.socket, started: float = 0.0, *, bodiless: bool = False
) -> Answer | None:
    """One answer, after any number of 100 Continue."""
    with connection.makefile("rb") as stream:
        try:
            line = stream.readline()
            while line.startswith(b"HTTP/1.1 100"):
                while stream.readline().strip():
                    pass
                line = stream.readline()
            if not line:
                return None
            headers = {}
            while field := stream.readline().strip():
                name, _, value = field.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            body = b"" if bodiless else stream.read(int(headers.get("content-length", 0)))
        except ConnectionResetError:
            return None
    return Answer(int(line.split()[1]), headers, body, time.monotonic() - started)


def start(processes: Processes, name: str, desk: Desk, *options: str) -> Served:
    """Start a server and wait until it serves; ``options`` are the server's own."""
    port = free_port()
    commands = {
        "granian": [sys.executable, "-c", _SERVE, f"{HOST}:{port}"],
        "gunicorn": [
            "gunicorn", "--worker-class=gthread", "--threads=16", f"--bind={HOST}:{port}",
            "--no-control-socket", "--log-level=error", _APP,
        ],
        "waitress": [
            "waitress-serve", f"--listen={HOST}:{port}", "--threads=16",
            "--channel-timeout=2", "--cleanup-interval=1", _APP,
        ],
    }  # fmt: skip
    process = processes.start(*commands[name], *options, name=name, env=desk.environment)
    served = Served(name, port, process, desk)
    run_until(lambda: _answers(served), 60.0, f"{name} serves")
    return served


def _answers(served: Served) -> bool:
    assert served.process.running, served.process.tail()
    try:
        return served.is_well()
    except OSError:
        return False
