"""The ledger: every task the provider took on, what it cost, and what it told whom. In memory."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Event, RLock
from typing import Any
from uuid import UUID

from .faults import Mischief, digest
from .form import Submission

DONE = 1
PROCESSING = 4

DETAILS = {
    0: "Queuing",
    1: "Complete",
    2: "Preparing",
    3: "Waiting",
    4: "Processing",
    5: "Publishing",
    -1: "Failed",
    -2: "The result could not be stored",
    -3: "The image could not be downloaded",
    -4: "Submitting failed",
    -5: "The image is too large",
    -6: "The file has a password",
    -7: "Invalid image file",
    -8: "Timed out",
    -9: "Internal error",
    -10: "The content was refused",
    -11: "The result is empty",
    -13: "Cancelled",
    -14: "The image is unfit",
    -15: "No resources, try again later",
    -16: "Illegal content",
    -17: "Illegal content",
}


@dataclass(frozen=True)
class Outcome:
    """What the cutting of a task led to: a state, and for state 1 what the reply tells of it.

    ``rect`` is (x, y, width, height) in the source's pixels; ``width`` and ``height`` are of the
    output. ``prints`` are the SHA-256 of the files without their metadata.
    """

    state: int
    kind: str = ""
    image: str = ""
    mask: str = ""
    rect: tuple[int, int, int, int] = (0, 0, 0, 0)
    width: int = 0
    height: int = 0
    cut_ms: float = 0.0
    prints: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Task:
    """One task; changed only by the ledger, under its lock."""

    id: str
    ordinal: int
    serial: int
    key: str
    asked: Submission
    base_url: str
    mischief: Mischief
    created_at: float
    state: int = 0
    progress: int = 0
    processed_at: float = 0.0
    completed_at: float = 0.0
    download_ms: float = 0.0
    outcome: Outcome | None = None
    charges: int = 0
    reply: str = ""
    polls: list[float] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    downloads: Counter[str] = field(default_factory=Counter)
    strays: int = 0
    finished: Event = field(default_factory=Event, repr=False)
    told: Event = field(default_factory=Event, repr=False)
    abandoned: bool = False

    @property
    def final(self) -> bool:
        return self.state == DONE or self.state < 0

    def row(self) -> dict[str, Any]:
        """The task as the ledger shows it, in JSON's types."""
        asked = self.asked
        return {
            "ordinal": self.ordinal,
            "serial": self.serial,
            "task_id": self.id,
            "key": self.key,
            "submits": 1,
            "charges": self.charges,
            "state": self.state,
            "progress": self.progress,
            "fields": {
                "sync": int(asked.sync),
                "type": asked.kind,
                "output_type": asked.output_type,
                "crop": int(asked.crop),
                "format": asked.format,
                "bg_color": asked.bg_color,
                "image_url": asked.image_url,
                "image_file": not asked.image_url,
            },
            "source": asked.source,
            "prints": dict(self.outcome.prints) if self.outcome else {},
            "callback_url": asked.callback_url,
            "faults": dict(self.mischief.values),
            "reply": self.reply,
            "created_at": self.created_at,
            "processed_at": self.processed_at,
            "completed_at": self.completed_at,
            "callbacks": [dict(entry) for entry in self.callbacks],
            "polls": {"count": len(self.polls), "times": list(self.polls)},
            "downloads": dict(self.downloads),
            "strays": self.strays,
        }


class Ledger:
    """Tasks by id, refusals, and how many tasks each key had in flight at most; thread-safe."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = RLock()
        self._forget()

    def next_ordinal(self) -> int:
        """Number the submit that was just let in, from 0."""
        with self._lock:
            self._ordinal += 1
            return self._ordinal - 1

    def restart_ordinals(self) -> None:
        with self._lock:
            self._ordinal = 0

    def accept(
        self, asked: Submission, key: str, ordinal: int, base_url: str, mischief: Mischief
    ) -> Task:
        """Open a task in state 0."""
        with self._lock:
            serial = len(self._tasks)
            task_id = self.id_of(serial)
            task = Task(task_id, ordinal, serial, key, asked, base_url, mischief, time.time())
            self._tasks[task_id] = task
            self._in_flight[key] += 1
            self._most_in_flight[key] = max(self._most_in_flight[key], self._in_flight[key])
            return task

    def id_of(self, serial: int) -> str:
        """The id of the task that is, or will be, number ``serial`` (from 0)."""
        return str(UUID(bytes=digest(self._seed, "task", serial)[:16], version=4))

    def refuse(self, key: str, status: int, reason: str, ordinal: int | None = None) -> None:
        """Note a submit that became no task; status 0 stands for a reset connection."""
        with self._lock:
            self._refused.append(
                {
                    "at": time.time(),
                    "ordinal": ordinal,
                    "key": key,
                    "status": status,
                    "reason": reason,
                }
            )

    def find(self, task_id: str, key: str | None = None) -> Task | None:
        """The task, if it is there and ``key`` is the one it was made with."""
        with self._lock:
            task = self._tasks.get(task_id)
            return task if task is not None and key in (None, task.key) else None

    def advance(self, task: Task, state: int, progress: int) -> None:
        with self._lock:
            task.state, task.progress = state, progress
            task.processed_at = task.processed_at or time.time()

    def take_picture(self, task: Task) -> bytes:
        """The picture that was sent, once: ten thousand tasks must not keep theirs."""
        with self._lock:
            picture, task.asked = task.asked.image, replace(task.asked, image=b"")
            return picture

    def downloaded(self, task: Task, milliseconds: float) -> None:
        with self._lock:
            task.download_ms = milliseconds

    def finish(self, task: Task, outcome: Outcome) -> None:
        """End a task; a success is charged, once."""
        with self._lock:
            if task.final or task.abandoned:
                return
            task.processed_at = task.processed_at or time.time()
            task.completed_at = time.time()
            task.outcome = outcome
            if outcome.state == DONE:
                task.progress, task.charges = 100, 1
            task.state = outcome.state  # last: replies are made without the lock, by the state
            self._in_flight[task.key] -= 1
        task.finished.set()

    def replied(self, task: Task, how: str) -> None:
        with self._lock:
            task.reply = how

    def polled(self, task: Task) -> int:
        """Note a query; returns how many there were before."""
        with self._lock:
            task.polls.append(time.time())
            return len(task.polls) - 1

    def fetched(self, task: Task, name: str) -> int:
        """Note a download of one of the task's files; returns how many there were before."""
        with self._lock:
            task.downloads[name] += 1
            return task.downloads[name] - 1

    def strayed(self, task: Task) -> None:
        """Note that a redirect of a result was followed."""
        with self._lock:
            task.strays += 1

    def called_back(self, task: Task, entry: Mapping[str, Any]) -> None:
        with self._lock:
            task.callbacks.append(dict(entry))

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self.abandon()
            self._forget()

    def abandon(self) -> None:
        """Let unfinished tasks end unheard, and wake everybody who waits for one."""
        with self._lock:
            for task in self._tasks.values():
                task.abandoned = True
                task.finished.set()
                task.told.set()

    def report(self) -> dict[str, Any]:
        """Everything, in JSON's types."""
        with self._lock:
            tasks = [task.row() for task in self._tasks.values()]
            return {
                "submits": len(tasks) + len(self._refused),
                "charges": sum(task["charges"] for task in tasks),
                "tasks": tasks,
                "refused": [dict(entry) for entry in self._refused],
                "in_flight": {
                    key: {"now": self._in_flight[key], "most": most}
                    for key, most in self._most_in_flight.items()
                },
            }

    def _forget(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._refused: list[dict[str, Any]] = []
        self._in_flight: Counter[str] = Counter()
        self._most_in_flight: Counter[str] = Counter()
        self._ordinal = 0
