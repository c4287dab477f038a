"""Background removal jobs that are never lost and never paid for twice unsaid.

    with Session(engine) as session, session.begin():
        job = cutwork.enqueue(session, image_url="https://shop.example/shoe.jpg")

What a backend app needs is here; it pulls in neither Celery nor an HTTP client. Most of it is
loaded when it is first named, and SQLAlchemy with it: a process that only starts others, or prints
its help, is smaller and quicker without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from cutwork.settings import Settings
from cutwork.states import State

if TYPE_CHECKING:
    from cutwork.job import File, Job, Try
    from cutwork.jobs import cancel, enqueue, enqueue_many, get, retry
    from cutwork.purging import Purged, erase_owner
    from cutwork.request import Segmentation
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

_LATER = {
    "job": ("File", "Job", "Try"),
    "jobs": ("cancel", "enqueue", "enqueue_many", "get", "retry"),
    "purging": ("Purged", "erase_owner"),
    "request": ("Segmentation",),
    "storage": ("Storage",),
    "waiting": ("wait", "wait_async"),
}
_PLACES = {name: module for module, names in _LATER.items() for name in names}


if not TYPE_CHECKING:  # it would give whatever is misspelt a type

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module 'cutwork' has no attribute {name!r}")
        found = getattr(import_module(f"cutwork.{_PLACES[name]}"), name)
        globals()[name] = found  # the next time nobody asks here
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
