"""waiting → …: ask the provider about one job whose callback has not come."""

import logging
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import Connection

from cutwork import gate, ledger, log, tracing
from cutwork.ledger import Ticket
from cutwork.provider import Answer, KeyRefused, Missing, Throttled, Unavailable
from cutwork.report import Report, Verdict
from cutwork.settings import Settings

from .tools import Tools


def check(tools: Tools, job_id: UUID) -> None:
    """Claim, ask, record; a task is asked about with the key that submitted it."""
    ticket = tools.claim(ledger.claim_check, job_id, tools.settings)
    if ticket is None:
        log.event("check is not ours", level=logging.DEBUG, job=job_id)
        return
    with tracing.step("cutwork.check", "CLIENT", ticket.trace, ticket.facts) as step:
        answer = _ask(tools, ticket)
        said = answer.verdict if isinstance(answer, Report) else type(answer).__name__
        step.tell({"outcome": said})
    tools.record(job_id, record, answer=answer, ticket=ticket, settings=tools.settings)
    log.event("checked", **ticket.facts, answer=said)


@dataclass(frozen=True)
class Unasked:
    """The provider was not asked, so this says nothing about it."""

    reason: str


def _ask(tools: Tools, ticket: Ticket) -> Answer | Unasked:
    key = tools.settings.keys.get(ticket.key_id)
    if ticket.task_id is None:
        return nameless()
    if key is None:
        return Unasked(f"API key {ticket.key_id}, which submitted it, is no longer set")
    return tools.provider.query(ticket.task_id, key=key, wanted=ticket.request.outputs)


def nameless() -> Unasked:
    """What we know of a task that was accepted without telling its id."""
    return Unasked("the provider never told its task id, only a callback can end this")


def record(tx: Connection, *, answer: Answer | Unasked, ticket: Ticket, settings: Settings) -> None:
    """Turn what the question brought into the job's next state, or its next alarm."""
    again = partial(ledger.unanswered, tx, ticket, settings)
    match answer:
        case Report(verdict=Verdict.PENDING):
            again(f"the provider is not done (state {answer.state})")
        case Report():
            heard = ledger.learn(tx, ticket.job_id, ticket.number, answer, "poll", settings)
            if heard is not ledger.Heard.MOVED:
                unsure = heard is ledger.Heard.UNSURE
                why = "maybe of another's task" if unsure else "which was known"
                again(f"the provider says {answer.verdict}, {why}")
        case Missing():
            ledger.task_gone(tx, ticket, settings)
        case KeyRefused(message):
            gate.refuse(tx, ticket.key_id, ticket.job_id, message)
            again(f"the provider refused the key: {message}", delay=0)
        case Throttled(retry_after):
            delay = gate.throttle(tx, ticket.key_id, retry_after)
            again("the provider answered 429", delay=delay)
        case Unavailable(reason):
            again(reason)
            gate.failed(tx, ticket.key_id, ticket.job_id, reason, settings)
        case Unasked(reason):
            again(reason)
    if ticket.watched and isinstance(answer, Report | Missing):
        gate.answered(tx, ticket.key_id, ticket.job_id, settings)
