"""Background removal jobs that are never lost and never paid for twice unsaid.

    with Session(engine) as session, session.begin():
        job = cutwork.enqueue(session, image_url="https://shop.example/shoe.jpg")

What a backend app needs is here; it pulls in neither Celery nor an HTTP client.
"""

from cutwork.errors import (
    CutworkError,
    DatabaseNotReady,
    InputPurged,
    InvalidInput,
    InvalidSetting,
    JobNotFound,
    KeyConflict,
    OwnerBusy,
    StillWorking,
    StorageError,
    WrongState,
)
from cutwork.job import File, Job, Try
from cutwork.jobs import cancel, enqueue, enqueue_many, get, retry
from cutwork.purging import Purged, erase_owner
from cutwork.request import Segmentation
from cutwork.settings import Settings
from cutwork.states import State
from cutwork.storage import Storage
from cutwork.waiting import wait, wait_async

__all__ = [
    "CutworkError",
    "DatabaseNotReady",
    "File",
    "InputPurged",
    "InvalidInput",
    "InvalidSetting",
    "Job",
    "JobNotFound",
    "KeyConflict",
    "OwnerBusy",
    "Purged",
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
    "erase_owner",
    "get",
    "retry",
    "wait",
    "wait_async",
]
