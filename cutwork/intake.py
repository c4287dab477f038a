"""From what an app asks to job rows: keys looked up, pictures examined and copied, rows written.

A picture is read, stored and let go of before the next one is read, so that a thousand of them
need the memory of one.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Select, and_, bindparam, select
from sqlalchemy.util import await_only
from uuid_utils.compat import uuid7

from cutwork import database, ledger
from cutwork.errors import KeyConflict, StorageError
from cutwork.job import beyond_snapshot
from cutwork.request import Segmentation, StoredPicture, differences
from cutwork.schema import job
from cutwork.settings import Settings, current
from cutwork.storage import Storage

T = TypeVar("T")


class Entry(NamedTuple):
    """One request with its job: ``new`` when this call writes the row."""

    id: UUID
    key: str | None
    request: dict[str, Any]
    digest: str
    new: bool


@dataclass
class Intake:
    """Takes requests into a transaction of the caller's; ``common`` are columns that all share."""

    tx: Connection
    common: dict[str, Any]
    settings: Settings | None = None
    _stored: dict[UUID, str] = field(default_factory=dict)

    def take(
        self, segmentations: Sequence[Segmentation], keys: Sequence[str | None]
    ) -> list[Entry]:
        """Write a job for each request whose key is new; the others get the job that exists.

        Raises:
            InvalidInput, StorageError, KeyConflict: none of these rows is written, and no picture
                left behind.
        """
        known = self._look_up(self._looked_up_first(segmentations, keys))
        entries: list[Entry] = []
        fresh: list[Entry] = []
        try:
            for segmentation, key in zip(segmentations, keys, strict=True):
                existing = known.get(key) if key else None
                entry = self._enter(segmentation, key, existing)
                entries.append(entry)
                if existing is None:
                    fresh.append(entry)
                    if key is not None:
                        known[key] = entry
            entries = self._write(entries, fresh) if fresh else entries
        except BaseException:
            self._forget(list(self._stored))
            raise
        self._stored.clear()  # from here on each picture belongs to its row
        return entries

    def _looked_up_first(
        self, segmentations: Sequence[Segmentation], keys: Sequence[str | None]
    ) -> Iterator[str]:
        """Keys that are asked about before they are written; of the others the INSERT will tell.

        A picture is not to be stored twice, and in MariaDB and MySQL a row that an INSERT collides
        with stays locked.
        """
        every = self.tx.dialect.name in ("mysql", "mariadb")
        for segmentation, key in zip(segmentations, keys, strict=True):
            if key is not None and (every or segmentation.image_file is not None):
                yield key

    def _look_up(self, keys: Iterable[str], *, again: bool = False) -> dict[str, Entry]:
        wanted = set(keys)
        if not wanted:
            return {}
        query = _keyed(self.tx.dialect.name)
        given = {"owner": self.common["owner"], "those": sorted(wanted)}
        rows = self.tx.execute(beyond_snapshot(self.tx, query) if again else query, given)
        return {row[1]: Entry(row[0], row[1], row[2], row[3], new=False) for row in rows}

    def _enter(self, segmentation: Segmentation, key: str | None, existing: Entry | None) -> Entry:
        picture = None
        if segmentation.image_file is not None:
            picture = self._aside(segmentation.read_picture)
        digest = segmentation.digest(picture)
        if existing is not None:
            stored = StoredPicture.of(picture, "") if picture else None
            asked = Entry(existing.id, key, segmentation.to_json(stored), digest, new=False)
            return self._agreed(existing, asked)
        job_id, stored = uuid7(), None
        if picture is not None:
            place, data = f"inputs/{job_id}.{picture.format}", picture.data
            uri = self._aside(lambda: self._storage.put(place, data))
            self._stored[job_id] = uri
            stored = StoredPicture.of(picture, uri)
        return Entry(job_id, key, segmentation.to_json(stored), digest, new=True)

    def _write(self, entries: list[Entry], fresh: list[Entry]) -> list[Entry]:
        passed_over = ledger.insert_jobs(self.tx, [_row(entry) for entry in fresh], self.common)
        if not passed_over:
            return entries
        left = [entry for entry in fresh if entry.id in passed_over]
        theirs = self._look_up((entry.key for entry in left if entry.key), again=True)
        try:
            # What was purged between the INSERT that met it and our look makes room for ours.
            gone = [entry for entry in left if entry.key not in theirs]
            if gone:
                theirs |= {entry.key: entry for entry in self._write(gone, gone) if entry.key}
            entries = [
                self._agreed(theirs[entry.key], entry) if entry.key in theirs else entry
                for entry in entries
            ]
        except KeyConflict:
            ledger.withdraw(self.tx, [entry.id for entry in fresh])
            raise
        self._forget([entry.id for entry in left if entry not in gone])
        return entries

    def _agreed(self, existing: Entry, asked: Entry) -> Entry:
        if existing.digest == asked.digest:
            return existing
        fields = differences(existing.request, asked.request)
        raise KeyConflict(str(asked.key), self.common["owner"], existing.id, fields)

    def _aside(self, work: Callable[[], T]) -> T:
        """Under ``AsyncSession.run_sync`` in a thread: the event loop is not to wait for files."""
        return await_only(asyncio.to_thread(work)) if self.tx.dialect.is_async else work()

    @cached_property
    def _storage(self) -> Storage:
        return Storage.at((self.settings or current()).storage)

    def _forget(self, job_ids: Iterable[UUID]) -> None:
        for job_id in job_ids:
            if uri := self._stored.pop(job_id, None):
                with suppress(StorageError):  # an orphaned picture is no reason to hide the error
                    self._storage.delete(uri)


@cache  # building it costs more than sending it
def _keyed(dialect: str) -> Select[Any]:
    mine = and_(job.c.owner == bindparam("owner"), database.among(dialect, job.c.idempotency_key))
    columns = select(job.c.id, job.c.idempotency_key, job.c.request, job.c.request_digest)
    return columns.where(mine)


def _row(entry: Entry) -> dict[str, Any]:
    """The columns that are a job's own."""
    return {
        "id": entry.id,
        "idempotency_key": entry.key,
        "request": entry.request,
        "request_digest": entry.digest,
    }
