"""A job as it is read back: plain values, the same names in Python, in JSON and in a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, select

from cutwork import schema
from cutwork.errors import JobNotFound
from cutwork.sources import shown
from cutwork.states import RESTING, State


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of ours: where it is, and what it is; ``size`` in bytes.

    With ``purged_at`` it was deleted from storage then, and the rest says what it was.
    """

    uri: str
    size: int
    sha256: str
    format: str
    width: int
    height: int
    purged_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Try:
    """One attempt: one intent to submit, and what became of it."""

    number: int
    state: str
    key_id: str
    task_id: str | None
    provider_state: int | None
    detail: str | None
    decided_by: str | None
    checks: int
    callbacks: int
    intended_at: datetime
    accepted_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to cut out, and how far that is.

    ``due_at`` is when somebody looks at it next, unless something happens first. ``error`` is a
    stable code and a sentence; an unfinished job has one when its last step went wrong. Times are
    None where the database sets them and they were not read back (as ``enqueue`` returns a job).
    ``input_purged_at`` is when the source picture was deleted from storage.
    """

    id: UUID
    state: State
    kind: str
    request: Mapping[str, Any]
    owner: str
    idempotency_key: str | None
    priority: int
    meta: Any
    notify: str | None = None
    attempts: tuple[Try, ...] = ()
    created_at: datetime | None = None
    due_at: datetime | None = None
    finished_at: datetime | None = None
    input_purged_at: datetime | None = None
    files: Mapping[str, File] = field(default_factory=dict)
    foreground_rect: Mapping[str, int] | None = None
    error: Mapping[str, str | None] | None = None
    decided_by: str | None = None

    @property
    def resting(self) -> bool:
        """Finished, or held for a person: nothing will happen by itself."""
        return self.state in RESTING

    @property
    def task_id(self) -> str | None:
        """The provider's name for the latest attempt."""
        return self.attempts[-1].task_id if self.attempts else None

    @property
    def image(self) -> str | None:
        """The cut-out's URI in our own storage; None when there is none, or none any more."""
        return self._uri("image")

    @property
    def mask(self) -> str | None:
        """The mask's URI in our own storage; None when there is none, or none any more."""
        return self._uri("mask")

    @property
    def image_width(self) -> int | None:
        """Of the stored picture (of the mask, when only that was asked for), in pixels."""
        return self._main.width if self._main else None

    @property
    def image_height(self) -> int | None:
        return self._main.height if self._main else None

    def to_json(self) -> dict[str, Any]:
        """Everything but the queries of addresses, as JSON-able values; times in ISO 8601."""
        names = ("task_id", "image", "mask", "image_width", "image_height")
        values = asdict(self) | {name: getattr(self, name) for name in names}
        if url := self.request.get("image_url"):  # its query may be a signature
            values["request"] = {**self.request, "image_url": shown(url)}
        if self.notify and "://" in self.notify:
            values["notify"] = shown(self.notify)
        plain: dict[str, Any] = _plain(values)
        return plain

    def _uri(self, name: str) -> str | None:
        file = self.files.get(name)
        return file.uri if file is not None and file.purged_at is None else None

    @property
    def _main(self) -> File | None:
        return self.files.get("image") or self.files.get("mask")


def read(tx: Connection, job_id: UUID, *, newest: bool = False) -> Job:
    """The job with its attempts; ``newest`` also sees what committed after the transaction began.

    Raises:
        JobNotFound: no such job.
    """
    query = select(schema.job).where(schema.job.c.id == job_id)
    row = tx.execute(beyond_snapshot(tx, query) if newest else query).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    tries = select(schema.attempt).where(schema.attempt.c.job_id == job_id)
    return _job(row, tx.execute(tries.order_by(schema.attempt.c.number)))


def beyond_snapshot(tx: Connection, query: Select[Any]) -> Select[Any]:
    """The query as one that sees what has committed since the transaction began.

    Only MariaDB and MySQL need to be told: their REPEATABLE READ, which is their default, shows an
    INSERT the row that it collides with, and a plain SELECT after it nothing.
    """
    if tx.dialect.name in ("mysql", "mariadb"):
        return query.with_for_update(read=True)
    return query


def newest(
    tx: Connection,
    *,
    states: Iterable[str] = (),
    owner: str | None = None,
    limit: int = 50,
    older_than: UUID | None = None,
) -> list[Job]:
    """The newest jobs first, without their attempts; ``older_than`` continues after a page."""
    conditions: list[ColumnElement[bool]] = []
    if states:
        conditions.append(schema.job.c.state.in_(list(states)))
    if owner is not None:
        conditions.append(schema.job.c.owner == owner)
    if older_than is not None:
        conditions.append(schema.job.c.id < older_than)
    query = select(schema.job).order_by(schema.job.c.id.desc()).limit(limit)
    return [_job(row, ()) for row in tx.execute(query.where(and_(True, *conditions)))]


def several(tx: Connection, job_ids: Sequence[UUID]) -> list[Job]:
    """These jobs in this order, without their attempts; those that are gone are left out."""
    rows = tx.execute(select(schema.job).where(schema.job.c.id.in_(job_ids)))
    found = {row.id: _job(row, ()) for row in rows}
    return [found[one] for one in job_ids if one in found]


def _job(row: Row[Any], tries: Iterable[Row[Any]]) -> Job:
    result = row.result or {}
    fault = row.error_code or row.error
    return Job(
        id=row.id,
        state=State(row.state),
        kind=row.kind,
        request=row.request,
        owner=row.owner,
        idempotency_key=row.idempotency_key,
        priority=row.priority,
        meta=row.meta,
        notify=row.notify,
        attempts=tuple(_try(one) for one in tries),
        created_at=row.created_at,
        due_at=row.due_at,
        finished_at=row.finished_at,
        input_purged_at=row.input_purged_at,
        files={
            name: File(**facts, purged_at=row.result_purged_at)
            for name, facts in result.get("files", {}).items()
        },
        foreground_rect=result.get("foreground_rect"),
        error={"code": row.error_code, "message": row.error} if fault else None,
        decided_by=row.decided_by,
    )


def _try(row: Row[Any]) -> Try:
    return Try(**{name: getattr(row, name) for name in Try.__dataclass_fields__})


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
    return value
