"""The provider as a model in memory that lies by the seed: what it was sent, made, and charged.

It speaks HTTP's answers, so that the real client decides what they mean, and the real webhook what
its callbacks say. A task is one accepted POST; nobody can take it back.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode

from requests import PreparedRequest

from cutwork.errors import FetchFailed
from cutwork.fetching import Fetched
from cutwork.provider import NotSent
from cutwork.reply import Reply
from cutwork.sandbox.form import Refused, read_form

from .stand_ins import Edges

HOST = "http://127.0.0.1:9"
FAILURES = (-1, -2, -3, -5, -7, -8, -9, -10, -11, -13, -14, -15, -16, -17)


@dataclass
class Task:
    id: str
    job_id: str
    number: int
    callback_url: str
    outputs: tuple[str, ...]
    state: int = 4
    ended_at: float = 0.0
    link: int = 1
    dead_links: bool = False
    denied: bool = False
    replied: bool = False

    @property
    def final(self) -> bool:
        return self.state == 1 or self.state < 0

    def told(self) -> dict[str, Any]:
        data: dict[str, Any] = {"task_id": self.id, "state": self.state, "progress": 21}
        if self.state == 1:
            data["progress"] = 100
            data |= {name: f"{HOST}/files/{self.id}-{name}-{self.link}" for name in self.outputs}
        return data


@dataclass(frozen=True)
class Letter:
    """A callback as it goes on the wire."""

    task: Task
    final: bool
    body: bytes
    content_type: str = "application/json"


@dataclass
class Impostor:
    """``post`` and ``get`` answer for the wire, ``fetch`` stands for the download of a result.

    ``known`` gives the tasks that are told in the rows: of one of them a lying callback speaks.
    """

    edges: Edges
    chance: Random
    ttl: float
    sender: Callable[[], tuple[str, int]] = field(init=False)
    started: Callable[[Task], None] = field(init=False)
    known: Callable[[], Sequence[str]] = field(init=False)
    tasks: dict[str, Task] = field(default_factory=dict)
    _charges: Counter[str] = field(default_factory=Counter)

    def charges(self, job_id: str) -> int:
        return self._charges[job_id]

    def __call__(self, request: PreparedRequest) -> Reply | NotSent:
        return self._post(request) if request.method == "POST" else self._get(request)

    def finish(self, task: Task, state: int) -> None:
        """A task ends; a success is charged."""
        if not task.final:
            task.state, task.ended_at = state, self.edges.seconds()
            self._charges[task.job_id] += state == 1

    # --- submits

    def _post(self, request: PreparedRequest) -> Reply | NotSent:
        self.edges.edge("post: before")
        if self.edges.strikes("not sent"):
            return NotSent("no route to host")
        refusal = self._refusal()
        if refusal is not None:
            self.edges.edge("post: refused")
            return refusal
        task = self._accept(request)
        self.edges.edge("post: sent")
        if self.edges.strikes("done at once"):
            self.finish(task, 1)
        if self.edges.strikes("reply after callback"):
            self.edges.edge("post: reply waits", self.chance.uniform(1.0, 8.0))
        lost = self.edges.strikes("reply lost")
        task.replied = not lost
        self.edges.edge("post: after")
        if lost:
            return Reply(None, text="the connection was reset")
        data = task.told() if task.final else {"task_id": task.id}
        return _ok(data)

    def _refusal(self) -> Reply | None:
        if self.edges.strikes("throttled"):
            after = self.chance.choice((None, 1.0, 5.0))
            return Reply(429, {"status": 429, "message": "too many"}, "too many", after)
        if self.edges.strikes("key refused"):
            return _error(401, "the account is empty")
        if self.edges.strikes("error 500"):
            return _error(500, "image is required")
        if self.edges.strikes("rejected"):
            return _error(400, "no such type")
        return None

    def _accept(self, request: PreparedRequest) -> Task:
        job_id, number = self.sender()
        body, kind = request.body, request.headers["Content-Type"]
        form = read_form(kind, body) if isinstance(body, bytes) else Refused(400, "no form")
        if isinstance(form, Refused):
            raise TypeError(f"the form is wrong: {form.message}")
        outputs = {1: ("image", "mask"), 3: ("mask",)}.get(form.output_type, ("image",))
        name = f"task-{len(self.tasks) + 1}"
        task = Task(name, job_id, number, form.callback_url, outputs)
        self.tasks[name] = task
        self.started(task)
        return task

    # --- questions

    def _get(self, request: PreparedRequest) -> Reply | NotSent:
        self.edges.edge("query: before")
        if self.edges.strikes("query reset"):
            return Reply(None, text="the connection was reset")
        reply = self._answer(str(request.url).rpartition("/")[2])
        self.edges.edge("query: after")
        return reply

    def _answer(self, task_id: str) -> Reply:
        task = self.tasks.get(task_id)
        if self.edges.strikes("query 404"):
            if task is not None:
                task.denied = True
            return _error(404, "no such task")
        for kind, status in (("query 500", 500), ("query 401", 401), ("query 429", 429)):
            if self.edges.strikes(kind):
                return _error(status, "no")
        if task is None or (task.final and self.edges.seconds() - task.ended_at > self.ttl):
            return _error(404, "no such task")
        task.link += 1
        return _ok(task.told())

    # --- callbacks

    def letters(self, task: Task) -> Iterator[tuple[float, Letter]]:
        """The callbacks of a task that has just ended, each with the seconds until it is sent."""
        if not task.callback_url or self.edges.strikes("callback lost"):
            return
        wait = self.chance.uniform(0.0, 0.2)
        if self.edges.strikes("callback late"):
            wait += self.chance.choice((5.0, 60.0, 400.0))
        final = self._letter(task, final=True)
        yield wait, final
        if self.edges.strikes("callback twice"):
            yield wait + self.chance.choice((0.0, 0.1, 30.0)), final
        if self.edges.strikes("progress last"):
            yield wait + self.chance.choice((0.05, 5.0)), self._letter(task, final=False)

    def progress(self, task: Task) -> Letter | None:
        if not task.callback_url or not self.edges.strikes("progress first"):
            return None
        return self._letter(task, final=False)

    def last_word(self, task: Task) -> Letter:
        return self._letter(task, final=True)

    def _letter(self, task: Task, *, final: bool) -> Letter:
        data = task.told() if final else {"task_id": task.id, "state": 4, "progress": 21}
        if self.edges.strikes("garbage"):
            return Letter(task, final, b'\xff\xfe{"status": 200, "data": ')
        if self.edges.strikes("wrong task id"):
            data = {**data, "task_id": self._task_of_somebody_else(task)}
        if self.edges.strikes("as a form"):
            form = urlencode({"status": 200, **data}).encode()
            return Letter(task, final, form, "application/x-www-form-urlencoded")
        if self.edges.strikes("bare"):
            return Letter(task, final, json.dumps(data).encode())
        return Letter(task, final, json.dumps({"status": 200, "data": data}).encode())

    def _task_of_somebody_else(self, task: Task) -> str:
        others = [name for name in self.known() if name != task.id]
        return self.chance.choice(others) if others else "task-of-nobody"

    # --- results

    def fetch(self, url: str, *, settings: object, into: Path) -> Fetched:  # noqa: ARG002
        """What :func:`cutwork.fetching.fetch` does, from the model: the data say whose they are."""
        self.edges.edge("fetch: before")
        task_id, name, link = url.rpartition("/")[2].rsplit("-", 2)
        task = self.tasks[task_id]
        code = self._fetch_fault(task, int(link))
        if code is not None:
            raise FetchFailed(HOST, code, "a fault of the drill", permanent=code == "link_dead")
        content = picture(task.job_id, task.number, name)
        self.edges.edge("fetch: after")
        return Fetched(content, "png", 1, 1)

    def _fetch_fault(self, task: Task, link: int) -> str | None:
        if self.edges.strikes("result gone"):
            task.dead_links = True
        if task.dead_links or self.edges.seconds() - task.ended_at > self.ttl:
            return "link_dead"
        if link == 1 and self.edges.strikes("link dead"):
            return "link_dead"
        return next(
            (kind for kind in ("truncated", "unreachable") if self.edges.strikes(kind)), None
        )


def picture(job_id: str, number: int, name: str) -> bytes:
    """The file that the model makes: whose it is stands in it."""
    return f"{name} of {job_id}, attempt {number}".encode()


def _ok(data: dict[str, Any]) -> Reply:
    return Reply(200, {"status": 200, "message": "success", "data": data})


def _error(status: int, message: str) -> Reply:
    return Reply(status, {"status": status, "message": message}, message)
