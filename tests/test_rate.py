"""S10: what the provider sees of all processes together, measured at its door."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cutwork import gate, jobs
from cutwork.sandbox.server import Sandbox
from cutwork.states import State
from tests.house import Middle, picture
from tests.services.ports import free_port, is_open
from tests.services.processes import Processes
from tests.services.waiting import run_until
from tests.test_matrix import Site, site

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

JOBS, RATE, CAP = 90, 8.0, 12


def worst_window(times: list[float], rate: float) -> float:
    """The most by which any window holds more than rate · t, in requests."""
    return max(
        last - first + 1 - rate * (times[last] - times[first])
        for first in range(len(times))
        for last in range(first, len(times))
    )


def enqueue(place: Site) -> None:
    with place.engine.begin() as tx:
        for at in range(JOBS):
            data = picture(f"hsl({at * 3}, 80%, 50%)")
            jobs.enqueue(tx, image_file=data, settings=place.settings)


def test_the_rate_is_kept_and_used_by_all_processes_together(
    empty_database: Callable[[str], str],
    empty_broker: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> None:
    port = free_port()
    with Sandbox(seed=3, engine=Middle(), latency=(0.05, 0.2)) as sandbox:
        urls = (empty_database("postgresql"), empty_broker("redis"))
        place = site(processes, sandbox, tmp_path, port, urls)
        place.environ["CUTWORK_RATE"] = f"{RATE:g}"
        place.environ["CUTWORK_MAX_IN_FLIGHT"] = f"{CAP}"
        place.environ["CUTWORK_CHECK_AFTER"] = "30"
        enqueue(place)
        place.start("webhook", "--bind", f"127.0.0.1:{port}")
        run_until(lambda: is_open(port), 30, "the webhook does not listen")
        workers = [place.start("worker", name=f"worker-{at}") for at in range(2)]
        for at in range(2):
            place.start("reconciler", name=f"reconciler-{at}")
        run_until(lambda: place.count(State.SUCCEEDED) >= JOBS // 2, 60, "half are not done")
        # A worker that stands still must not send late what piled up meanwhile.
        workers[0].signal(signal.SIGSTOP)
        time.sleep(1.5)  # the length of the stop is what is tested
        workers[0].signal(signal.SIGCONT)
        run_until(lambda: place.count(State.SUCCEEDED) == JOBS, 60, "not all are done")
        (seen,) = sandbox.ledger()["keys"].values()
    times = [at for at, _kind, _passed in seen["times"]]
    bound = gate.burst(RATE) + RATE * gate.fresh_for(RATE)
    # Half a request for the way from the claim to the sandbox's door.
    assert worst_window(times, RATE) <= bound + 0.5, "above the rate"
    assert seen["most_open"] <= CAP
    # The best stretch: what else runs on this machine takes time from the others.
    span = JOBS // 3
    used = max(span / (times[at + span] - times[at]) / RATE for at in range(len(times) - span))
    assert used >= 0.95, f"only {used:.0%} of the rate was used"
    place.engine.dispose()
