"""Notices: tell an app's Celery task, or a URL, that a job is over."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any
from uuid import UUID

from amqp.exceptions import AMQPError, PreconditionFailed
from celery import Celery
from kombu.exceptions import KombuError

from cutwork import broker, database, log, notices, telling
from cutwork import job as records
from cutwork.errors import JobNotFound
from cutwork.notices import Notice, Told
from cutwork.settings import Settings
from cutwork.sources import shown

from .app import app
from .configuration import configuration
from .tools import Tools

# A silent broker is waited for three times, with the ends of channel and connection: less than a
# lease in all.
_SILENCE = 3


def tell_all(tools: Tools, ids: Sequence[UUID]) -> None:
    """Claim what is still to be told, tell it side by side, and write down what became of it."""
    claimed = database.transact(tools.engine, notices.claim, ids, tools.settings)
    tell = partial(_tell, tools)
    each = tools.crowd.map if tools.crowd is not None and len(claimed) > 1 else map
    outcomes = list(zip(claimed, each(tell, claimed), strict=True))
    database.transact(tools.engine, notices.settle, outcomes, tools.settings)


def _tell(tools: Tools, one: Notice) -> Told:
    try:
        if rule := notices.unfit(one.target):  # SQL may have written it
            told = Told(f"notify {rule}", final=True)
        else:
            told = _post(tools, one) if one.host else _send(tools.settings, one)
    except Exception as error:  # noqa: BLE001 - the other notices of the message go on
        log.event("step failed", level=logging.ERROR, error=True, **one.facts)
        told = Told(type(error).__name__)
    facts = one.facts | {"state": one.state, "to": one.host or shown(one.target)}
    if told.fault:
        log.event("not told", level=logging.WARNING, fault=told.fault, tries=one.tries, **facts)
    else:
        log.event("told", **facts)
    return told


def _post(tools: Tools, one: Notice) -> Told:
    try:
        with database.read_only(tools.engine).connect() as tx:
            job = records.read(tx, one.job_id)
    except JobNotFound:  # purged a moment ago, and the notice with it
        return Told("the job was purged", final=True)
    return telling.post(one, telling.message(one, job), tools.settings)


def _send(settings: Settings, one: Notice) -> Told:
    """The task gets the job's id as its one argument."""
    send, options = _sender(settings)
    queue = settings.notify_queue
    publish = partial(send, one.target, args=[str(one.job_id)], queue=queue, **options)
    try:
        try:
            publish()
        except PreconditionFailed:  # it is there, and has a type or arguments of the app's own
            publish(declare=[])
    except (AMQPError, KombuError, OSError) as error:
        return Told(f"the broker did not take it ({type(error).__name__})", silent=True)
    return Told()


@cache
def _sender(settings: Settings) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The app's broker: our own, unless it has another. An id may wait there for long."""
    theirs = replace(settings, broker_url=settings.notify_broker_url or settings.broker_url)
    options: dict[str, Any] = {"retry": False, "ignore_result": True}
    told = configuration(theirs)
    if broker.kind(theirs) == "amqp":
        # One that is short of memory takes messages and says nothing, not even to a farewell.
        options["confirm_timeout"] = _SILENCE
        told["broker_transport_options"] |= {"read_timeout": _SILENCE}
    if not settings.notify_broker_url:
        return app.send_task, options
    other = Celery("cutwork.notify", set_as_current=False)
    other.conf.update(told)
    return other.send_task, options
