"""A process is stopped for a while, killed in the middle of a POST, or told to end."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from cutwork.job import Job
from cutwork.states import State
from tests.recovery.place import PATIENCE, Place, deployed, stopped
from tests.services.processes import Processes
from tests.services.waiting import run_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), pytest.mark.no_cover]

SILENT = {"schedule": {"0": [{"accept_then_timeout": 30}]}}
Build = Callable[..., AbstractContextManager[Place]]


@pytest.fixture
def build(
    empty_database: Callable[[str], str],
    empty_broker: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> Build:
    return lambda **options: deployed(
        processes, tmp_path, empty_database("postgresql"), empty_broker("redis"), **options
    )


def states_of(job: Job) -> list[str]:
    return [one.state for one in job.attempts]


def in_the_post(place: Place) -> None:
    """The provider has the picture, and its answer is still to come."""
    run_until(lambda: place.sandbox.ledger()["tasks"], PATIENCE, "nothing was submitted")
    assert place.count(State.SUBMITTING) == 1


def test_a_worker_that_stood_still_past_its_lease_changes_nothing_afterwards(build: Build) -> None:
    faults = {"schedule": {"0": ["lost_callback", {"accept_then_timeout": 30}]}}
    changes = {"submit_timeout": "4", "uncertain_grace": "1"}
    with build(sandbox={"faults": faults}, **changes) as place:
        place.hear()
        place.start("reconciler")
        worker = place.start("worker", name="worker-a")
        (job_id,) = place.enqueue()
        in_the_post(place)
        with stopped(worker):
            place.start("worker", name="worker-b")
            place.enqueue(3)
            place.finish()
            before = place.job(job_id)
        place.enqueue(3)
        place.finish()
        worker.wait_for_log("outcome=Uncertain", PATIENCE)

        job = place.job(job_id)
        assert job == before
        assert states_of(job) == ["uncertain", "succeeded"]
        assert place.charges() == len(place.ids) + 1  # the policy resubmitted, and it is counted


@pytest.mark.parametrize("role", ["reconciler", "webhook", "worker"])
def test_a_role_that_stood_still_goes_on_where_it_was(build: Build, role: str) -> None:
    with build() as place:
        place.open()
        place.enqueue(6)
        place.until(State.SUCCEEDED, 1)
        with stopped(place.role(role)):
            place.enqueue(2)
            noticed = {
                "reconciler": place.overdue,
                "worker": place.lapsed,
                "webhook": lambda: place.count(State.SUCCEEDED) == len(place.ids),
            }
            run_until(noticed[role], PATIENCE, f"nobody noticed that the {role} stands still")
        place.enqueue(2)
        place.finish()
        uncertain = sum("uncertain" in states_of(place.job(job_id)) for job_id in place.ids)
        assert len(place.ids) <= place.charges() <= len(place.ids) + uncertain


@pytest.mark.parametrize(
    ("callbacks", "policy", "state", "attempts", "charges"),
    [
        (True, "hold", State.SUCCEEDED, ["succeeded"], 1),
        (False, "hold", State.HELD, ["uncertain"], 1),
        (False, "resubmit", State.SUCCEEDED, ["uncertain", "succeeded"], 2),
    ],
)
def test_a_worker_that_never_comes_back_from_its_post(
    build: Build, callbacks: bool, policy: str, state: State, attempts: list[str], charges: int
) -> None:
    changes: dict[str, Any] = {"on_uncertain": policy, "submit_timeout": "3", "lease_margin": "1"}
    changes |= {} if callbacks else {"public_url": "", "uncertain_grace": "1"}
    # The callback comes after the worker's lease is over: a proof in the grace, not before.
    slow = (10.0, 10.0) if callbacks else (0.1, 0.1)
    with build(sandbox={"faults": SILENT, "latency": slow}, **changes) as place:
        doomed = place.processes.start("cutwork", "worker", env=place.environ, name="doomed")
        place.start("reconciler")
        if callbacks:
            place.hear()
        (job_id,) = place.enqueue()
        in_the_post(place)
        doomed.kill()
        if callbacks:
            place.until(State.UNCERTAIN)
        place.start("worker")
        place.until(state)
        place.check_alive()
        assert states_of(place.job(job_id)) == attempts
        assert place.charges() == charges


def test_a_worker_that_is_told_to_end_finishes_what_it_has_in_hand(build: Build) -> None:
    faults = {"rates": {"slow_everything": 1.0}, "values": {"slow_everything": 2}}
    with build(sandbox={"faults": faults}) as place:
        place.hear()
        place.start("reconciler")
        worker = place.processes.start("cutwork", "worker", env=place.environ, name="leaving")
        place.enqueue(4)
        place.until(State.SUBMITTING, 2)
        worker.signal(signal.SIGTERM)
        worker.wait(place.settings.submit_timeout + 20)
        assert place.count(State.SUBMITTING, State.UNCERTAIN) == 0
        place.start("worker")
        place.finish()
        assert place.charges() == len(place.ids)
