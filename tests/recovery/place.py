"""A deployment of real processes that is put into trouble, and is never restarted by the test."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.exc import DBAPIError

from cutwork import database, jobs, schema
from cutwork.clock import after, now
from cutwork.job import Job
from cutwork.migrations.upgrade import upgrade
from cutwork.sandbox.server import Sandbox
from cutwork.settings import Settings
from cutwork.states import State
from tests.house import Middle, picture
from tests.services.ports import free_port, is_open
from tests.services.processes import Process, Processes
from tests.services.waiting import run_until

PATIENCE = 90.0


@dataclass
class Place:
    """Its environment, its provider, and the processes that were started in it."""

    sandbox: Sandbox
    environ: dict[str, str]
    processes: Processes
    engine: Engine
    settings: Settings
    port: int
    roles: list[Process] = field(default_factory=list)
    ids: list[UUID] = field(default_factory=list)

    def start(
        self, role: str, *words: str, name: str = "", env: Mapping[str, str] | None = None
    ) -> Process:
        """A process that is expected to live as long as the test."""
        environ = {**self.environ, **(env or {})}
        process = self.processes.start("cutwork", role, *words, env=environ, name=name or role)
        self.roles.append(process)
        return process

    def open(self, pool: str = "threads") -> None:
        """The webhook, a worker and a reconciler."""
        self.hear()
        self.start("worker", "--pool", pool)
        self.start("reconciler")

    def role(self, name: str) -> Process:
        """The one process of this name."""
        (process,) = (one for one in self.roles if one.name == name)
        return process

    def hear(self, *, env: Mapping[str, str] | None = None) -> Process:
        webhook = self.start("webhook", "--bind", f"127.0.0.1:{self.port}", env=env)
        run_until(lambda: is_open(self.port), 40, "the webhook does not listen")
        return webhook

    def enqueue(self, count: int = 1, **options: Any) -> list[UUID]:
        options = {"image_file": picture(), "settings": self.settings, **options}
        # What becomes of an app's own connection, when a server goes away, is the app's matter.
        self.engine.dispose()
        with self.engine.begin() as tx:
            ids = [jobs.enqueue(tx, **options).id for _ in range(count)]
        self.ids += ids
        return ids

    def job(self, job_id: UUID) -> Job:
        with database.read_only(self.engine).connect() as tx:
            return jobs.get(tx, job_id)

    def count(self, *states: State) -> int:
        # No lock: a worker that is stopped in the middle of a write holds SQLite's.
        with database.read_only(self.engine).connect() as tx:
            query = select(func.count()).select_from(schema.job)
            return int(tx.execute(query.where(schema.job.c.state.in_(states))).scalar_one())

    def until(self, states: State | tuple[State, ...], at_least: int = 1) -> None:
        """Wait until so many jobs are there; a database that is away meanwhile is waited for."""
        wanted = (states,) if isinstance(states, State) else states

        def there() -> bool:
            try:
                return self.count(*wanted) >= at_least
            except DBAPIError:
                return False

        run_until(there, PATIENCE, f"not {at_least} jobs are {', '.join(wanted)}")

    def overdue(self) -> bool:
        """Whether a job is due, and nobody named it to the broker."""
        return self._any(schema.job.c.due_at < after(-1), schema.job.c.lease.is_(None))

    def lapsed(self) -> bool:
        """Whether a job was named to the broker, and nobody took it in time."""
        return self._any(schema.job.c.due_at < now(), schema.job.c.lease == "message")

    def _any(self, *conditions: ColumnElement[bool]) -> bool:
        with database.read_only(self.engine).connect() as tx:
            return bool(tx.execute(select(schema.job.c.id).where(*conditions)).first())

    def finish(self) -> None:
        """Every job succeeds, every process that was started still runs."""
        self.until(State.SUCCEEDED, len(self.ids))
        self.check_alive()

    def check_alive(self) -> None:
        ended = [one.name for one in self.roles if not one.running]
        assert not ended, f"ended by itself: {ended}"

    def charges(self) -> int:
        return int(self.sandbox.ledger()["charges"])


@contextmanager
def deployed(
    processes: Processes,
    home: Path,
    database_url: str,
    broker_url: str,
    *,
    sandbox: Mapping[str, Any] | None = None,
    **changes: str,
) -> Iterator[Place]:
    """Nothing runs yet but the provider; ``changes`` are settings by their lower-case names."""
    port = free_port()
    options: dict[str, Any] = {"seed": 3, "latency": (0.1, 0.4), **(sandbox or {})}
    with Sandbox(engine=Middle(), **options) as provider:
        chosen = {
            "home": str(home),
            "database_url": database_url,
            "broker_url": broker_url,
            "storage_url": (home / "files").as_uri(),
            "api_url": provider.url,
            "api_tokens": "recovery-key-1",
            "public_url": f"http://127.0.0.1:{port}",
            "callback_secrets": "0123456789abcdef0123",
            "rate": "20",
            "check_after": "2",
            "submit_timeout": "10",
            "query_timeout": "3",
            "result_timeout": "3",
            "permit_ttl": "2",
            "lease_margin": "2",
            "concurrency": "4",
            **changes,
        }
        environ = {f"CUTWORK_{name.upper()}": value for name, value in chosen.items()}
        engine = database.engine(database_url)
        upgrade(engine)
        try:
            yield Place(provider, environ, processes, engine, Settings.load(environ), port)
        finally:
            processes.close()  # before the provider: nothing is left to be surprised by its end
            engine.dispose()


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    """SIGSTOP for the process and all that it started; SIGCONT afterwards."""
    family = process.family()
    for one in family:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in family:
            one.send_signal(signal.SIGCONT)
