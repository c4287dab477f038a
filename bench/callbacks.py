"""How many callbacks a second become durable: ``python bench/callbacks.py POSTGRESQL_URL``.

Without HTTP: threads hand authentic callbacks to the webhook's inbox, and each waits for its
commit. In the same run, interleaved: the ceiling (the same queue and thread, the two UPDATEs of a
whole batch written by hand, with one JSON parameter and no state machine), and a transaction for
each callback. The database is emptied. Medians of the rounds, and the rest as ratios.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from statistics import median
from typing import Any
from uuid import UUID

import click
from sqlalchemy import Engine, insert, text
from uuid_utils.compat import uuid7

from cutwork import database, ledger
from cutwork.clock import after, now
from cutwork.migrations.upgrade import upgrade
from cutwork.report import Report, Verdict
from cutwork.schema import attempt, job
from cutwork.settings import Settings
from cutwork.webhook.inbox import Hearing, Inbox

SETTINGS = Settings(api_tokens=("a-key",), callback_secrets=("a-secret-of-the-bench",))
(KEY,) = SETTINGS.keys
REQUEST = {
    "type": "",
    "output_type": 2,
    "crop": False,
    "format": "png",
    "image_url": "http://a.b/c",
}
DONE = Report(Verdict.DONE, state=1, task_id="task", image="http://a.b/c.png?d", seconds=2.0)
LARGEST = 200

Call = Callable[[UUID], Any]

BY_HAND = (
    text(
        """
        UPDATE cutwork_attempt AS a
           SET state = 'succeeded', report = r.report, seconds = 2.0, provider_state = 1,
               callbacks = a.callbacks + 1, decided_by = 'callback',
               heard_at = statement_timestamp(), finished_at = statement_timestamp()
          FROM jsonb_to_recordset(:rows) AS r (id uuid, report jsonb)
         WHERE a.job_id = r.id AND a.number = 1 AND a.state = 'accepted'
        """
    ),
    text(
        """
        UPDATE cutwork_job AS j
           SET state = 'storing', lease = NULL, due_at = statement_timestamp(), tries = 0,
               result_attempt = 1, result_expires_at = statement_timestamp() + interval '1 hour',
               decided_by = 'callback', finished_at = NULL
          FROM jsonb_to_recordset(:rows) AS r (id uuid)
         WHERE j.id = r.id AND j.state = 'waiting' AND j.fence = 1
        """
    ),
)


class ByHand:
    """The ceiling: take what is queued, commit, repeat."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: SimpleQueue[tuple[UUID, threading.Event] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __call__(self, job_id: UUID) -> None:
        done = threading.Event()
        self._queue.put((job_id, done))
        done.wait()

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < LARGEST and not self._queue.empty():
                if (one := self._queue.get()) is None:
                    self._queue.put(None)
                    break
                batch.append(one)
            rows = json.dumps(
                [{"id": str(job_id), "report": DONE.to_json()} for job_id, _ in batch]
            )
            with self._engine.begin() as tx:
                for statement in BY_HAND:
                    if tx.execute(statement, {"rows": rows}).rowcount != len(batch):
                        raise SystemExit("the ceiling did not change what it should")
            for _, done in batch:
                done.set()


def fill(engine: Engine, size: int) -> list[UUID]:
    """So many jobs that wait for their callback."""
    ids = [uuid7() for _ in range(size)]
    common = {"kind": "segmentation", "state": "waiting", "fence": 1, "tries": 0, "priority": 5}
    common |= {"owner": "", "request": REQUEST, "request_digest": "0" * 64, "attempt": 1}
    tried = {"number": 1, "state": "accepted", "key_id": KEY, "fence": 1, "callback": True}
    tried |= {"checks": 0, "callbacks": 0, "relinks": 0, "task_id": "task"}
    with engine.begin() as tx:
        tx.execute(text("TRUNCATE cutwork_job CASCADE"))
        jobs = insert(job).values(created_at=now(), due_at=after(600))
        tx.execute(jobs, [{**common, "id": one, "key_id": KEY} for one in ids])
        tries = insert(attempt).values(intended_at=now(), accepted_at=now())
        tx.execute(tries, [{**tried, "job_id": one} for one in ids])
    with engine.connect() as tx:
        free = tx.execution_options(isolation_level="AUTOCOMMIT")
        free.execute(text("VACUUM ANALYZE cutwork_job, cutwork_attempt"))
    return ids


def rate(call: Call, ids: list[UUID], at_once: int) -> float:
    """Calls a second, with so many of them under way at any time."""
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as crowd:
        for one in [crowd.submit(call, job_id) for job_id in ids]:
            one.result()
    return len(ids) / (time.perf_counter() - began)


def ways(engine: Engine) -> Iterator[tuple[str, Call]]:
    """One after the other; each is closed before the next."""
    ceiling = ByHand(engine)
    yield "by hand, together", ceiling
    ceiling.close()
    inbox = Inbox(engine, SETTINGS)
    yield "the webhook's inbox", lambda one: inbox.put(Hearing(one, 1, DONE)).result()
    inbox.close()
    yield (
        "a commit for each",
        lambda one: database.transact(engine, ledger.hear, one, 1, DONE, SETTINGS),
    )


@click.command()
@click.argument("url")
@click.option("--jobs", default=2000, show_default=True)
@click.option("--at-once", default=64, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(url: str, jobs: int, at_once: int, rounds: int) -> None:
    """Measure durable callbacks a second in a PostgreSQL database that may be emptied."""
    engine = database.engine(url, pool_size=16)
    upgrade(engine)
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, call in ways(engine):
            rates.setdefault(name, []).append(rate(call, fill(engine, jobs), at_once))
    engine.dispose()
    ceiling = median(next(iter(rates.values())))
    for name, seen in rates.items():
        click.echo(
            f"{name:<22}{median(seen):>8.0f}/s   {median(seen) / ceiling:.2f} of the ceiling"
        )


if __name__ == "__main__":
    main()
