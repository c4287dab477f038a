"""T3: real roles that kill themselves at each point; then healthy ones repair what was left.

Several die at the same time, each at a point of its own, and are fed with jobs until all are dead.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutwork.drill.crashing import Trap
from cutwork.drill.points import POINTS
from cutwork.drill.range import asks, ranged
from cutwork.states import State
from tests.services.processes import Processes

# What is found once is found: it is not run again in the hope that it goes away.
pytestmark = [pytest.mark.long, pytest.mark.flaky(reruns=0), pytest.mark.no_cover]

ANSWERS, QUESTIONS = (
    [point for point, role in POINTS.items() if role == "worker" and asks(point) is asked]
    for asked in (False, True)
)
WAVES = [
    ANSWERS[:8],
    ANSWERS[8:],
    QUESTIONS,
    *([point for point in POINTS if POINTS[point] == role] for role in ("reconciler", "webhook")),
]


@pytest.mark.timeout(400)
def test_whatever_dies_wherever_every_job_ends_well(
    empty_database: Callable[[str], str], empty_broker: Callable[[str], str], tmp_path: Path
) -> None:
    environ = {
        **os.environ,
        "CUTWORK_DATABASE_URL": empty_database("postgresql"),
        "CUTWORK_BROKER_URL": empty_broker("redis"),
        "CUTWORK_STORAGE_URL": (tmp_path / "files").as_uri(),
    }
    with ranged(environ, seed=3) as ground:
        for wave in WAVES:
            assert ground.crash(wave), f"not all died: {ground.died}"
        assert ground.mend(), "L1: not all jobs came to rest"
        found = ground.audit()
        died = +ground.died
    assert died == dict.fromkeys(POINTS, 1)
    assert found.violations == []
    assert found.states == {State.SUCCEEDED: len(ground.site.ids)}
    assert found.second_charges == found.explained


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
