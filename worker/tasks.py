"""The Celery tasks: each takes ids of jobs that were released into its lane.

A message names many jobs when there is a backlog. A worker of threads does them side by side, all
messages together with as many threads as it has; a process of a prefork pool one after the other.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

from cutwork import log

from .app import app
from .checking import check
from .notifying import tell_all
from .storing import store
from .submitting import Order, orders, submit
from .tools import Tools, tools

T = TypeVar("T")


@app.task(name="cutwork.submit")
def submit_jobs(job_ids: Sequence[str]) -> None:
    own = tools()
    each(own, submit, orders(own, _read(job_ids)))


@app.task(name="cutwork.check")
def check_jobs(job_ids: Sequence[str]) -> None:
    each(tools(), check, _read(job_ids))


@app.task(name="cutwork.store")
def store_jobs(job_ids: Sequence[str]) -> None:
    each(tools(), store, _read(job_ids))


@app.task(name="cutwork.notify")
def tell_notices(notice_ids: Sequence[str]) -> None:
    tell_all(tools(), _read(notice_ids))


def each(own: Tools, step: Callable[[Tools, T], None], things: Iterable[T]) -> None:
    """Take the step with each thing; one that fails is told of, and no reason to leave the rest."""
    todo = list(things)
    one = partial(_one, own, step)
    if own.crowd is None or len(todo) == 1:
        for thing in todo:
            one(thing)
    else:
        own.crowd.map(one, todo)


def _one(own: Tools, step: Callable[[Tools, T], None], thing: T) -> None:
    try:
        step(own, thing)
    except Exception:  # noqa: BLE001 - the others of the message must not suffer for this one
        facts = thing.facts if isinstance(thing, Order) else {"job": thing}
        log.event("step failed", level=logging.ERROR, error=True, **facts)


def _read(job_ids: Sequence[str]) -> list[UUID]:
    return [UUID(job_id) for job_id in job_ids]
