"""Background removal jobs that are never lost and never paid for twice unsaid.

    with Session(engine) as session, session.begin():
        job = cutwork.enqueue(session, image_url="https://shop.example/shoe.jpg")

What a backend app needs is here; it pulls in neither Celery nor an HTTP client.
"""

from cutwork.errors import (
    CutworkError,
    DatabaseNotReady,
    InvalidInput,
    InvalidSetting,
    JobNotFound,
    KeyConflict,
    StillWorking,
    StorageError,
    WrongState,
)
from cutwork.job import File, Job, Try
from cutwork.jobs import cancel, enqueue, enqueue_many, get, retry
from cutwork.request import Segmentation
from cutwork.settings import Settings
from cutwork.states import State
from cutwork.storage import Storage
from cutwork.waiting import wait, wait_async

__all__ = [
    "CutworkError",
    "DatabaseNotReady",
    "File",
    "InvalidInput",
    "InvalidSetting",
    "Job",
    "JobNotFound",
    "KeyConflict",
    "Segmentation",
    "Settings",
    "State",
    "StillWorking",
    "Storage",
    "StorageError",
    "Try",
    "WrongState",
    "cancel",
    "enqueue",
    "enqueue_many",
    "get",
    "retry",
    "wait",
    "wait_async",
]
