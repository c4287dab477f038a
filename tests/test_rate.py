"""S10: what the provider sees of all processes together, measured at its door."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cutwork import gate, jobs
from cutwork.sandbox.server import Sandbox
from cutwork.states import State
from tests.house import Middle, picture
from tests.services.ports import free_port, is_open
from tests.services.processes import Process, Processes
from tests.services.waiting import run_until
from tests.test_matrix import Site, site

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

CAP = 12


@dataclass
class Crowd:
    """Two workers, two reconcilers and a webhook at one provider."""

    place: Site
    sandbox: Sandbox
    port: int
    workers: list[Process] = field(default_factory=list)

    def enqueue(self, many: int) -> None:
        with self.place.engine.begin() as tx:
            for at in range(many):
                data = picture(f"hsl({at * 3}, 80%, 50%)")
                jobs.enqueue(tx, image_file=data, settings=self.place.settings)

    def start(self) -> None:
        self.place.start("webhook", "--bind", f"127.0.0.1:{self.port}")
        run_until(lambda: is_open(self.port), 30, "the webhook does not listen")
        self.workers = [self.place.start("worker", name=f"worker-{at}") for at in range(2)]
        for at in range(2):
            self.place.start("reconciler", name=f"reconciler-{at}")

    def wait_for(self, many: int) -> None:
        run_until(lambda: self.place.count(State.SUCCEEDED) >= many, 90, f"{many} are not done")

    def seen(self) -> list[Any]:
        """What the provider saw of each key: ``times`` (Unix time, kind, let in), ``most_open``."""
        return list(self.sandbox.ledger()["keys"].values())


@pytest.fixture
def gather(
    empty_database: Callable[[str], str],
    empty_broker: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> Iterator[Callable[..., Crowd]]:
    with ExitStack() as undo:

        def made(**settings: str) -> Crowd:
            sandbox = undo.enter_context(Sandbox(seed=3, engine=Middle(), latency=(0.05, 0.2)))
            port = free_port()
            urls = (empty_database("postgresql"), empty_broker("redis"))
            place = site(processes, sandbox, tmp_path, port, urls)
            undo.callback(place.engine.dispose)
            place.environ |= {f"CUTWORK_{name}": text for name, text in settings.items()}
            return Crowd(place, sandbox, port)

        yield made


def worst_window(seen: Any, rate: float) -> float:
    """The most by which any window holds more than rate · t, in requests."""
    times = [at for at, _kind, _passed in seen["times"]]
    return max(
        last - first + 1 - rate * (times[last] - times[first])
        for first in range(len(times))
        for last in range(first, len(times))
    )


def allowed(rate: float) -> float:
    """What a window may hold beyond rate · t; half a request is the way from claim to sandbox."""
    return gate.burst(rate) + rate * gate.fresh_for(rate) + 0.5


def test_no_window_holds_more_than_the_rate_whoever_stands_still(
    gather: Callable[..., Crowd],
) -> None:
    many, rate = 90, 8.0
    crowd = gather(RATE=f"{rate:g}", MAX_IN_FLIGHT=f"{CAP}", CHECK_AFTER="30")
    crowd.enqueue(many)
    crowd.start()
    crowd.wait_for(many // 2)
    # A worker that stands still must not send late what piled up meanwhile.
    crowd.workers[0].signal(signal.SIGSTOP)
    time.sleep(1.5)  # the length of the stop is what is tested
    crowd.workers[0].signal(signal.SIGCONT)
    crowd.wait_for(many)
    (seen,) = crowd.seen()
    assert worst_window(seen, rate) <= allowed(rate), "above the rate"
    assert seen["most_open"] <= CAP


def test_a_backlog_uses_the_rate_of_every_key_from_its_first_job_to_its_last(
    gather: Callable[..., Crowd],
) -> None:
    crowd = gather(API_TOKENS="key-1,key-2", RATE="2", CHECK_AFTER="30")
    crowd.enqueue(80)
    crowd.start()
    crowd.wait_for(80)
    seen = crowd.seen()
    assert len(seen) == 2
    for key in seen:
        times = [at for at, kind, _passed in key["times"] if kind == "submit"]
        used = (len(times) - 1) / (times[-1] - times[0]) / 2
        assert used >= 0.95, f"only {used:.0%} of the rate was used"
        assert worst_window(key, 2.0) <= allowed(2.0)
