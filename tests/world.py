"""A database with jobs in it, driven through the ledger's verbs as the roles drive it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select, update

from cutwork import database, gate, jobs, ledger, schema
from cutwork.job import Job
from cutwork.ledger import Heard, Ticket
from cutwork.migrations.upgrade import upgrade
from cutwork.report import Report, Verdict
from cutwork.settings import Settings
from cutwork.states import State

T = TypeVar("T")

TOKEN = "test-key"
LINK = "http://127.0.0.1:9/files/a-image.png?signature=secret"
SETTINGS = Settings(
    api_url="http://127.0.0.1:9",
    api_tokens=(TOKEN,),
    public_url="http://127.0.0.1:8",
    callback_secrets=("0123456789abcdef",),
)
(KEY_ID,) = SETTINGS.keys


def done(task_id: str | None = "task-1", image: str | None = LINK) -> Report:
    return Report(Verdict.DONE, state=1, task_id=task_id, image=image, mask=image)


def failed(state: int = -7, task_id: str | None = "task-1") -> Report:
    return Report(Verdict.FAILED, state=state, task_id=task_id)


def pending(task_id: str | None = "task-1") -> Report:
    return Report(Verdict.PENDING, state=4, task_id=task_id)


# What differs between two jobs that went the same way.
_OWN = {"id", "job_id", "turn", "trail"}


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (value is not None if name.endswith("_at") else value)
        for name, value in row.items()
        if name not in _OWN
    }


RESULT = {
    "files": {
        "image": {
            "uri": "memory:///x.png",
            "size": 1,
            "sha256": "0" * 64,
            "format": "png",
            "width": 1,
            "height": 1,
        }
    },
    "foreground_rect": None,
}


@dataclass
class World:
    engine: Engine
    settings: Settings = field(default=SETTINGS)
    together: bool = False  # each verb about one job in a page of its own

    @classmethod
    def at(cls, url: str, settings: Settings = SETTINGS) -> "World":
        engine = database.engine(url)
        upgrade(engine)
        world = cls(engine, settings)
        world.do(gate.ensure, settings.keys)
        return world

    def do(self, verb: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a verb in a transaction of its own."""
        about = getattr(args[0], "job_id", args[0]) if args else None
        if not (self.together and isinstance(about, UUID)):
            return database.transact(self.engine, verb, *args, **kwargs)

        def together(tx: Connection) -> T:
            with ledger.together(tx, [about]):
                return verb(tx, *args, **kwargs)

        return database.transact(self.engine, together)

    def enqueue(self, **options: Any) -> UUID:
        options = {"image_url": "http://example.com/a.jpg", **options}
        with self.engine.begin() as tx:
            return jobs.enqueue(tx, **options).id

    def job(self, job_id: UUID) -> Job:
        with self.engine.connect() as tx:
            return jobs.get(tx, job_id)

    def state(self, job_id: UUID) -> State:
        return self.job(job_id).state

    def row(self, job_id: UUID) -> dict[str, Any]:
        with self.engine.connect() as tx:
            row = tx.execute(select(schema.job).where(schema.job.c.id == job_id)).one()
        return dict(row._mapping)

    def attempt(self, job_id: UUID, number: int = 1) -> dict[str, Any]:
        same = (schema.attempt.c.job_id == job_id, schema.attempt.c.number == number)
        with self.engine.connect() as tx:
            return dict(tx.execute(select(schema.attempt).where(*same)).one()._mapping)

    def events(self, job_id: UUID | None = None) -> list[str]:
        query = select(schema.event.c.kind).order_by(schema.event.c.id)
        if job_id is not None:
            query = query.where(schema.event.c.job_id == job_id)
        with self.engine.connect() as tx:
            return list(tx.execute(query).scalars())

    def story(self, job_id: UUID) -> Any:
        """The job, its attempts and what was noted of it; of a moment only whether there is one."""
        with self.engine.connect() as tx:
            same = schema.attempt.c.job_id == job_id
            made = tx.execute(select(schema.attempt).where(same)).all()
        told = [[(entry["what"], entry["detail"]) for entry in one.trail or ()] for one in made]
        attempts = [_facts(dict(one._mapping)) for one in made]
        return [_facts(self.row(job_id)), attempts, told, sorted(self.events(job_id))]

    def count(self, table: Any = schema.job) -> int:
        with self.engine.connect() as tx:
            return tx.execute(select(func.count()).select_from(table)).scalar_one()

    def ring(self, job_id: UUID) -> None:
        """Let the job's alarm ring now, as if its time had come."""
        past = schema.job.c.created_at
        with self.engine.begin() as tx:
            tx.execute(update(schema.job).where(schema.job.c.id == job_id).values(due_at=past))

    def release(self, limit: int = 10) -> list[UUID]:
        self.do(ledger.wake)
        return self.do(ledger.release_submits, KEY_ID, limit, 30.0)

    def claim(self, job_id: UUID) -> Ticket:
        ticket = self.do(ledger.claim, job_id, self.settings, callback=True)
        assert ticket is not None
        return ticket

    def submitting(self, **options: Any) -> Ticket:
        """A job whose intent is written and whose POST may be on the wire."""
        job_id = self.enqueue(**options)
        assert job_id in self.release()
        return self.claim(job_id)

    def waiting(self, **options: Any) -> Ticket:
        """A job that the provider has accepted as ``task-1``."""
        ticket = self.submitting(**options)
        assert self.learn(ticket, pending(), "reply") is Heard.MOVED
        return ticket

    def uncertain(self, **options: Any) -> Ticket:
        ticket = self.submitting(**options)
        assert self.do(ledger.lost, ticket, "the reply did not come", self.settings)
        return ticket

    def storing(self, **options: Any) -> Ticket:
        """A job whose result is in a worker's hands."""
        ticket = self.waiting(**options)
        assert self.learn(ticket, done()) is Heard.MOVED
        return self.claim_store(ticket.job_id)

    def claim_store(self, job_id: UUID) -> Ticket:
        assert job_id in self.do(ledger.release_stores, 10, 30.0)
        ticket = self.do(ledger.claim_store, job_id, self.settings)
        assert ticket is not None
        return ticket

    def claim_check(self, job_id: UUID) -> Ticket:
        self.ring(job_id)
        assert job_id in self.do(ledger.release_checks, KEY_ID, 10, 30.0)
        ticket = self.do(ledger.claim_check, job_id, self.settings)
        assert ticket is not None
        return ticket

    def succeeded(self, **options: Any) -> UUID:
        ticket = self.storing(**options)
        assert self.do(ledger.stored, ticket, RESULT, self.settings)
        return ticket.job_id

    def learn(self, ticket: Ticket, report: Report, via: str = "callback") -> Heard:
        return self.do(ledger.learn, ticket.job_id, ticket.number, report, via, self.settings)

    def next_attempt(self, job_id: UUID) -> Ticket:
        """Release and claim a job that is queued again."""
        self.ring(job_id)
        assert job_id in self.release()
        return self.claim(job_id)
