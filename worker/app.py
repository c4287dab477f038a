"""The Celery application: ``celery -A cutwork.worker.app:app worker``, or ``cutwork worker``."""

from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_ready

from cutwork import log
from cutwork.settings import current

from .configuration import configuration

app = Celery("cutwork", include=["cutwork.worker.tasks"])
app.conf.update(configuration(current()))


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    log.configure(current())


@worker_ready.connect
def _notice_signals(sender: Any, **_: Any) -> None:
    """An idle event loop that waits for the broker would see SIGTERM only at the next heartbeat."""
    if hub := sender.controller.hub:
        hub.timer.call_repeatedly(0.5, lambda: None)
