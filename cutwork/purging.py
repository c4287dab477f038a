"""Deleting finished jobs: their pictures first, then their rows.

If it is ended in between, rows are left whose pictures are gone; running it again deletes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row

from cutwork import database, ledger
from cutwork.errors import StorageError
from cutwork.storage import Storage

_BATCH = 500


@dataclass(frozen=True)
class Purged:
    """What was deleted, or would be; ``size`` in bytes as the rows say.

    ``kept`` are jobs whose pictures could not be deleted, ``fault`` says why the first could not.
    """

    jobs: int = 0
    files: int = 0
    size: int = 0
    kept: int = 0
    fault: str = ""

    def plus(self, other: "Purged") -> "Purged":
        return Purged(
            self.jobs + other.jobs,
            self.files + other.files,
            self.size + other.size,
            self.kept + other.kept,
            self.fault or other.fault,
        )


def purge(engine: Engine, storage: Storage, older_than: float, *, dry_run: bool) -> Purged:
    """Delete every succeeded, failed or cancelled job that finished ``older_than`` seconds ago.

    A job whose pictures cannot be deleted is kept and counted, and does not stand in the way of
    the others.
    """
    total = Purged()
    for batch in _batches(engine, older_than):
        total = total.plus(_planned(batch) if dry_run else _delete(engine, storage, batch))
    return total


def _batches(engine: Engine, older_than: float) -> Iterator[list[Row[Any]]]:
    last: UUID | None = None
    while True:
        with database.read_only(engine).connect() as tx:
            batch = ledger.purgeable(tx, older_than, _BATCH, beyond=last)
        if not batch:
            return
        last = batch[-1].id
        yield batch


def _planned(batch: list[Row[Any]]) -> Purged:
    files = [file for row in batch for file in _files(row)]
    return Purged(len(batch), len(files), sum(size for _, size in files))


def _delete(engine: Engine, storage: Storage, batch: list[Row[Any]]) -> Purged:
    gone: list[UUID] = []
    done = Purged()
    for row in batch:
        files = _files(row)
        try:
            for uri, _ in files:
                storage.delete(uri)
        except StorageError as error:
            done = done.plus(Purged(kept=1, fault=str(error)))
        else:
            gone.append(row.id)
            done = done.plus(Purged(files=len(files), size=sum(size for _, size in files)))
    return done.plus(Purged(jobs=database.transact(engine, ledger.purge, gone) if gone else 0))


def _files(row: Row[Any]) -> list[tuple[str, int]]:
    """(URI, bytes) of the source picture, when it is ours, and of the results."""
    facts = [*((row.result or {}).get("files") or {}).values()]
    if source := row.request.get("image_file"):
        facts.append(source)
    return [(fact["uri"], fact.get("size") or 0) for fact in facts]
