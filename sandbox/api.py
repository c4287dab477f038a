"""The provider's two endpoints, its result links, and the sandbox's own door."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

from cutwork.errors import InvalidInput

from . import refusals, shapes
from .answers import Answer, Reply, Request, Reset, Silence
from .files import Shelf
from .form import Refused, Submission, read_form
from .limits import MAX_BYTES, Meter, key_id
from .plan import Plan
from .tasks import Ledger, Task
from .workshop import Workshop

SUBMIT = "/task/pic/segmentation"
TASK = "/task/"
FILES = "/files/"
ELSEWHERE = "/_sandbox/elsewhere/"
SYNC_SECONDS = 30.0
FORM_OVERHEAD = 2**20
MAX_PLAN = 2**20

Witness = Callable[[Submission, str], None]


@dataclass
class Api:
    """Answers requests; ``witness`` sees every readable submit and its key id before it counts."""

    ledger: Ledger
    meter: Meter
    shelf: Shelf
    workshop: Workshop
    stopping: Event
    seed: int
    plan: Plan
    tokens: frozenset[str] | None
    witness: Witness | None
    task_ttl: float
    _drawing: Lock = field(default_factory=Lock)

    def __call__(self, request: Request) -> Answer:
        path = request.path
        match request.method, path:
            case "GET" | "HEAD", "/healthz":
                return Reply.json(200, {"status": "ok"})
            case "POST", _ if path == SUBMIT:
                return self._metered(request, "submit", self._submit)
            case "GET", _ if path.startswith(TASK):
                return self._metered(request, "query", self._query)
            case "GET" | "HEAD", _ if path.startswith(FILES):
                return self.shelf.download(path.removeprefix(FILES), request.query)
            case "GET", _ if path.startswith(ELSEWHERE):
                return self.shelf.elsewhere(path.removeprefix(ELSEWHERE))
            case "GET", "/_sandbox/ledger":
                return Reply.json(200, self.report())
            case "POST", "/_sandbox/faults":
                return self._take_plan(request)
            case "POST", "/_sandbox/reset":
                self.reset()
                return Reply.json(200, {"status": 200, "message": "success"})
        return Reply.json(404, shapes.plain_error(404, "no such address"))

    def report(self) -> dict[str, Any]:
        """The ledger as ``GET /_sandbox/ledger`` gives it."""
        return {"seed": self.seed, **self.ledger.report(), "keys": self.meter.summary()}

    def set_plan(self, given: Any) -> None:
        """Replace the plan; submits are counted from 0 again when it says ``reset_ordinal``.

        Raises:
            InvalidInput: the plan cannot be meant; the old one stays.
        """
        restart = given.get("reset_ordinal", False) if isinstance(given, dict) else False
        if not isinstance(restart, bool):
            raise InvalidInput("plan.reset_ordinal", restart, "must be true or false")
        if isinstance(given, dict):
            given = {name: value for name, value in given.items() if name != "reset_ordinal"}
        plan = Plan.read(given, self.seed)
        with self._drawing:
            self.plan = plan
            if restart:
                self.ledger.restart_ordinals()

    def reset(self) -> None:
        """Forget tasks, files, requests; the plan stays, submits are counted from 0."""
        self.ledger.reset()
        self.meter.reset()
        self.shelf.reset()

    def _take_plan(self, request: Request) -> Answer:
        if request.length is None or request.length > MAX_PLAN:
            return Reply.json(413, shapes.plain_error(413, "the plan is larger than 1 MB"))
        try:
            self.set_plan(json.loads(request.body()))
        except InvalidInput as error:
            return Reply.json(400, shapes.plain_error(400, str(error)))
        except ValueError:
            return Reply.json(400, shapes.plain_error(400, "the plan is not JSON"))
        return Reply.json(200, {"status": 200, "message": "success"})

    def _metered(
        self, request: Request, kind: str, answer: Callable[[Request, str], Answer]
    ) -> Answer:
        token = _token(request)
        if not token or (self.tokens is not None and token not in self.tokens):
            return self._turn_away(kind, key_id(token), refusals.unknown_key(), "unknown key")
        key = key_id(token)
        with self.meter.request(key, kind) as let_in:
            if not let_in:
                return self._turn_away(kind, key, refusals.throttled(), "over the rate")
            return answer(request, key)

    def _turn_away(self, kind: str, key: str, reply: Reply, reason: str) -> Reply:
        if kind == "submit":
            self.ledger.refuse(key, reply.status, reason)
        return reply

    def _submit(self, request: Request, key: str) -> Answer:
        with self._drawing:
            ordinal = self.ledger.next_ordinal()
            mischief = self.plan.draw(ordinal)
        self.stopping.wait(mischief.pause)
        name = mischief.of("refusal")
        if name == "refuse_connection_reset":
            self.ledger.refuse(key, 0, name, ordinal)
            return Reset()
        asked = self._read(request, key)
        if name:
            reply = refusals.refusal(name, mischief)
            self.ledger.refuse(key, reply.status, name, ordinal)
            return reply
        if isinstance(asked, Refused):
            self.ledger.refuse(key, asked.status, asked.message, ordinal)
            return refusals.bad_form(asked.status, asked.message)
        task = self.ledger.accept(asked, key, ordinal, request.base_url, mischief)
        self.workshop.take(task)
        return self._reply(task)

    def _read(self, request: Request, key: str) -> Submission | Refused:
        length = request.length
        if length is None:
            return Refused(411, "Content-Length is required")
        if length > MAX_BYTES + FORM_OVERHEAD:
            return Refused(413, "the request is larger than 15 MB")
        asked = read_form(request.headers.get("Content-Type", ""), request.body())
        if self.witness is not None and isinstance(asked, Submission):
            self.witness(asked, key)
        return asked

    def _reply(self, task: Task) -> Answer:
        name = task.mischief.of("reply")
        match name:
            case "accept_then_reset":
                self.ledger.replied(task, "reset")
                return Reset()
            case "accept_then_timeout":
                self.ledger.replied(task, "silence")
                return Silence(task.mischief[name])
            case "reply_after_callback":
                task.told.wait(task.mischief[name])
        full = name == "done_at_once" or (task.asked.sync and name != "sync_pending")
        if full:
            task.finished.wait(SYNC_SECONDS)
        self.ledger.replied(task, "result" if full else "task_id")
        return Reply.json(200, shapes.told_at_once(task) if full else shapes.created(task))

    def _query(self, request: Request, key: str) -> Answer:
        task = self.ledger.find(request.path.removeprefix(TASK), key)
        if task is None or 0 < task.completed_at < time.time() - self.task_ttl:
            return refusals.no_task()
        count = self.ledger.polled(task)
        self.stopping.wait(task.mischief.pause)
        match task.mischief.of("query", count):
            case "query_404":
                return refusals.no_task()
            case "query_500":
                return refusals.server_error()
            case "query_html":
                return refusals.gateway_page()
            case "query_throttle":
                return refusals.throttled()
            case "query_reset":
                return Reset()
        return Reply.json(200, shapes.told(task))


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("X-API-KEY", "").strip()
