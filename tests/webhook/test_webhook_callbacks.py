"""Callbacks of every shape, over HTTP: they end in the rows where they belong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from cutwork import ledger
from tests.services.processes import Processes
from tests.services.registry import Services
from tests.webhook.desk import DONE, Desk
from tests.webhook.servers import Served, start

WRAPPED = {"status": 200, "message": "success", "data": DONE}
MULTIPART = "\r\n".join(
    line
    for name, value in DONE.items()
    for line in ("--frontier", f'Content-Disposition: form-data; name="{name}"', "", str(value))
)


@dataclass(frozen=True)
class Shape:
    """A callback, and the (job state, attempt state, due) that it leads to when it is trusted."""

    name: str
    send: Callable[[Served, str], Any]
    job: str
    attempt: str
    task_id: str | None = None


SHAPES = [
    Shape("bare JSON", lambda s, t: s.post(t, DONE), "storing", "succeeded", "task-1"),
    Shape("wrapped JSON", lambda s, t: s.post(t, WRAPPED), "storing", "succeeded", "task-1"),
    Shape("form", lambda s, t: s.form(t, DONE), "storing", "succeeded", "task-1"),
    Shape(
        "multipart",
        lambda s, t: s.send(
            "POST", f"/callbacks/{t}", f"{MULTIPART}\r\n--frontier--\r\n".encode(),
            "Content-Type: multipart/form-data; boundary=frontier",
        ),
        "storing", "succeeded", "task-1",
    ),
    Shape(
        "GET", lambda s, t: s.send("GET", f"/callbacks/{t}?{urlencode(DONE)}"),
        "storing", "succeeded", "task-1",
    ),
    Shape(
        "JSON without a type, as text",
        lambda s, t: s.send("POST", f"/callbacks/{t}", b'{"state":"1","image":"https://a.b/c"}'),
        "storing", "succeeded",
    ),
    Shape(
        "garbage", lambda s, t: s.send("POST", f"/callbacks/{t}", b"\xff\0{<"),
        "waiting", "accepted",
    ),
    Shape("nothing", lambda s, t: s.post(t), "waiting", "accepted"),
    Shape("an empty GET", lambda s, t: s.send("GET", f"/callbacks/{t}"), "waiting", "accepted"),
    Shape("a list", lambda s, t: s.post(t, [1]), "waiting", "accepted"),
    Shape(
        "progress", lambda s, t: s.post(t, {"state": 4, "progress": 21, "task_id": "task-1"}),
        "waiting", "accepted", "task-1",
    ),
    Shape(
        "a final failure", lambda s, t: s.post(t, {"state": -7, "task_id": "task-1"}),
        "failed", "failed", "task-1",
    ),
    Shape(
        "a failure worth another try", lambda s, t: s.post(t, {"state": -8, "task_id": "task-1"}),
        "queued", "failed", "task-1",
    ),
    Shape(
        "done without the picture",
        lambda s, t: s.post(t, {**DONE, "image": "", "mask": "https://a.b/c"}),
        "waiting", "accepted", "task-1",
    ),
    Shape(
        "done without any link", lambda s, t: s.post(t, {**DONE, "image": ""}),
        "waiting", "accepted", "task-1",
    ),
    Shape(
        "a body too long to keep", lambda s, t: s.post(t, {**DONE, "err_info": "x" * 60000}),
        "storing", "succeeded", "task-1",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def trusting(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Any:
    processes = Processes(tmp_path_factory.mktemp("payload"))
    try:
        made = start(processes, "granian", desk)
        yield made
        made.assert_discreet()
    finally:
        processes.close()


@pytest.fixture(scope="module")
def confirming(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Any:
    processes = Processes(tmp_path_factory.mktemp("confirm"))
    desk = Desk(services.empty("sqlite"), {"callback_trust": "confirm"})
    try:
        made = start(processes, "granian", desk)
        yield made
        made.assert_discreet()
    finally:
        processes.close()
        desk.close()


def sent(served: Served) -> tuple[UUID, str]:
    return served.desk.send(output_type=2)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_trusted_callback_says_what_became_of_the_attempt(trusting: Served, shape: Shape) -> None:
    job_id, token = sent(trusting)

    assert shape.send(trusting, token).status == 200

    attempt = trusting.desk.attempt(job_id)
    assert (trusting.desk.job(job_id).state, attempt.state) == (shape.job, shape.attempt)
    assert (attempt.task_id, attempt.callbacks) == (shape.task_id, 1)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_callback_that_must_be_confirmed_only_makes_us_ask(
    confirming: Served, shape: Shape
) -> None:
    job_id, token = sent(confirming)

    assert shape.send(confirming, token).status == 200

    job, attempt = confirming.desk.job(job_id), confirming.desk.attempt(job_id)
    assert (job.state, attempt.state, attempt.report) == ("waiting", "accepted", None)
    assert job.due_at is not None
    assert attempt.task_id == shape.task_id


def test_a_repeated_callback_is_welcome_and_counted(trusting: Served) -> None:
    job_id, token = sent(trusting)

    statuses = [trusting.post(token, DONE).status for _ in range(3)]

    assert statuses == [200] * 3
    assert trusting.desk.job(job_id).state == "storing"
    assert trusting.desk.attempt(job_id).callbacks == 3


def test_a_callback_of_another_task_does_not_complete_the_job(trusting: Served) -> None:
    job_id, token = sent(trusting)
    trusting.post(token, {"state": 4, "task_id": "task-0"})

    assert trusting.post(token, DONE).status == 200

    assert trusting.desk.job(job_id).state == "waiting"
    assert trusting.desk.attempt(job_id).task_id == DONE["task_id"]  # which is asked about


def test_a_callback_of_a_purged_job_is_told_that_it_is_gone(trusting: Served) -> None:
    job_id, token = sent(trusting)
    trusting.desk.purge(job_id)

    assert trusting.post(token, DONE).status == 410


def test_a_late_success_of_a_cancelled_job_is_kept_on_its_attempt(trusting: Served) -> None:
    job_id, token = sent(trusting)
    with trusting.desk.engine.begin() as tx:
        ledger.cancel(tx, job_id)

    assert trusting.post(token, DONE).status == 200

    assert trusting.desk.job(job_id).state == "cancelled"
    assert trusting.desk.attempt(job_id).report["image"] == DONE["image"]


@pytest.mark.parametrize("prefix", ["", "/hooks", "/a/b/callbacks"])
def test_the_path_of_the_public_url_may_come_before(trusting: Served, prefix: str) -> None:
    job_id, token = sent(trusting)

    assert trusting.send("POST", f"{prefix}/callbacks/{token}", b"{}").status == 200
    assert trusting.desk.job(job_id).state == "waiting"
