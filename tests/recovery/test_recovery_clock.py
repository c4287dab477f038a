"""Host clocks are off by a minute, and by two from each other: the database's is what counts."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recovery.place import deployed
from tests.services.processes import Processes, clean_environment

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

SKEWED = Path(__file__).with_name("skewed")


def off_by(seconds: float) -> dict[str, str]:
    return {"PYTHONPATH": str(SKEWED), "WALL_CLOCK_OFF_BY": str(seconds)}


@pytest.mark.parametrize("seconds", [60, -60])
def test_the_clock_of_a_child_is_off(seconds: float) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=clean_environment(off_by(seconds)),
        capture_output=True,
        check=True,
    )
    assert abs(float(said.stdout) - time.time() - seconds) < 30


@pytest.mark.parametrize("early", [("webhook", "reconciler"), ("worker",)])
def test_processes_whose_clocks_are_off_by_a_minute_work_together(
    early: tuple[str, ...],
    empty_database: Callable[[str], str],
    empty_broker: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> None:
    urls = (empty_database("postgresql"), empty_broker("redis"))
    clocks = {
        role: off_by(-60 if role in early else 60) for role in ("webhook", "worker", "reconciler")
    }
    only_callbacks = {"check_after": "600", "rate": "10"}
    limits = {"rate": 10.0}
    with deployed(processes, tmp_path, *urls, sandbox=limits, **only_callbacks) as place:
        place.hear(env=clocks["webhook"])
        place.start("worker", env=clocks["worker"])
        place.start("reconciler", env=clocks["reconciler"])
        place.enqueue(20)
        place.finish()
        told = place.sandbox.ledger()
        assert {place.job(job_id).decided_by for job_id in place.ids} == {"callback"}
        assert told["charges"] == len(place.ids)
        assert not told["refused"]
