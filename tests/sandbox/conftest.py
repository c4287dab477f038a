"""Fixtures: sandboxes, a client, a receiver of callbacks, and pictures, each made to order."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Condition, Event, Thread
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from cutwork.sandbox.engine import Cut
from cutwork.sandbox.server import Sandbox


class Middle:
    """An engine that takes the middle of every picture, at once."""

    def cut(self, picture: np.ndarray, kind: str) -> Cut:
        height, width = picture.shape[:2]
        alpha = np.zeros((height, width), np.uint8)
        alpha[height // 4 : height - height // 4, width // 4 : width - width // 4] = 255
        return Cut(alpha, kind or "object")


@dataclass
class Client:
    """One key's view of a sandbox; every request is on a connection of its own."""

    sandbox: Sandbox
    token: str = "key-of-the-tests"
    png: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def submit(self, timeout: float = 10, **fields: Any) -> requests.Response:
        """POST a small picture, unless an image_url is given."""
        files: dict[str, Any] = {} if "image_url" in fields else {"image_file": ("a.png", self.png)}
        files |= {name: (None, str(value)) for name, value in fields.items()}
        return requests.post(
            f"{self.sandbox.url}/task/pic/segmentation",
            headers=self.headers,
            files=files,
            timeout=timeout,
        )

    def accept(self, **fields: Any) -> str:
        """Submit, and return the id of the task that was taken on."""
        reply = self.submit(**fields)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["data"]["task_id"])

    def query(self, task_id: str) -> requests.Response:
        return requests.get(f"{self.sandbox.url}/task/{task_id}", headers=self.headers, timeout=10)

    def finish(self, task_id: str) -> dict[str, Any]:
        """The task's row in the ledger, once it is final."""
        return until(lambda: self.row(task_id), lambda row: row["state"] == 1 or row["state"] < 0)

    def row(self, task_id: str) -> dict[str, Any]:
        rows = [row for row in self.sandbox.ledger()["tasks"] if row["task_id"] == task_id]
        return rows[0]

    def link(self, **fields: Any) -> str:
        """The result's link of a task that was submitted and is done."""
        task_id = self.accept(**fields)
        self.finish(task_id)
        return str(self.query(task_id).json()["data"]["image"])


@dataclass
class Arrival:
    """A callback as it arrived."""

    method: str
    path: str
    content_type: str
    body: bytes


@dataclass
class Receiver:
    """A real HTTP server that keeps what it is sent and answers from ``statuses``, then 200."""

    statuses: list[int] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    changed: Condition = field(default_factory=Condition)
    url: str = ""

    def wait(self, count: int = 1, seconds: float = 5) -> list[Arrival]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.arrivals) >= count, seconds), (
                f"{len(self.arrivals)} of {count} callbacks came"
            )
            return list(self.arrivals)


@pytest.fixture
def make_sandbox() -> Iterator[Callable[..., Sandbox]]:
    running: list[Sandbox] = []

    def make(**options: Any) -> Sandbox:
        options = {"seed": 7, "engine": Middle(), **options}
        sandbox = Sandbox(**options)
        sandbox.start()
        running.append(sandbox)
        return sandbox

    yield make
    for sandbox in running:
        sandbox.stop()


@pytest.fixture
def make_client(
    make_sandbox: Callable[..., Sandbox], make_png: Callable[..., bytes]
) -> Callable[..., Client]:
    def make(
        key: str = "key-of-the-tests", sandbox: Sandbox | None = None, **options: Any
    ) -> Client:
        return Client(sandbox or make_sandbox(**options), key, make_png())

    return make


@pytest.fixture
def make_png() -> Callable[..., bytes]:
    def make(width: int = 40, height: int = 30, kind: str = "PNG", **options: Any) -> bytes:
        pixels = np.random.default_rng(width * height).integers(0, 255, (height, width, 3))
        output = BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(output, kind, **options)
        return output.getvalue()

    return make


@pytest.fixture
def make_receiver() -> Iterator[Callable[..., Receiver]]:
    servers: list[ThreadingHTTPServer] = []

    def make(*statuses: int) -> Receiver:
        receiver = Receiver(list(statuses))
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(receiver))
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/callbacks/token"
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return receiver

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = self.headers.get("Content-Type", "")
            with receiver.changed:
                receiver.arrivals.append(Arrival(self.command, self.path, kind, body))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                receiver.changed.notify_all()
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Keep the output of the tests clean."""

    return Handler


def until(look: Callable[[], Any], fits: Callable[[Any], bool] = bool, seconds: float = 10) -> Any:
    """Look again and again, and return the first sight that fits."""
    deadline = time.monotonic() + seconds
    pause = Event()
    while not fits(seen := look()):
        assert time.monotonic() < deadline, f"in {seconds} s it only came to {seen}"
        pause.wait(0.01)
    return seen


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until
