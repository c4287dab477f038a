"""A shop's pictures, cut by the sandbox, with a day's troubles, behind a real console.

The jobs with pictures are real ones, sent through the webhook, the reconciler and the sandbox's own
engine. The hours before are rows, so that there is something to draw.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from PIL import Image, ImageOps
from sqlalchemy import Engine, insert

from cutwork import schema
from cutwork.cli.sample import samples
from cutwork.job import Job
from cutwork.sandbox.grabcut import GrabCutEngine
from cutwork.states import Attempt, State
from tests.console.client import TOKEN
from tests.house import House
from tests.services.ports import free_port, is_open
from tests.services.processes import Process, Processes
from tests.services.waiting import run_until
from tests.tables import job_values

_SOON = {"check_after": 0.2, "uncertain_grace": 0.3, "console_token": TOKEN, "rate": 500.0}
_FAULTS: dict[str, Any] = {
    "1": ["error_500"], "3": [{"task_failed": -7}], "4": [{"task_failed": -7}],
    "5": ["error_500"], "7": [{"task_failed": -5}], "9": ["lost_callback"],
}  # fmt: skip


@dataclass
class Place:
    """``jobs`` in the order in which they were sent; ``job`` is the one to be looked at closely."""

    house: House
    url: str
    process: Process
    jobs: list[UUID]

    @property
    def job(self) -> UUID:
        return self.jobs[-1]

    def of(self, state: State) -> Job:
        """The newest job of this state."""
        found = (self.house.job(one) for one in reversed(self.jobs))
        return next(one for one in found if one.state is state)


@contextmanager
def inhabited(database: str, folder: Path, processes: Processes) -> Iterator[Place]:
    """The place while it is open."""
    provider = {"engine": GrabCutEngine()}
    house = House(database, folder, {"schedule": _FAULTS}, dict(_SOON), provider)
    with house:
        _hours_before(house.engine)
        jobs = [_cut(house, number) for number in range(12)]
        jobs += [_later(house, number) for number in range(2)]
        port = free_port()
        process = processes.start(
            "cutwork", "console", "--bind", f"127.0.0.1:{port}", env=_environment(house)
        )
        run_until(lambda: is_open(port) or not process.running, 30, "the console serves")
        yield Place(house, f"http://127.0.0.1:{port}", process, [*jobs[-2:], *jobs[:-2]])


def _environment(house: House) -> dict[str, str]:
    told = house.settings
    return {
        "CUTWORK_DATABASE_URL": told.database_url,
        "CUTWORK_STORAGE_URL": told.storage_url,
        "CUTWORK_API_TOKENS": ",".join(told.api_tokens),
        "CUTWORK_CONSOLE_TOKEN": told.console_token,
        "CUTWORK_LOG_LEVEL": "DEBUG",
    }


def _cut(house: House, number: int) -> UUID:
    """One picture, to its end: the last ones are the photographs as they are."""
    sample = samples()[(number + 1) % 3]
    data = sample.data if number > 8 else _variant(sample.data, number)
    job_id = house.enqueue(
        image_file=data,
        type=sample.kind,
        owner=("atelier", "market", "")[number % 3],
        idempotency_key=f"order-{4100 + number}",
        meta={"order": {"id": 4100 + number, "article": sample.name}},
        on_uncertain="hold",
    )
    house.settle(job_id, seconds=30)
    return job_id


def _variant(data: bytes, number: int) -> bytes:
    with Image.open(BytesIO(data)) as photograph:
        small = ImageOps.mirror(photograph.convert("RGB"))
    small.thumbnail((220 + 9 * number, 220))
    out = BytesIO()
    small.save(out, "JPEG", quality=88)
    return out.getvalue()


def _later(house: House, number: int) -> UUID:
    tomorrow = datetime.now(UTC) + timedelta(days=1, minutes=number)
    data = _variant(samples()[number].data, 3)
    return house.enqueue(image_file=data, owner="market", not_before=tomorrow)


def _hours_before(engine: Engine) -> None:
    """Some hundred jobs of the last six hours, more at noon, and an outage of the callbacks."""
    random = Random(4)
    now = datetime.now(UTC)
    jobs, attempts = [], []
    for number in range(420):
        hours = 6 * (1 - random.random() ** 0.8) + 0.05
        if random.random() > 0.45 + 0.5 * math.cos((hours - 2.2) * 1.1) ** 2:
            continue
        made = now - timedelta(hours=hours)
        took = random.lognormvariate(1.6, 0.35) * (2.2 if 3.1 < hours < 3.9 else 1.0)
        ended = made + timedelta(seconds=took)
        job_id = UUID(int=(int(made.timestamp() * 1000) << 80) + (7 << 76) + (2 << 62) + number)
        by = "poll" if random.random() < (0.7 if 3.1 < hours < 3.9 else 0.04) else "callback"
        common = {"attempt": 1, "result_attempt": 1, "decided_by": by, "finished_at": ended}
        jobs.append(job_values(State.SUCCEEDED, created_at=made, **common) | {"id": job_id})
        attempts.append({
            "job_id": job_id, "number": 1, "state": Attempt.SUCCEEDED, "key_id": "0a1b2c3d",
            "fence": 1, "callback": True, "decided_by": by, "checks": 0, "callbacks": 1,
            "relinks": 0, "intended_at": made + timedelta(seconds=0.4), "finished_at": ended,
        })  # fmt: skip
    with engine.begin() as tx:
        tx.execute(insert(schema.job), jobs)
        tx.execute(insert(schema.attempt), attempts)
