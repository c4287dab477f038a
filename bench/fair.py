"""What fair turns cost a release: ``python bench/fair.py [DATABASE_URL]``.

Releases of 100 jobs from a backlog of 10,000, with 1, 10 and 1,000 owners, against the plain order:
the same statements on the same rows, but for the first, which takes the due ones by priority and
age from an index of those. Interleaved in one run; the medians of 15 releases each.
"""

import sys
import tempfile
import time
from statistics import median
from typing import Any

import click
from sqlalchemy import Connection, Engine, Index, select, text, update

from cutwork import database, jobs, ledger, rows
from cutwork.clock import now
from cutwork.migrations.upgrade import upgrade
from cutwork.request import Segmentation
from cutwork.schema import job
from cutwork.states import State

BACKLOG, BATCH, ROUNDS = 10_000, 100, 15
KEY = "0a1b2c3d"


def fill(engine: Engine, owners: int) -> None:
    asked = [Segmentation(image_url="https://shop.example/a.jpg")] * (BACKLOG // owners)
    with engine.begin() as tx:
        tx.execute(job.delete())
        for number in range(owners):
            jobs.enqueue_many(tx, asked, owner=f"owner {number}")
    with engine.begin() as tx:
        tx.execute(text("ANALYZE"))


def fair(tx: Connection) -> list[Any]:
    return ledger.release_submits(tx, KEY, BATCH, 60.0)


def plain(tx: Connection) -> list[Any]:
    heads = select(job.c.id).where(job.c.state == State.QUEUED, job.c.due_at <= now())
    ordered = heads.order_by(job.c.priority, job.c.due_at)
    return rows.release(tx, State.QUEUED, ordered, BATCH, 60.0, key_id=KEY)


def timed(engine: Engine, release: Any) -> float:
    began = time.perf_counter()
    with engine.begin() as tx:
        got = release(tx)
    took = time.perf_counter() - began
    if len(got) != BATCH:
        raise SystemExit(f"only {len(got)} jobs were released")
    with engine.begin() as tx:  # back where they were, so that every round sees the same backlog
        tx.execute(update(job).where(job.c.id.in_(got)).values(lease=None, due_at=job.c.created_at))
    return took


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/fair.db"
        engine = database.engine(url)
        upgrade(engine)
        where = text("state = 'queued'")
        index = Index(
            "ix_plain", job.c.state, job.c.priority, job.c.due_at,
            postgresql_where=where, sqlite_where=where,
        )  # fmt: skip
        index.create(engine, checkfirst=True)
        click.echo(f"{engine.dialect.name}: jobs/s released, {BATCH} at a time")
        for owners in (1, 10, 1000):
            fill(engine, owners)
            times: dict[str, list[float]] = {"fair": [], "plain": []}
            for _ in range(ROUNDS):
                times["plain"].append(timed(engine, plain))
                times["fair"].append(timed(engine, fair))
            rates = {name: BATCH / median(took) for name, took in times.items()}
            ratio = rates["fair"] / rates["plain"]
            click.echo(
                f"{owners:>5} owners: plain {rates['plain']:>7.0f}, fair {rates['fair']:>7.0f},"
                f" ratio {ratio:.2f}"
            )
        index.drop(engine)
        engine.dispose()


if __name__ == "__main__":
    main()
