"""Requests as fast as they are answered: ``python -m bench.load``, a process of its own.

It reads a :class:`Task` as JSON from the file it is given. Each connection sends its next request
as soon as the last one is answered. Bare sockets and epoll: what is measured is the other side.
"""

import json
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .processes import HERE

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Task:
    """POST ``body`` once to each of ``paths``, over so many connections that are kept."""

    port: int
    connections: int
    paths: Sequence[str]
    body: str


@dataclass(frozen=True)
class Outcome:
    """``p50`` and ``p99`` in seconds, of all requests; ``statuses`` counts the answers."""

    rate: float
    p50: float
    p99: float
    statuses: dict[str, int]


def run(task: Task) -> Outcome:
    """Do it in another process."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(asdict(task), file)
        file.flush()
        words = [sys.executable, "-m", "bench.load", file.name]
        house = Path(__file__).parent.parent
        said = subprocess.run(  # noqa: S603 - our own
            words, check=True, capture_output=True, cwd=house, timeout=120
        )
    return Outcome(**json.loads(said.stdout))


def _requests(task: Task) -> Iterator[bytes]:
    rest = f"Host: {HERE}\r\nContent-Type: application/json\r\nContent-Length: {len(task.body)}"
    end = f" HTTP/1.1\r\n{rest}\r\n\r\n{task.body}".encode()
    for path in task.paths:
        yield b"POST " + path.encode() + end


def _drive(task: Task) -> Outcome:
    requests = _requests(task)
    poll, lines = select.epoll(), {}
    for _ in range(min(task.connections, len(task.paths))):
        line = socket.create_connection((HERE, task.port))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines[line.fileno()] = line
        poll.register(line, select.EPOLLIN)
    heard: dict[int, bytes] = dict.fromkeys(lines, b"")
    sent: dict[int, float] = {}
    took: list[float] = []
    statuses: dict[str, int] = {}
    began = time.perf_counter()
    for number, line in lines.items():
        sent[number] = time.perf_counter()
        line.sendall(next(requests))
    while sent:
        for number, _ in poll.poll(30):
            answer = heard[number] + lines[number].recv(65536)
            head, end, body = answer.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if not end or len(body) < (int(length[1]) if length else 0):
                if answer == heard[number]:
                    raise SystemExit("the server closed a connection")
                heard[number] = answer
                continue
            now = time.perf_counter()
            took.append(now - sent.pop(number))
            status, heard[number] = answer[9:12].decode(), b""
            statuses[status] = statuses.get(status, 0) + 1
            if (request := next(requests, None)) is not None:
                sent[number] = now
                lines[number].sendall(request)
    rate = len(took) / (time.perf_counter() - began)
    took.sort()
    return Outcome(rate, took[len(took) // 2], took[len(took) * 99 // 100], statuses)


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(asdict(_drive(Task(**given)))))  # noqa: T201 - that is the answer
