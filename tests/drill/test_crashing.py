"""T3: real roles that kill themselves at each point; then healthy ones repair what was left.

Several die at the same time, each at a point of its own, and are fed with jobs until all are dead.
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutwork.drill.crashing import Trap
from cutwork.drill.points import POINTS
from cutwork.drill.range import Range, asks, ranged
from cutwork.drill.round import rounds
from cutwork.states import State
from tests.services.processes import Processes

# What is found once is found: it is not run again in the hope that it goes away.
pytestmark = [pytest.mark.long, pytest.mark.flaky(reruns=0), pytest.mark.no_cover]

WORKERS = [point for point, role in POINTS.items() if role == "worker" and not asks(point)]
WAVES = [
    WORKERS[:8],
    WORKERS[8:],
    [point for point in POINTS if asks(point)],
    [point for point, role in POINTS.items() if role == "reconciler"],
    [point for point, role in POINTS.items() if role == "webhook"],
]


@pytest.fixture
def urls(
    empty_database: Callable[[str], str], empty_broker: Callable[[str], str], tmp_path: Path
) -> dict[str, str]:
    return {
        "CUTWORK_DATABASE_URL": empty_database("postgresql"),
        "CUTWORK_BROKER_URL": empty_broker("redis"),
        "CUTWORK_STORAGE_URL": (tmp_path / "files").as_uri(),
    }


def last_words(ground: Range) -> str:
    return "\n".join(f"{name}: {log[-2000:]}" for name, log in ground.logs().items())


@pytest.mark.timeout(600)
def test_whatever_dies_wherever_every_job_ends_well(urls: dict[str, str]) -> None:
    with ranged(urls, seed=3) as ground:
        for wave in WAVES:
            assert ground.crash(wave), f"not all died of {wave}: {last_words(ground)}"
        assert ground.mend(), f"L1: not all jobs came to rest: {last_words(ground)}"
        found = ground.audit()
        assert found.violations == []
        assert found.states == {State.SUCCEEDED: len(ground.site.ids)}
        assert found.second_charges == found.explained
        assert ground.died == dict.fromkeys(POINTS, 1)


@pytest.mark.timeout(240)
def test_a_prefork_worker_may_die_as_a_whole_or_lose_a_process(urls: dict[str, str]) -> None:
    with ranged(urls, "prefork") as ground:
        whole, child = rounds(ground, ["post:sent"], 4, "prefork")
    assert [whole.victim, child.victim] == ["worker", "pool process"]
    assert [whole.died, child.died] == [2, 2]
    assert whole.violations + child.violations == ()


def test_a_trap_counts_only_its_own_point(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Any] = []
    monkeypatch.setattr("os.kill", lambda *who: killed.append(who))
    monkeypatch.setattr("os.getpgrp", lambda: 0)
    trap = Trap("post:sent", 2)
    for point in ("post:before", "post:sent", "post:after", "post:sent"):
        assert not killed
        trap.reached(point)
    assert len(killed) == 1


def test_forked_processes_share_the_count_and_one_of_them_dies() -> None:
    program = """
import os
from cutwork.drill.crashing import Trap
trap = Trap("post:sent", 3, child=True)
for _ in range(5):
    if not (child := os.fork()):
        trap.reached("post:sent")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=True, text=True
    )
    assert run.stdout.split() == ["0", "0", str(-signal.SIGKILL), "0", "0"]


def test_a_forked_process_takes_its_group_along() -> None:
    program = """
import os, time
from cutwork.drill.crashing import Trap
trap = Trap("post:sent")
if not os.fork():
    trap.reached("post:sent")
time.sleep(60)
"""
    run = subprocess.run([sys.executable, "-c", program], timeout=50, start_new_session=True)
    assert run.returncode == -signal.SIGKILL


def test_an_unknown_point_is_refused(processes: Processes) -> None:
    words = ("python", "-m", "cutwork.drill.crashing", "post:maybe", "worker")
    refused = processes.start(*words)
    assert refused.wait(20) == 1
    assert "there is no point post:maybe" in refused.log
    assert "post:sent" in refused.log


def test_a_time_that_never_comes_is_refused(processes: Processes) -> None:
    refused = processes.start("python", "-m", "cutwork.drill.crashing", "post:sent:0", "worker")
    assert refused.wait(20) == 1
    assert "the times must be from 1 to 4096, got 0" in refused.log
