"""A database with jobs that a worker has just sent, and the callbacks' tokens to them."""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select

from cutwork import callbacks, database, gate, jobs, ledger
from cutwork.clock import now
from cutwork.migrations.upgrade import upgrade
from cutwork.schema import attempt, event, job
from cutwork.settings import Settings
from cutwork.webhook.app import Webhook

SECRET, OLD_SECRET = "the secret that signs " * 2, "the secret of last year " * 2
KEY = "key-of-us"[:8]
LINK = "https://results.example/cut.png?Signature=do-not-log-me"
DONE = {"state": 1, "task_id": "task-1", "progress": 100, "image": LINK}


@dataclass
class Desk:
    """``send()`` makes a job whose submit is on its way, and gives its id and its token."""

    url: str
    options: dict[str, str] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    _webhooks: list[Webhook] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine: Engine = database.engine(self.url)
        upgrade(self.engine)
        with self.engine.begin() as tx:
            gate.ensure(tx, [KEY])

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a webhook on this database."""
        chosen = {"database_url": self.url, "callback_secrets": f"{SECRET},{OLD_SECRET}"}
        chosen |= {"log_level": "DEBUG", **self.options}
        return {f"CUTWORK_{name.upper()}": value for name, value in chosen.items()}

    @property
    def settings(self) -> Settings:
        return Settings.load(self.environment)

    def send(self, attempts: int = 1, **fields: Any) -> tuple[UUID, str]:
        wanted = {"image_url": "https://shop.example/shoe.jpg", **fields}
        with self.engine.begin() as tx:
            job_id = jobs.enqueue(tx, **wanted).id
        for number in range(attempts):
            self._claim(job_id, again=number > 0)
        return job_id, self.mint(job_id, attempts)

    def mint(self, job_id: UUID, number: int = 1, secret: str = SECRET, ttl: int = 600) -> str:
        token = callbacks.mint(secret.strip(), job_id, number, int(time.time()) + ttl)
        self.tokens.append(token)
        return token

    def job(self, job_id: UUID) -> Any:
        return self._read(select(job).where(job.c.id == job_id))

    def attempt(self, job_id: UUID, number: int = 1) -> Any:
        same = (attempt.c.job_id == job_id) & (attempt.c.number == number)
        return self._read(select(attempt).where(same))

    def rows(self) -> list[Any]:
        """Everything there is, to see whether anything has changed."""
        with self.engine.connect() as connection:
            return [list(connection.execute(select(table))) for table in (job, attempt, event)]

    def purge(self, job_id: UUID) -> None:
        with self.engine.begin() as tx:
            ledger.cancel(tx, job_id)
            assert ledger.purge(tx, [job_id]) == 1

    def webhook(self, settings: Settings | None = None) -> Webhook:
        """One in this process, which is closed with the desk."""
        self._webhooks.append(Webhook(settings or self.settings))
        return self._webhooks[-1]

    def close(self) -> None:
        for webhook in self._webhooks:
            webhook.close()
        self.engine.dispose()

    def _read(self, statement: Any) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(statement).one()

    def _claim(self, job_id: UUID, *, again: bool) -> None:
        with self.engine.begin() as tx:
            if again:
                tx.execute(
                    job.update()
                    .where(job.c.id == job_id)
                    .values(state="queued", due_at=now(), lease=None, turn=1)
                )
            gate.ensure(tx, [KEY])
            ledger.release_submits(tx, KEY, 1000, 60.0)
            assert ledger.claim(tx, job_id, self.settings, callback=True) is not None
