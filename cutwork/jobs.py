"""What an app calls. Each function works in the caller's own transaction and commits nothing.

``session`` is a SQLAlchemy ``Session`` or ``Connection``. With an ``AsyncSession``, let it run the
function: ``job = await session.run_sync(cutwork.enqueue, image_url=url)``. No broker, no Celery and
no HTTP client is needed here: a committed row is all that the reconciler waits for.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import Any, TypedDict, Unpack
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from cutwork import database, ledger, notices, schema, tracing
from cutwork import job as records
from cutwork.errors import DatabaseNotReady, InvalidInput, JobNotFound
from cutwork.intake import Entry, Intake
from cutwork.job import Job
from cutwork.request import Segmentation
from cutwork.settings import Settings, current
from cutwork.sources import Source, shown
from cutwork.states import State

POLICIES = ("resubmit", "hold", "fail")
DEFAULT_PRIORITY = 5
_CHUNK = 1000
_encode = json.JSONEncoder(allow_nan=False).encode


class Options(TypedDict, total=False):
    """What every enqueue takes besides the request itself."""

    owner: str  # whose job it is; "" by default, at most 64 characters
    priority: int  # 0 goes first, 9 last; 5 by default
    not_before: datetime  # with a time zone; at once by default
    meta: Any  # the app's own JSON
    notify: str  # whom to tell at the end: a Celery task's name, or an http(s) URL
    on_uncertain: str  # resubmit, hold or fail; by default what the operator set
    max_paid_attempts: int  # by default what the operator set
    settings: Settings  # by default the environment's


def enqueue(
    session: Session | Connection,
    segmentation: Segmentation | None = None,
    *,
    image_url: str | None = None,
    image_file: Source | None = None,
    type: str = "",  # noqa: A002 - the provider's name for it
    output_type: int = 2,
    crop: bool = False,
    format: str = "png",  # noqa: A002 - the provider's name for it
    bg_color: str | None = None,
    idempotency_key: str | None = None,
    **options: Unpack[Options],
) -> Job:
    """Add a job to the caller's transaction: it exists if and only if that commits.

    The request is either a ``Segmentation`` or its fields. The same ``idempotency_key`` of the same
    owner gives the job that exists already.

    Raises:
        InvalidInput: the provider would refuse this request; nothing is written.
        KeyConflict: the key belongs to a job that asked for something else.
        StorageError: the picture could not be copied to storage; nothing is written.
        DatabaseNotReady: the tables are missing.
    """
    segmentation = segmentation or Segmentation(
        image_url=image_url,
        image_file=image_file,
        type=type,
        output_type=output_type,
        crop=crop,
        format=format,
        bg_color=bg_color,
    )
    tx = _connection(session)
    common = _common(options)
    with _missing_tables_explained():
        (entry,) = Intake(tx, common, options.get("settings")).take(
            [segmentation], [_checked_key(idempotency_key)]
        )
        return _new_job(entry, common) if entry.new else records.read(tx, entry.id, newest=True)


def enqueue_many(
    session: Session | Connection,
    segmentations: Iterable[Segmentation],
    *,
    idempotency_keys: Iterable[str | None] | None = None,
    **options: Unpack[Options],
) -> list[UUID]:
    """Add many jobs, a thousand to a statement; gives their ids in the order of the requests.

    ``idempotency_keys`` are one for each request. Raises what ``enqueue`` raises.
    """
    intake = Intake(_connection(session), _common(options), options.get("settings"))
    requests = iter(segmentations)
    keys = None if idempotency_keys is None else iter(idempotency_keys)
    ids: list[UUID] = []
    while chunk := list(islice(requests, _CHUNK)):
        own = [None] * len(chunk) if keys is None else [*islice(keys, len(chunk))]
        if len(own) != len(chunk):
            raise InvalidInput("idempotency_keys", len(own), "must be as many as the requests")
        with _missing_tables_explained():
            ids.extend(entry.id for entry in intake.take(chunk, [*map(_checked_key, own)]))
    return ids


def get(session: Session | Connection, job_id: UUID | str) -> Job:
    """The job as it stands now.

    Raises:
        JobNotFound: no such job.
    """
    return records.read(_connection(session), as_id(job_id))


def cancel(session: Session | Connection, job_id: UUID | str) -> None:
    """Stop an unfinished job. What is at the provider already may still be charged.

    Raises:
        JobNotFound: no such job.
        WrongState: it is finished.
    """
    ledger.cancel(_connection(session), as_id(job_id))


def retry(
    session: Session | Connection, job_id: UUID | str, *, settings: Settings | None = None
) -> State:
    """Send a failed, held or cancelled job again; ``queued`` means that it will be paid for again.

    Raises:
        JobNotFound: no such job.
        WrongState: it is in another state.
    """
    return ledger.retry(_connection(session), as_id(job_id), settings or current())


def as_id(job_id: UUID | str) -> UUID:
    """The id as a UUID; what is none names no job."""
    if isinstance(job_id, UUID):
        return job_id
    try:
        return UUID(job_id)
    except (ValueError, AttributeError, TypeError):
        raise JobNotFound(job_id) from None


def _connection(session: Session | Connection) -> Connection:
    if isinstance(session, Connection):
        return session
    if hasattr(session, "sync_session") or hasattr(session, "sync_connection"):
        raise InvalidInput(
            "session",
            session,
            "must be a Session or a Connection",
            "await session.run_sync(cutwork.enqueue, …)",
        )
    return session.connection()


def _common(options: Options) -> dict[str, Any]:
    """The columns that all jobs of one call share, checked."""
    for name in options.keys() - Options.__annotations__.keys():
        near = get_close_matches(name, Options.__annotations__, 1)
        remedy = f"did you mean {near[0]}?" if near else "leave it out"
        raise InvalidInput(name, options.get(name), "is not an option", remedy)
    common: dict[str, Any] = {
        "owner": _text("owner", options.get("owner", ""), 64, least=0),
        "priority": _whole("priority", options.get("priority", DEFAULT_PRIORITY), 0, 9),
        "meta": _json("meta", options.get("meta")),
        "notify": _target(options.get("notify")),
        "on_uncertain": options.get("on_uncertain"),
        "max_paid_attempts": options.get("max_paid_attempts"),
    }
    if common["on_uncertain"] not in (None, *POLICIES):
        rule = f"must be one of {', '.join(POLICIES)}"
        raise InvalidInput("on_uncertain", common["on_uncertain"], rule)
    if common["max_paid_attempts"] is not None:
        _whole("max_paid_attempts", common["max_paid_attempts"], 1, 100)
    if (moment := options.get("not_before")) is not None:
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            rule = "must be a datetime with a time zone"
            raise InvalidInput("not_before", moment, rule, "use datetime.now(UTC) + …")
        common["due_at"] = moment
    if trace := tracing.current():
        common["trace"] = trace
    return common


def _checked_key(key: str | None) -> str | None:
    return None if key is None else _text("idempotency_key", key, 200, least=1)


def _text(name: str, value: object, most: int, *, least: int) -> str:
    # Databases differ in whether trailing spaces count, so no text may have them.
    fits = isinstance(value, str) and least <= len(value) <= most and value == value.strip()
    if not fits or not str(value).isprintable():
        rule = f"must be {least} to {most} printable characters without spaces at the ends"
        raise InvalidInput(name, value, rule)
    return str(value)


def _target(target: object) -> str | None:
    """A Celery task's name, or a URL."""
    if target is None:
        return None
    text = _text("notify", target, 500, least=1)
    if rule := notices.unfit(text):
        raise InvalidInput("notify", shown(text), rule)
    return text


def _whole(name: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise InvalidInput(name, value, f"must be a whole number from {low} to {high}")
    return value


def _json(name: str, value: object) -> object:
    try:
        _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        fault = str(error)
    else:
        return value
    raise InvalidInput(name, value, f"must be JSON ({fault})")


def _new_job(entry: Entry, common: dict[str, Any]) -> Job:
    return Job(
        id=entry.id,
        state=State.QUEUED,
        kind="segmentation",
        request=entry.request,
        owner=common["owner"],
        idempotency_key=entry.key,
        priority=common["priority"],
        meta=common["meta"],
        notify=common["notify"],
        due_at=common.get("due_at"),
    )


@contextmanager
def _missing_tables_explained() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not database.is_missing_table(error):
            raise
        found: DBAPIError = error
    else:
        return
    raise DatabaseNotReady(None, schema.REVISION) from found
