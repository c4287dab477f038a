"""T3: real roles that kill themselves at each point; then healthy ones repair what was left.

Several die at the same time, each at a point of its own, and are fed with jobs until all are dead.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutwork import jobs
from cutwork.drill.audit import audit
from cutwork.drill.crashing import Trap
from cutwork.drill.points import POINTS
from cutwork.sandbox.server import Sandbox
from cutwork.states import RESTING, State
from tests.house import Middle, picture
from tests.services.ports import free_port, is_open
from tests.services.processes import Process, Processes
from tests.services.waiting import run_until
from tests.test_matrix import Site, site

# What is found once is found: it is not run again in the hope that it goes away.
pytestmark = [pytest.mark.long, pytest.mark.flaky(reruns=0), pytest.mark.no_cover]

QUESTIONS = [point for point in POINTS if "check" in point or "query" in point]
WAVES = [
    [point for point, role in POINTS.items() if role == "worker" and point not in QUESTIONS][:8],
    [point for point, role in POINTS.items() if role == "worker" and point not in QUESTIONS][8:],
    QUESTIONS,
]


class Range:
    """A deployment in which processes die at points."""

    def __init__(self, place: Site, sandbox: Sandbox, port: int) -> None:
        self.place, self.sandbox, self.port = place, sandbox, port
        self.fed = 0

    def feed(self, many: int) -> None:
        with self.place.engine.begin() as tx:
            for _ in range(many):
                self.fed += 1
                data = picture(f"hsl({self.fed * 7 % 360}, {50 + self.fed % 50}%, 50%)")
                jobs.enqueue(tx, image_file=data, owner="drill", settings=self.place.settings)

    def crash(self, points: list[str], *role: str) -> None:
        """Start the role once for each point, and feed it until all have died there."""
        doomed = {point: self._start(point, role) for point in points}

        def all_died() -> bool:
            alive = [point for point, process in doomed.items() if process.running]
            waiting = self.place.count(*(set(State) - RESTING - {State.UNCERTAIN}))
            if alive and waiting < 2 * len(alive):
                self.feed(len(alive))
            return not alive

        run_until(all_died, 60, f"these did not die: {points}")
        for point, process in doomed.items():
            assert f"drill: crashed at {point}" in process.log
            assert process.returncode == -signal.SIGKILL

    def _start(self, point: str, role: tuple[str, ...]) -> Process:
        words = ("python", "-m", "cutwork.drill.crashing", point, *role)
        name = point.replace(":", "-")
        return self.place.processes.start(*words, env=self.place.environ, name=name)

    def start_webhook(self) -> Process:
        webhook = self.place.start("webhook", "--bind", f"127.0.0.1:{self.port}")
        run_until(lambda: is_open(self.port), 30, "the webhook does not listen")
        return webhook


@pytest.mark.timeout(400)
def test_whatever_dies_wherever_every_job_ends_well(
    empty_database: Callable[[str], str],
    empty_broker: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> None:
    port = free_port()
    urls = (empty_database("postgresql"), empty_broker("redis"))
    with Sandbox(seed=3, engine=Middle()) as sandbox:
        place = site(processes, sandbox, tmp_path, port, urls)
        place.environ |= {
            "CUTWORK_SUBMIT_TIMEOUT": "1",
            "CUTWORK_QUERY_TIMEOUT": "1",
            "CUTWORK_RESULT_TIMEOUT": "1",
            "CUTWORK_UNCERTAIN_GRACE": "2",
            "CUTWORK_MAX_PAID_ATTEMPTS": "9",
        }
        field = Range(place, sandbox, port)
        webhook, clock = field.start_webhook(), place.start("reconciler")
        for wave in WAVES:
            lost = {"rates": {"lost_callback": 1.0}} if wave is QUESTIONS else {}
            sandbox.set_faults(lost)
            field.crash(wave, "worker")
        sandbox.set_faults({})
        place.start("worker")
        clock.stop()
        field.crash([point for point in POINTS if POINTS[point] == "reconciler"], "reconciler")
        place.start("reconciler", name="reconciler-b")
        webhook.stop()
        for point in ("hear:before-commit", "hear:after-commit"):
            field.crash([point], "webhook", "--bind", f"127.0.0.1:{port}")
        field.start_webhook()

        at_rest = lambda: place.count(*RESTING) == field.fed  # noqa: E731
        run_until(at_rest, 120, "L1: not all jobs came to rest")
        settings = place.settings.load(place.environ)
        found = audit(place.engine, settings, sandbox.ledger(), "drill")
    assert found.violations == []
    assert found.states == {State.SUCCEEDED: field.fed}
    assert found.second_charges == found.explained
    place.engine.dispose()


def test_a_trap_counts_only_its_own_point(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Any] = []
    monkeypatch.setattr("os.kill", lambda *who: killed.append(who))
    monkeypatch.setattr("os.getpgrp", lambda: 0)
    trap = Trap("post:sent", 2)
    for point in ("post:before", "post:sent", "post:after", "post:sent"):
        assert not killed
        trap.reached(point)
    assert len(killed) == 1


def test_an_unknown_point_is_refused(processes: Processes) -> None:
    words = ("python", "-m", "cutwork.drill.crashing", "post:maybe", "worker")
    refused = processes.start(*words)
    assert refused.wait(20) == 1
    assert "there is no point post:maybe" in refused.log
    assert "post:sent" in refused.log
