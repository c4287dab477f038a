"""The sandbox as one thing: started and stopped by a test, or served until a signal comes."""

import json
import logging
import secrets
import signal
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event
from types import FrameType, TracebackType
from typing import Any

from cutwork.errors import InvalidSetting

from .agenda import Agenda
from .api import Api, Witness
from .callbacks import Courier
from .engine import Engine, load_engine
from .files import Shelf
from .grabcut import GrabCutEngine
from .limits import Meter
from .plan import Plan
from .tasks import Ledger
from .wire import Server
from .workshop import Workshop

log = logging.getLogger(__name__)

STOP_SECONDS = 1.5
CALLBACK_THREADS = 4


class Sandbox:
    """The provider on this machine: ``with Sandbox() as sandbox: requests.post(sandbox.url + …)``.

    Args:
        bind: host:port; port 0 takes a free one.
        seed: decides faults, task ids and latencies; None draws one.
        latency: (least, most) seconds that a task waits on top of its cutting.
        faults: a plan as JSON has it, see ``plan.py``; None behaves.
        rate: requests a second and key, submits and queries together; 0 for no limit.
        tokens: the keys that are let in; None lets in any.
        engine: what cuts; None for GrabCut.
        result_ttl: seconds that a link to a result lives.
        task_ttl: seconds after its end that a task may be asked about.
        callback_retries: further tries after a callback that was not answered 2xx.
        workers: pictures that are cut at once.
        stamp: write the task's id into the result files.
        witness: called with (submission, key id) for every readable submit, before it counts.
    """

    def __init__(
        self,
        *,
        bind: str = "127.0.0.1:0",
        seed: int | None = None,
        latency: tuple[float, float] = (0.0, 0.0),
        faults: dict[str, Any] | None = None,
        rate: float = 0.0,
        tokens: Iterable[str] | None = None,
        engine: Engine | None = None,
        result_ttl: float = 3600.0,
        task_ttl: float = 3600.0,
        callback_retries: int = 2,
        workers: int = 2,
        stamp: bool = True,
        witness: Witness | None = None,
    ) -> None:
        self.seed = secrets.randbelow(2**32) if seed is None else seed
        plan = Plan.read(faults or {}, self.seed)
        self._stopping = Event()
        self._folder = tempfile.TemporaryDirectory(prefix="cutwork-sandbox-")
        self._cuts, self._mail = Agenda("cut", workers), Agenda("callback", CALLBACK_THREADS)
        ledger = Ledger(self.seed)
        shelf = Shelf(Path(self._folder.name), result_ttl, ledger)
        workshop = Workshop(
            ledger,
            self._cuts,
            Courier(ledger, self._mail, callback_retries),
            shelf,
            engine or GrabCutEngine(),
            latency=latency,
            seed=self.seed,
            stamp=stamp,
        )
        self._ledger = ledger
        self._api = Api(
            ledger,
            Meter(rate),
            shelf,
            workshop,
            self._stopping,
            self.seed,
            plan,
            None if tokens is None else frozenset(tokens),
            witness,
            task_ttl,
        )
        self._server = self._bound(bind)
        self.url = self._server.url

    def _bound(self, bind: str) -> Server:
        try:
            return Server(*read_bind(bind), self._api, self._stopping)
        except OSError as error:
            self._folder.cleanup()
            reason = f"cannot be listened on ({error.strerror})"
            raise InvalidSetting("--bind", bind, reason, "choose another address") from None

    def __enter__(self) -> "Sandbox":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._cuts.start()
        self._mail.start()
        self._server.start()

    def stop(self) -> None:
        """Hang up and stop within a few seconds; a picture that is being cut is left unfinished."""
        self._stopping.set()
        self._ledger.abandon()
        self._cuts.stop(0)
        self._mail.stop(0)
        self._server.stop(STOP_SECONDS)
        self._cuts.stop(STOP_SECONDS)
        self._mail.stop(STOP_SECONDS)
        self._folder.cleanup()

    def ledger(self) -> dict[str, Any]:
        """What ``GET /_sandbox/ledger`` answers."""
        return self._api.report()

    def set_faults(self, plan: dict[str, Any]) -> None:
        """Replace the plan, as ``POST /_sandbox/faults`` does.

        Raises:
            InvalidInput: the plan cannot be meant.
        """
        self._api.set_plan(plan)

    def reset(self) -> None:
        """Forget all tasks, as ``POST /_sandbox/reset`` does; the plan stays."""
        self._api.reset()


def serve(
    bind: str,
    *,
    seed: int | None = None,
    latency: str = "0",
    faults_file: Path | None = None,
    rate: float = 2.0,
    engine: str = "",
    result_ttl: float = 3600.0,
    tokens: Iterable[str] | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Run until SIGTERM or SIGINT; says ``sandbox: http://…`` when ready, by default on stdout.

    Raises:
        InvalidSetting: an option has an unusable value.
        InvalidInput: the plan in ``faults_file`` cannot be meant.
    """
    stop = Event()

    def heard(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    sandbox = Sandbox(
        bind=bind,
        seed=seed,
        latency=read_latency(latency),
        faults=_read_plan(faults_file),
        rate=rate,
        engine=load_engine(engine) if engine else None,
        result_ttl=result_ttl,
        tokens=tokens,
    )
    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with sandbox:
            (announce or _say)(f"sandbox: {sandbox.url}")
            stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_bind(text: str) -> tuple[str, int]:
    """``host:port``, ``[::1]:port``, or ``:port`` for this machine alone.

    Raises:
        InvalidSetting: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidSetting("--bind", text, "must be host:port", "such as 127.0.0.1:8600")
    return host, int(port)


def read_latency(text: str) -> tuple[float, float]:
    """``0.2`` or ``0.5-2``, in seconds.

    Raises:
        InvalidSetting: it is neither.
    """
    least, dash, most = text.partition("-")
    try:
        span = float(least), float(most if dash else least)
    except ValueError:
        span = -1.0, -1.0
    if not 0 <= span[0] <= span[1] < float("inf"):
        raise InvalidSetting("--latency", text, "must be seconds, or a range of them", "try 0.5-2")
    return span


def _read_plan(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting("--faults", str(path), f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise InvalidSetting("--faults", str(path), "is not JSON") from None
    return plan


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's only output
