"""queued → submitting → …: hand one job to the provider, and write down what became of it."""

import logging
import time
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import Connection, select

from cutwork import callbacks, database, gate, lanes, ledger, log
from cutwork.errors import StorageError
from cutwork.ledger import Ticket
from cutwork.provider import (
    Accepted,
    Done,
    KeyRefused,
    NotSent,
    Outcome,
    Rejected,
    Throttled,
    Uncertain,
)
from cutwork.report import Report, Verdict
from cutwork.request import Request
from cutwork.schema import job
from cutwork.settings import Settings

from .tools import Tools


@dataclass(frozen=True)
class Parcel:
    """Everything that has to be at hand before the intent is written."""

    request: Request
    key_id: str
    key: str
    image: tuple[str, bytes] | None


def submit(tools: Tools, job_id: UUID) -> None:
    """What can fail here is done first; then the intent is committed; the POST; its outcome.

    A process that dies between two lines leaves a lease that runs out, and never a second POST.
    """
    parcel = _prepare(tools, job_id)
    if parcel is None:
        return
    ticket = tools.claim(
        ledger.claim,
        job_id,
        tools.settings,
        callback=bool(tools.settings.public_url),
        key_id=parcel.key_id,
    )
    if ticket is None:
        log.event("submit is not ours", level=logging.DEBUG, job=job_id)
        return
    outcome = _post(tools, ticket, parcel)
    tools.record(job_id, record, outcome=outcome, ticket=ticket, settings=tools.settings)
    said = type(outcome).__name__
    log.event("submitted", job=job_id, attempt=ticket.number, key=ticket.key_id, outcome=said)


def _prepare(tools: Tools, job_id: UUID) -> Parcel | None:
    with database.read_only(tools.engine).connect() as tx:
        columns = select(job.c.request, job.c.key_id, job.c.state, job.c.lease)
        row = tx.execute(columns.where(job.c.id == job_id)).one_or_none()
    if row is None or row.lease != lanes.MESSAGE:
        return None
    key = tools.settings.keys.get(row.key_id)
    if key is None:
        fault = "this worker does not have the API key; start it with the reconciler's settings"
        log.event("submit left", level=logging.ERROR, job=job_id, key=row.key_id, fault=fault)
        return None
    request = Request.from_json(row.request)
    if request.image_file is None:
        return Parcel(request, row.key_id, key, None)
    try:
        data = tools.storage.get(request.image_file.uri)
    except StorageError as error:
        tools.record(job_id, ledger.put_back, job_id, str(error))
        log.event("input unreadable", level=logging.WARNING, job=job_id, fault=error)
        return None
    return Parcel(request, row.key_id, key, (f"{job_id}.{request.image_file.format}", data))


def _post(tools: Tools, ticket: Ticket, parcel: Parcel) -> Outcome:
    return tools.provider.submit(
        parcel.request.fields(),
        key=parcel.key,
        image=parcel.image,
        image_url=parcel.request.image_url,
        callback_url=callbacks.url(tools.settings, ticket.job_id, ticket.number, now=time.time()),
        wanted=parcel.request.outputs,
    )


def record(tx: Connection, *, outcome: Outcome, ticket: Ticket, settings: Settings) -> None:
    """Turn what the POST brought into the job's next state."""
    learn = partial(ledger.learn, tx, ticket.job_id, ticket.number, via="reply", settings=settings)
    failed = partial(gate.failed, tx, ticket.key_id, ticket.job_id, settings=settings)
    match outcome:
        case Accepted(task_id, report):
            learn(report or Report(Verdict.PENDING, task_id=task_id))
        case Done(report):
            learn(report)
        case Rejected(code, message):
            ledger.rejected(tx, ticket, code, message)
        case KeyRefused(message):
            ledger.not_sent(tx, ticket, f"the provider refused the key: {message}", delay=0)
            gate.refuse(tx, ticket.key_id, ticket.job_id, message)
        case Throttled(retry_after):
            delay = gate.throttle(tx, ticket.key_id, retry_after)
            ledger.not_sent(tx, ticket, "the provider answered 429", delay=delay)
        case NotSent(reason):
            ledger.not_sent(tx, ticket, reason)
            failed(reason=reason)
        case Uncertain(reason):
            ledger.lost(tx, ticket, reason, settings)
            failed(reason=reason)
    if ticket.watched and isinstance(outcome, Accepted | Done | Rejected):
        gate.answered(tx, ticket.key_id, ticket.job_id, settings)
