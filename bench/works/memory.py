"""What processes hold in memory: a busy worker, the other two roles, and an app that enqueues many.

A role's figure is the resident memory of its process and all its children together: what is one's
own, and of each file that is mapped, the largest part that one of them shares. Libraries that other
programs use as well count in full.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

import psutil
from redis import Redis
from sqlalchemy import Engine

import cutwork
from bench.measuring import Figures, Goal, Role, Unavailable, Way, Work
from bench.place import Place

IN_FLIGHT, MANY = 200, 100_000
_HELD = 10.0
_PATIENCE = 30.0
_MB = 2**20
_WEBHOOK = "127.0.0.1:8779"
_COMMANDS = (["worker"], ["reconciler"], ["webhook", "--bind", _WEBHOOK])


def works(place: Place) -> Iterator[Work]:
    """Figures are megabytes; nothing in a quick run, as each process is watched for a while."""
    if place.quick:
        return
    yield Work(
        f"memory: roles, with {IN_FLIGHT} submits in flight",
        (Way("our roles", Role.OURS, partial(resident, place)),),
        (
            Goal("worker_mb", at_most=120),
            Goal("reconciler_mb", at_most=80),
            Goal("webhook_mb", at_most=80),
        ),
    )
    engine = place.fresh_engine("_memory")
    yield Work(
        f"memory: enqueue_many of {MANY:,}",
        (Way("cutwork.enqueue_many", Role.OURS, lambda: enqueued(engine)),),
        (Goal("peak_mb", at_most=15),),
    )
    engine.dispose()


def resident(place: Place) -> Figures:
    """What each role's processes hold while the worker has its submits in flight."""
    engine = place.fresh_engine("_memory")
    with tempfile.TemporaryDirectory() as home, _holding_provider() as provider:
        environ = {name: value for name, value in os.environ.items() if name[:8] != "CUTWORK_"}
        environ |= {
            "CUTWORK_HOME": home,
            "CUTWORK_DATABASE_URL": engine.url.render_as_string(hide_password=False),
            "CUTWORK_BROKER_URL": _emptied(place.redis),
            "CUTWORK_API_URL": f"http://127.0.0.1:{provider.server_address[1]}",
            "CUTWORK_API_TOKENS": "a-key",
            "CUTWORK_CONCURRENCY": str(IN_FLIGHT),
            "CUTWORK_SUBMIT_LANE": str(2 * IN_FLIGHT),
            "CUTWORK_RATE": "10000",
            "CUTWORK_MAX_IN_FLIGHT": "100000",
            "CUTWORK_LOG_LEVEL": "WARNING",
            "CUTWORK_PUBLIC_URL": "http://127.0.0.1:9",
            "CUTWORK_CALLBACK_SECRETS": "a-secret-of-the-bench-and-of-nobody-else",
        }
        with _running(environ, *_COMMANDS) as roles:
            with engine.begin() as tx:
                url = "http://pictures.example/1.jpg"
                cutwork.enqueue_many(
                    tx, (cutwork.Segmentation(image_url=url) for _ in range(2 * IN_FLIGHT))
                )
            deadline = time.monotonic() + _PATIENCE
            while provider.held < IN_FLIGHT:
                if time.monotonic() > deadline:
                    raise Unavailable(f"only {provider.held} of {IN_FLIGHT} submits in flight")
                time.sleep(0.1)
            # A webhook loads its database's driver when it is first asked for something.
            with urlopen(f"http://{_WEBHOOK}/readyz", timeout=_PATIENCE) as answer:
                answer.read()
            time.sleep(1.0)
            figures = {f"{name}_mb": _resident(process) for name, process in roles.items()}
    engine.dispose()
    return figures


def enqueued(engine: Engine) -> Figures:
    """What grew at the most, and what is left beside the ids that are returned."""
    wanted = (cutwork.Segmentation(image_url="http://a.b/c.jpg") for _ in range(MANY))
    tracemalloc.start()
    try:
        with engine.begin() as tx:
            ids = cutwork.enqueue_many(tx, wanted)
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    own = sys.getsizeof(ids) + sum(sys.getsizeof(one) + sys.getsizeof(one.int) for one in ids)
    return {"peak_mb": (peak - own) / _MB, "left_mb": (left - own) / _MB}


def _emptied(url: str) -> str:
    """The Redis database, without what an ended worker had in hand."""
    with Redis.from_url(url) as server:
        server.flushdb()
    return url


def _resident(process: "subprocess.Popen[bytes]") -> float:
    shown = psutil.Process(process.pid)
    own, shared = 0, Counter[str]()
    for one in (shown, *shown.children(recursive=True)):
        for part in one.memory_maps(grouped=True):
            own += part.private_clean + part.private_dirty
            shared |= Counter({part.path: part.shared_clean + part.shared_dirty})
    return (own + shared.total()) / _MB


@contextmanager
def _running(
    environ: dict[str, str], *commands: list[str]
) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """Roles by name, as processes that end with the block."""
    started = {}
    try:
        for words in commands:
            started[words[0]] = subprocess.Popen(  # noqa: S603 - our own roles
                [sys.executable, "-m", "cutwork", *words],
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        yield started
    finally:
        for process in started.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class _Provider(ThreadingHTTPServer):
    """Accepts every create, after a while; ``held`` is how many it holds at the moment."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.lock, self.held, self.seen = threading.Lock(), 0, 0

    def handle_error(self, *_: object) -> None:
        """Nothing: a worker that was ended does not wait for its answer."""

    def hold(self) -> int:
        with self.lock:
            self.held += 1
            self.seen += 1
            number = self.seen
        time.sleep(_HELD)
        with self.lock:
            self.held -= 1
        return number


class _Answer(BaseHTTPRequestHandler):
    server: _Provider

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        task = {"task_id": f"task-{self.server.hold()}"}
        body = json.dumps({"status": 200, "message": "success", "data": task}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: it answers hundreds."""


@contextmanager
def _holding_provider() -> Iterator[_Provider]:
    provider = _Provider()
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    try:
        yield provider
    finally:
        provider.shutdown()
        provider.server_close()
