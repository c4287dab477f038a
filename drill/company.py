"""The processes of a simulation: workers fed by a broker, reconcilers, a webhook, an operator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Engine

from cutwork import callbacks, database, gate, ledger
from cutwork.errors import CutworkError
from cutwork.settings import Settings
from cutwork.states import State
from cutwork.webhook.app import Webhook
from cutwork.webhook.forgeries import Forgeries
from cutwork.webhook.inbox import Answer, Hearing, Inbox
from cutwork.worker.checking import check
from cutwork.worker.notifying import tell_all
from cutwork.worker.reconciler import Reconciler
from cutwork.worker.storing import store
from cutwork.worker.submitting import orders, submit
from cutwork.worker.tools import Tools

from .impostor import Letter, Task
from .schedule import Schedule


def _submit(tools: Tools, job_id: UUID) -> None:
    for order in orders(tools, [job_id]):
        submit(tools, order)


def _tell(tools: Tools, notice_id: UUID) -> None:
    tell_all(tools, [notice_id])


STEPS = {"submit": _submit, "check": check, "store": store, "notify": _tell}
WORKERS, RECONCILERS = 2, 2
_DELIVERIES = 3
# Within so many seconds of a change a reconciler looks: slower than it really does, since each
# look costs a simulation as much as a job's whole step.
_SOON = 3.0


class Broker:
    """Hands messages to workers, who acknowledge them late; it may be wiped at any time."""

    def __init__(self, schedule: Schedule, chance: Random, tools: Callable[[], Tools]) -> None:
        self._schedule, self._chance, self._make = schedule, chance, tools
        self._tools: dict[str, Tools] = {}
        self._epoch = 0
        self.redelivered = 0

    def publish(self, lane: str, job_ids: Sequence[UUID]) -> None:
        self._schedule.edge("publish: before")
        if self._schedule.strikes("broker down"):
            raise ConnectionError("the broker is down")
        late = self._chance.uniform(5.0, 40.0) if self._schedule.strikes("message late") else 0.0
        copies = 2 if self._schedule.strikes("message twice") else 1
        self.redelivered += copies - 1
        for _ in range(copies):
            self._queue(lane, tuple(job_ids), late)
        self._schedule.edge("publish: after")

    def wipe(self) -> None:
        self._epoch += 1

    def _queue(self, lane: str, job_ids: tuple[UUID, ...], delay: float) -> None:
        epoch, wait = self._epoch, delay + self._chance.uniform(0.001, 0.2)
        self._schedule.at(wait, lambda: self._deliver(lane, job_ids, epoch))

    def _deliver(self, lane: str, job_ids: tuple[UUID, ...], epoch: int) -> None:
        if epoch != self._epoch:
            return

        process = f"worker-{self._chance.randrange(WORKERS)}"
        tools = self._tools.setdefault(process, self._make())

        def work() -> None:
            for job_id in job_ids:
                try:
                    STEPS[lane](tools, job_id)
                except Exception as error:  # noqa: BLE001 - as the Celery task does
                    self._schedule.note(f"{self._schedule.who}: {type(error).__name__}")

        def ended(lived: bool) -> None:
            if not lived and self._tools.get(process) is tools:
                del self._tools[process]  # what comes next is another process
            if not lived and self._chance.random() < 0.7:
                self.redelivered += 1
                self._queue(lane, job_ids, self._chance.uniform(0.5, 15.0))

        self._schedule.start(process, work, ended)


class Clocks:
    """The reconcilers: each looks when something has changed, or an alarm is near."""

    def __init__(self, schedule: Schedule, chance: Random, make: Callable[[], Reconciler]) -> None:
        self._schedule, self._chance, self._make = schedule, chance, make
        # Also those that are in the middle of a look when the simulation ends.
        self._alive: set[Reconciler] = set()
        self._running: list[Reconciler | None] = [self._start() for _ in range(RECONCILERS)]
        self._due = [0.0] * RECONCILERS
        self.next_alarm: Callable[[], float] = lambda: 0.0

    def begin(self) -> None:
        for number in range(RECONCILERS):
            self._look_in(number, self._chance.uniform(0.0, 0.5))

    def wake(self) -> None:
        """One of them looks soon."""
        number = self._chance.randrange(RECONCILERS)
        if min(self._due) > self._schedule.now + _SOON:
            self._look_in(number, self._chance.uniform(0.1, _SOON))

    def close(self) -> None:
        for one in self._alive:
            one.close()

    def _start(self) -> Reconciler:
        made = self._make()
        self._alive.add(made)
        return made

    def _look_in(self, number: int, delay: float) -> None:
        due = self._due[number] = self._schedule.now + delay
        self._schedule.at(delay, lambda: self._look(number, due))

    def _look(self, number: int, due: float) -> None:
        if self._due[number] != due:
            return  # it was woken before, and looks at another time
        running = self._running[number]
        reconciler = running if running is not None else self._start()
        self._running[number] = None
        pauses: list[float] = []

        def ended(lived: bool) -> None:
            if lived and self._running[number] is None:
                self._running[number] = reconciler
            else:  # it died, or another has taken its place while it stood
                self._alive.remove(reconciler)
                reconciler.close()
            self._look_in(number, self._pause(pauses))

        body = lambda: pauses.append(reconciler.run_once())  # noqa: E731
        self._due[number] = float("inf")
        self._schedule.start(f"reconciler-{number}", body, ended)

    def _pause(self, pauses: list[float]) -> float:
        """Longer than it asks for: an idle look in virtual hours would be a look in vain."""
        if not pauses:
            return self._chance.uniform(0.2, 5.0)
        if pauses[0] < 0.02:
            return self._chance.uniform(0.1, _SOON)
        return min(60.0, max(_SOON, self.next_alarm())) + self._chance.uniform(0.0, _SOON)


class Desk(Inbox):  # type: ignore[misc]  # no checker sees through the package-dir mapping
    """The webhook's group commit, done at once by whoever brings the callback."""

    def put(self, hearing: Hearing) -> Answer:
        self._settle([hearing])
        if self._line is not None:
            self._line.leave()
        answer: Answer = hearing.answer
        return answer


class Tally(Forgeries):  # type: ignore[misc]
    """The webhook's count of forged callbacks, without its timer, which would run in real time."""

    def _set_timer(self) -> None: ...


@dataclass
class Post:
    """Carries the provider's callbacks to the webhook, and again when it is not answered 2xx."""

    schedule: Schedule
    chance: Random
    settings: Settings
    engine: Engine
    early: int = 0
    refused: int = 0
    forged: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    under_way: int = 0

    def __post_init__(self) -> None:
        self._webhook = Webhook(self.settings)
        self._webhook._inbox = Desk(self.engine, self.settings)
        self._webhook._forgeries = Tally(self.engine)

    def send(self, delay: float, letter: Letter, tries: int = _DELIVERIES) -> None:
        self.under_way += 1
        self.schedule.at(delay, lambda: self._deliver(letter, tries))

    def forge(self, job_id: UUID) -> None:
        """A stranger guesses a token: 404, and no row changes."""
        token = callbacks.mint("a secret that is not ours", job_id, 1, 2**32 - 1)
        url = f"{self.settings.public_url}{callbacks.PATH}{token}"
        letter = Letter(Task("forged", job_id.hex, 1, url, ()), True, b'{"state": -7}')
        self.under_way += 1
        self.schedule.at(0.0, lambda: self._deliver(letter, 1))

    def _deliver(self, letter: Letter, tries: int) -> None:
        task, told = letter.task, []
        before_reply = not task.replied

        def body() -> None:
            told.append(self._ask(letter))

        def ended(_lived: bool) -> None:
            self.under_way -= 1
            status = told[0] if told else "no answer"
            self.schedule.note(f"callback of {task.id}: {status}")
            if task.id == "forged":
                self.forged += status == "404 Not Found"
            elif status == "200 OK":
                self.early += before_reply
                if letter.final:
                    self.answered[task.id] = self.answered.get(task.id, 0) + 1
            elif tries > 1:
                self.refused += status.startswith("503")
                self.send(self.chance.uniform(1.0, 5.0), letter, tries - 1)

        self.schedule.start("webhook-0", body, ended)

    def _ask(self, letter: Letter) -> str:
        statuses: list[str] = []
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": urlsplit(letter.task.callback_url or "").path,
            "CONTENT_TYPE": letter.content_type,
            "CONTENT_LENGTH": str(len(letter.body)),
            "wsgi.input": BytesIO(letter.body),
        }
        self.schedule.edge("hear: before")
        self._webhook(environ, lambda status, _headers: statuses.append(status))
        self.schedule.edge("hear: after")
        return statuses[0]


@dataclass
class Operator:
    """Cancels, retries and resumes, in transactions of its own."""

    engine: Engine
    settings: Settings

    def cancel(self, job_id: UUID) -> None:
        self._try(ledger.cancel, job_id)

    def retry(self, job_id: UUID) -> State | None:
        target: State | None = self._try(ledger.retry, job_id, self.settings)
        return target

    def resume(self) -> None:
        for key_id in self.settings.keys:
            database.transact(self.engine, gate.resume, key_id)

    def _try(self, verb: Callable[..., Any], *args: Any) -> Any:
        try:
            return database.transact(self.engine, verb, *args)
        except CutworkError:
            return None
