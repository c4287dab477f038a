"""The whole system in one test process: real ledger, real HTTP both ways, real pictures and files.

Only the broker is left out: what the reconciler publishes is run by the test, step by step, so that
a test decides what happens between two steps.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any
from uuid import UUID
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import numpy as np
from PIL import Image

from cutwork import database, jobs
from cutwork.drill.company import STEPS
from cutwork.job import Job
from cutwork.migrations.upgrade import upgrade
from cutwork.sandbox.engine import Cut
from cutwork.sandbox.server import Sandbox
from cutwork.settings import Settings
from cutwork.states import RESTING, State
from cutwork.storage import Storage
from cutwork.webhook.app import Webhook
from cutwork.worker.reconciler import Reconciler
from cutwork.worker.tools import Tools
from tests.services.ports import free_port
from tests.services.waiting import run_until


class Middle:
    """An engine that is quick where the cut is not the point: the middle of the picture."""

    def cut(self, picture: Any, kind: str) -> Cut:
        alpha = np.zeros(picture.shape[:2], np.uint8)
        height, width = alpha.shape
        alpha[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 255
        return Cut(alpha, kind or "object")


def picture(color: str = "red", size: tuple[int, int] = (48, 32)) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


class ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...


class Listener:
    """The webhook behind a real server, in a thread."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.webhook = Webhook(settings)
        self._server = make_server("127.0.0.1", port, self.webhook, ThreadingServer, Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def serve(self, settings: Settings) -> None:
        """Go on with a webhook of other settings, as after a restart."""
        former, self.webhook = self.webhook, Webhook(settings)
        self._server.set_app(self.webhook)
        former.close()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.webhook.close()


@dataclass
class House:
    url: str
    folder: Path
    faults: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    provider: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> "House":
        options = {"seed": 1, "engine": Middle(), **self.provider}
        self.sandbox = Sandbox(faults=self.faults, **options)
        self.sandbox.start()
        port = free_port()
        self.settings = replace(
            Settings(
                home=self.folder,
                database_url=self.url,
                storage_url=(self.folder / "files").as_uri(),
                api_url=self.sandbox.url,
                api_tokens=("house-key-1",),
                public_url=f"http://127.0.0.1:{port}",
                callback_secrets=("0123456789abcdef0123",),
                rate=200.0,
                check_after=600.0,
                submit_timeout=5.0,
                query_timeout=5.0,
                result_timeout=5.0,
            ),
            **self.changes,
        )
        self.engine = database.engine(self.url)
        upgrade(self.engine)
        self.listener = Listener(self.settings, port)
        self.tools = Tools.of(self.settings)
        self.messages: list[tuple[str, UUID]] = []
        self.reconciler = Reconciler(self.engine, self.settings, self._publish)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.reconciler.close()
        self.listener.close()
        self.sandbox.stop()
        self.tools.engine.dispose()
        self.engine.dispose()

    def _publish(self, lane: str, job_ids: Sequence[UUID]) -> None:
        self.messages += [(lane, job_id) for job_id in job_ids]

    def enqueue(self, **options: Any) -> UUID:
        options = {"settings": self.settings, **options}
        if "image_url" not in options:
            options.setdefault("image_file", picture())
        with self.engine.begin() as tx:
            return jobs.enqueue(tx, **options).id

    def job(self, job_id: UUID) -> Job:
        with self.engine.connect() as tx:
            return jobs.get(tx, job_id)

    def step(self) -> None:
        """One look of the reconciler, and every message that it sent."""
        self.reconciler.run_once()
        messages, self.messages = self.messages, []
        for lane, job_id in messages:
            STEPS[lane](self.tools, job_id)

    def until(self, job_id: UUID, state: State, seconds: float = 15.0) -> Job:
        """Step until the job is there."""
        self.run(lambda: self.job(job_id).state is state, seconds, f"{state} was not reached")
        return self.job(job_id)

    def settle(self, *job_ids: UUID, seconds: float = 15.0) -> list[Job]:
        """Step until the jobs rest."""
        at_rest = lambda: all(self.job(one).state in RESTING for one in job_ids)  # noqa: E731
        self.run(at_rest, seconds, "the jobs did not come to rest")
        return [self.job(one) for one in job_ids]

    def run(self, condition: Callable[[], bool], seconds: float, message: str) -> None:
        def stepped() -> bool:
            self.step()
            return condition()

        run_until(stepped, seconds, message)

    def image(self, job: Job) -> Image.Image:
        assert job.image is not None
        return Image.open(BytesIO(Storage.at(self.settings.storage).get(job.image)))

    def charges(self) -> int:
        return int(self.sandbox.ledger()["charges"])
