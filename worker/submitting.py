"""queued → submitting → …: hand one job to the provider, and write down what became of it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, select

from cutwork import callbacks, database, gate, lanes, ledger, log, tracing
from cutwork.errors import InvalidInput, StorageError
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
from cutwork.states import State

from .tools import Tools


@dataclass(frozen=True)
class Order:
    """What a released job asks for, and the key that it is to go with."""

    job_id: UUID
    request: Request
    key_id: str
    trace: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What log lines name of a job that is not claimed yet."""
        trace = tracing.trace_id(self.trace)
        return {"job": self.job_id, "key": self.key_id} | ({"trace": trace} if trace else {})

    def __str__(self) -> str:
        return str(self.job_id)


@dataclass(frozen=True)
class Parcel:
    """Everything that has to be at hand before the intent is written."""

    request: Request
    key: str
    image: tuple[str, bytes] | None


def orders(tools: Tools, job_ids: Sequence[UUID]) -> list[Order]:
    """Those of the jobs that are still to be submitted, read at once."""
    with database.read_only(tools.engine).connect() as tx:
        rows = tx.execute(_these(tx.dialect.name), {"those": job_ids}).all()
    released = [row for row in rows if (row.state, row.lease) == (State.QUEUED, lanes.MESSAGE)]
    return [order for row in released if (order := _order(tools, row))]


def _order(tools: Tools, row: Row[Any]) -> Order | None:
    """None for a row that no ``enqueue`` has written; it is held, and takes no other with it."""
    try:
        return Order(row.id, Request.checked(row.request), row.key_id, row.trace)
    except InvalidInput as fault:
        tools.record(row.id, ledger.put_back, row.id, str(fault), permanent=True)
        log.event("input refused", level=logging.WARNING, job=row.id, fault=fault)
    return None


@cache
def _these(dialect: str) -> Select[Any]:
    columns = select(
        *(job.c[name] for name in ("id", "request", "key_id", "trace", "state", "lease"))
    )
    return columns.where(database.among(dialect, job.c.id))


def submit(tools: Tools, order: Order) -> None:
    """What can fail here is done first; then the intent is committed; the POST; its outcome.

    A process that dies between two lines leaves a lease that runs out, and never a second POST.
    """
    job_id = order.job_id
    parcel = _prepare(tools, order)
    if parcel is None:
        return
    ticket = tools.claim(
        ledger.claim,
        job_id,
        tools.settings,
        callback=bool(tools.settings.public_url),
        key_id=order.key_id,
    )
    if ticket is None:
        log.event("submit is not ours", level=logging.DEBUG, job=job_id)
        return
    outcome = _post(tools, ticket, parcel)
    tools.record(job_id, record, outcome=outcome, ticket=ticket, settings=tools.settings)
    said = type(outcome).__name__
    log.event("submitted", **ticket.facts, outcome=said)


def _prepare(tools: Tools, order: Order) -> Parcel | None:
    key = tools.settings.keys.get(order.key_id)
    if key is None:
        fault = "this worker does not have the API key; start it with the reconciler's settings"
        log.event("submit left", level=logging.ERROR, **order.facts, fault=fault)
        return None
    if (picture := order.request.image_file) is None:
        return Parcel(order.request, key, None)
    try:
        data = tools.storage.get(picture.uri)
    except StorageError as error:
        tools.record(order.job_id, ledger.put_back, order.job_id, str(error))
        log.event("input unreadable", level=logging.WARNING, **order.facts, fault=error)
        return None
    return Parcel(order.request, key, (f"{order.job_id}.{picture.format}", data))


def _post(tools: Tools, ticket: Ticket, parcel: Parcel) -> Outcome:
    with tracing.step("cutwork.submit", "CLIENT", ticket.trace, ticket.facts) as step:
        outcome = tools.provider.submit(
            parcel.request.fields(),
            key=parcel.key,
            image=parcel.image,
            image_url=parcel.request.image_url,
            callback_url=callbacks.url(
                tools.settings, ticket.job_id, ticket.number, now=time.time()
            ),
            wanted=parcel.request.outputs,
        )
        step.tell({"outcome": type(outcome).__name__})
    return outcome


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
