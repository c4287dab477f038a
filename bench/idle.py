"""What an idle reconciler costs, and how soon it sees a job: ``python bench/idle.py [URL]``.

Starts a real ``cutwork reconciler``, lets it idle for twenty seconds, and reads its CPU time from
the system. Then it commits jobs at irregular moments and watches, from a connection of its own, for
their release; a released job is cancelled, because nobody works here. A bare loop that only asks
``SELECT 1`` as often is measured beside it, as the floor.
"""

import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

import psutil
from sqlalchemy import Engine, select, text

import cutwork
from cutwork import database, schema
from cutwork.migrations.upgrade import upgrade

IDLE_SECONDS = 20.0
JOBS = 30
LOOKS_PER_SECOND = 1 / 0.15


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/idle.db"
        engine = database.engine(url)
        upgrade(engine)
        environ = {
            "CUTWORK_HOME": folder,
            "CUTWORK_DATABASE_URL": url,
            "CUTWORK_API_TOKENS": "bench-key",
            "CUTWORK_RATE": "1000",
        }
        program = Path(sys.executable).parent / "cutwork"
        running = subprocess.Popen(  # noqa: S603 - our own program
            [program, "reconciler"], env=environ, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(3)
            used = idle_share(psutil.Process(running.pid))
            waits = [seen_after(engine) for _ in range(JOBS)]
        finally:
            running.terminate()
            running.wait()
        floor = floor_share(database.read_only(engine))
    waits.sort()
    print(f"database            {engine.dialect.name}")  # noqa: T201
    print(f"idle, share of core {used:.2%}  (a bare SELECT 1 as often: {floor:.2%})")  # noqa: T201
    print(  # noqa: T201
        f"commit to release   p50 {statistics.median(waits) * 1000:.0f} ms,"
        f" worst of {JOBS} {waits[-1] * 1000:.0f} ms"
    )


def idle_share(process: psutil.Process) -> float:
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return float(spent) / (time.monotonic() - began)


def floor_share(engine: Engine) -> float:
    began, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - began < IDLE_SECONDS / 4:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        time.sleep(1 / LOOKS_PER_SECOND)
    return (time.process_time() - cpu) / (time.monotonic() - began)


def seen_after(engine: Engine) -> float:
    time.sleep(random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
    with engine.begin() as tx:
        job_id = cutwork.enqueue(tx, image_url="http://example.com/a.jpg").id
    began = time.monotonic()
    while not released(engine, job_id):
        if time.monotonic() - began > 5:
            raise SystemExit("no release in 5 s: does the reconciler run?")
        time.sleep(0.002)
    waited = time.monotonic() - began
    with engine.begin() as tx:
        cutwork.cancel(tx, job_id)
    return waited


def released(engine: Engine, job_id: UUID) -> bool:
    with database.read_only(engine).connect() as tx:
        query = select(schema.job.c.lease).where(schema.job.c.id == job_id)
        return tx.execute(query).scalar_one() is not None


if __name__ == "__main__":
    main()
