"""Sends one message that names jobs, or says that the broker did not take it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from celery import Celery

from .configuration import queue_name


class Publisher:
    """``publish(lane, job_ids)``; bounded in time, never retried: the alarm clock is the retry."""

    def __init__(self, app: Celery, options: dict[str, Any]) -> None:
        self._app, self._options = app, options

    def __call__(self, lane: str, job_ids: Sequence[UUID]) -> None:
        self._app.send_task(
            f"cutwork.{lane}",
            args=[[str(job_id) for job_id in job_ids]],
            queue=queue_name(lane),
            retry=False,
            ignore_result=True,
            **self._options,
        )
