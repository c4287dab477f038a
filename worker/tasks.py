"""The Celery tasks: each takes ids of jobs that were released into its lane."""

import logging
from collections.abc import Callable, Sequence
from uuid import UUID

from cutwork import log

from .app import app
from .checking import check
from .storing import store
from .submitting import submit
from .tools import Tools, tools


@app.task(name="cutwork.submit")
def submit_jobs(job_ids: Sequence[str]) -> None:
    _each(submit, job_ids)


@app.task(name="cutwork.check")
def check_jobs(job_ids: Sequence[str]) -> None:
    _each(check, job_ids)


@app.task(name="cutwork.store")
def store_jobs(job_ids: Sequence[str]) -> None:
    _each(store, job_ids)


def _each(step: Callable[[Tools, UUID], None], job_ids: Sequence[str]) -> None:
    for job_id in job_ids:
        try:
            step(tools(), UUID(job_id))
        except Exception:  # noqa: BLE001 - the next job of the message must not suffer for this one
            log.event("step failed", level=logging.ERROR, error=True, job=job_id)
