"""T5 in small: each database with each broker, real processes, two of them killed.

Twenty jobs, five callbacks lost, five duplicated, a worker and a reconciler ended by SIGKILL:
twenty pictures, twenty charges, and each of them its own.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select

from cutwork import database, jobs, schema
from cutwork.migrations.upgrade import upgrade
from cutwork.sandbox.server import Sandbox
from cutwork.settings import Settings
from cutwork.states import State
from cutwork.storage import Storage
from tests.house import Middle, picture
from tests.services.ports import free_port, is_open
from tests.services.processes import Process, Processes
from tests.services.waiting import run_until

pytestmark = pytest.mark.long

JOBS = 20
PAIRS = [
    ("sqlite", "filesystem", "threads"),
    ("sqlite", "redis", "threads"),
    ("sqlite", "rabbitmq", "prefork"),
    ("postgresql", "redis", "prefork"),
    ("postgresql", "rabbitmq", "threads"),
    ("mariadb", "redis", "threads"),
    ("mariadb", "rabbitmq", "threads"),
]
TROUBLE = {
    "schedule": {
        **{str(at): ["lost_callback"] for at in range(0, JOBS, 4)},
        **{str(at): ["duplicate_callback"] for at in range(1, JOBS, 4)},
    }
}


@dataclass
class Site:
    """A deployment: its environment, and the processes that were started in it."""

    environ: dict[str, str]
    processes: Processes
    engine: Engine
    settings: Settings

    def start(self, role: str, *words: str, name: str = "") -> Process:
        return self.processes.start("cutwork", role, *words, env=self.environ, name=name or role)

    def count(self, *states: State) -> int:
        # No lock: a worker that is stopped in the middle of a write holds SQLite's.
        with database.read_only(self.engine).connect() as tx:
            query = select(func.count()).select_from(schema.job)
            return tx.execute(query.where(schema.job.c.state.in_(states))).scalar_one()


def site(
    processes: Processes, sandbox: Sandbox, home: Path, port: int, urls: tuple[str, str]
) -> Site:
    environ = {
        "CUTWORK_HOME": str(home),
        "CUTWORK_DATABASE_URL": urls[0],
        "CUTWORK_BROKER_URL": urls[1],
        "CUTWORK_STORAGE_URL": (home / "files").as_uri(),
        "CUTWORK_API_URL": sandbox.url,
        "CUTWORK_API_TOKENS": "matrix-key-1",
        "CUTWORK_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "CUTWORK_CALLBACK_SECRETS": "0123456789abcdef0123",
        "CUTWORK_RATE": "40",
        "CUTWORK_CHECK_AFTER": "1",
        "CUTWORK_SUBMIT_TIMEOUT": "2",
        "CUTWORK_QUERY_TIMEOUT": "2",
        "CUTWORK_RESULT_TIMEOUT": "2",
        "CUTWORK_PERMIT_TTL": "2",
        "CUTWORK_CONCURRENCY": "4",
    }
    engine = database.engine(urls[0])
    upgrade(engine)
    return Site(environ, processes, engine, Settings.load(environ))


def kill_between_two_posts(place: Site, worker: Process) -> None:
    """SIGKILL a worker at a moment when no intent is open: what a kill in a POST costs is T3's."""

    def tell(number: signal.Signals) -> None:
        for process in worker.family():
            process.send_signal(number)

    def stopped_outside_a_post() -> bool:
        tell(signal.SIGSTOP)
        if place.count(State.SUBMITTING) == 0:
            return True
        tell(signal.SIGCONT)
        return False

    run_until(stopped_outside_a_post, 20, "the worker was always in a POST")
    worker.kill()


@pytest.mark.parametrize(("store", "broker", "pool"), PAIRS)
def test_every_job_succeeds_and_is_paid_once_whatever_is_killed(
    store: str,
    broker: str,
    pool: str,
    empty_database: Callable[[str], str],
    empty_broker: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> None:
    port = free_port()
    with Sandbox(seed=5, engine=Middle(), faults=TROUBLE, latency=(0.1, 0.4)) as sandbox:
        urls = (empty_database(store), empty_broker(broker))
        place = site(processes, sandbox, tmp_path, port, urls)
        pictures = [picture(f"hsl({at * 18}, 80%, 50%)") for at in range(JOBS)]
        with place.engine.begin() as tx:
            ids = [
                jobs.enqueue(tx, image_file=data, settings=place.settings).id for data in pictures
            ]
        place.start("webhook", "--bind", f"127.0.0.1:{port}")
        run_until(lambda: is_open(port), 60, "the webhook does not listen")
        place.start("worker", "--pool", pool, name="worker-a")
        doomed = place.start("worker", "--pool", pool, name="worker-b")
        clock = place.start("reconciler", name="reconciler-a")

        run_until(lambda: place.count(State.SUCCEEDED) >= 3, 40, "nothing was cut")
        clock.signal(signal.SIGKILL)
        kill_between_two_posts(place, doomed)
        place.start("reconciler", name="reconciler-b")
        run_until(lambda: place.count(State.SUCCEEDED) == JOBS, 60, "not all jobs succeeded")

        told = sandbox.ledger()
    assert told["charges"] == JOBS
    assert len(told["tasks"]) == JOBS
    check_pictures(place, ids, told)
    place.engine.dispose()


def check_pictures(place: Site, ids: list[UUID], told: dict[str, Any]) -> None:
    """S3 and S5: each task is one attempt's, each stored picture its own job's."""
    storage = Storage.at(place.settings.storage)
    tasks = {task["task_id"]: task for task in told["tasks"]}
    polled = 0
    with place.engine.connect() as tx:
        for job_id in ids:
            job = jobs.get(tx, job_id)
            assert [one.state for one in job.attempts] == ["succeeded"]
            assert job.image is not None
            data = storage.get(job.image)
            assert len(data) == job.files["image"].size
            task = tasks.pop(str(job.task_id))
            assert task["source"] == job.request["image_file"]["sha256"][:16]
            assert task["prints"]["image"] == sha256(data).hexdigest()
            polled += job.decided_by == "poll"
    assert not tasks
    assert polled >= 5
