"""The sample photographs, and the jobs of the demo that cut them out."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from uuid import UUID

from sqlalchemy import Connection, Engine

from cutwork import database, jobs
from cutwork.job import Job
from cutwork.request import Segmentation
from cutwork.settings import Settings

_KINDS = {"astronaut.png": "person", "coffee.png": "object", "grace_hopper.jpg": "person"}


@dataclass(frozen=True)
class Sample:
    """A photograph that comes with the package; ``kind`` is the foreground that is asked for."""

    name: str
    kind: str
    data: bytes


def samples() -> list[Sample]:
    """All of them, by name."""
    folder = files("cutwork.cli.photographs")
    return [
        Sample(name.partition(".")[0], kind, folder.joinpath(name).read_bytes())
        for name, kind in sorted(_KINDS.items())
    ]


def enqueue(engine: Engine, some: Sequence[Sample], settings: Settings) -> list[UUID]:
    """A job for each photograph."""

    def write(tx: Connection) -> list[UUID]:
        asked = (Segmentation(image_file=one.data, type=one.kind) for one in some)
        return jobs.enqueue_many(tx, asked, settings=settings)

    return database.transact(engine, write)


def look(engine: Engine, ids: Sequence[UUID]) -> list[Job]:
    """The jobs as they stand now."""

    with database.read_only(engine).connect() as tx:
        return [jobs.get(tx, job_id) for job_id in ids]
