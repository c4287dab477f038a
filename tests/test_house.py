"""The whole path in one process, against the sandbox and each of its faults."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import Connection, select

from cutwork import ledger, schema
from cutwork.errors import InvalidSetting
from cutwork.gate import resume
from cutwork.ledger import Heard
from cutwork.provider import Provider
from cutwork.states import State
from cutwork.worker.submitting import orders, submit
from cutwork.worker.tools import Tools
from tests.house import House, picture

# Quick enough for a test to see what a grace or a check leads to.
SOON = {"check_after": 0.2, "check_max_interval": 0.3, "uncertain_grace": 0.4}

Build = Callable[..., House]


@pytest.fixture
def build(empty_database: Callable[[str], str], tmp_path: Path) -> Iterator[Build]:
    built: list[House] = []

    def make(
        *faults: Any,
        database: str = "sqlite",
        provider: dict[str, Any] | None = None,
        **changes: Any,
    ) -> House:
        schedule = {str(at): fault for at, fault in enumerate(faults)}
        house = House(
            empty_database(database),
            tmp_path,
            faults={"schedule": schedule},
            changes=changes,
            provider=provider or {},
        )
        built.append(house)
        return house.__enter__()

    yield make
    for house in built:
        house.__exit__(None, None, None)


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"])
def test_a_picture_is_cut_called_back_and_stored(build: Build, database: str) -> None:
    house = build(database=database)
    (job,) = house.settle(house.enqueue(image_file=picture(), output_type=1))
    assert job.state is State.SUCCEEDED
    assert job.decided_by == "callback"
    assert job.foreground_rect == {"x": 12, "y": 8, "width": 24, "height": 16}
    assert (job.image_width, job.image_height) == (48, 32)
    cut = house.image(job)
    assert cut.mode == "RGBA"
    assert cut.getpixel((0, 0))[3] == 0
    assert cut.getpixel((24, 16)) == (255, 0, 0, 255)
    # What is kept is what the sandbox made of this very picture, without the marks it put there.
    (task,) = house.sandbox.ledger()["tasks"]
    assert task["task_id"] == job.task_id
    assert task["source"] == job.request["image_file"]["sha256"][:16]
    assert task["prints"] == {name: file.sha256 for name, file in job.files.items()}
    assert cut.info == {}
    assert job.files["mask"].format == "png"
    assert house.charges() == 1


@pytest.mark.parametrize(
    ("fault", "decided_by"),
    [
        ("duplicate_callback", "callback"),
        ("progress_callback", "callback"),
        ("reordered_callback", "callback"),
        ("form_callback", "callback"),
        ("bare_callback", "callback"),
        ("get_callback", "callback"),
        ("string_numbers", "callback"),
        ("no_state_detail", "callback"),
        ("reply_after_callback", "callback"),
        ("lost_callback", "poll"),
        ("garbage_callback", "poll"),
        ("wrong_task_id_callback", "poll"),
        ("done_at_once", "reply or callback"),
        ("accept_then_reset", "callback"),
        ("query_404", "callback"),
        ("result_truncated", "callback"),
        ("result_wrong_type", "callback"),
        ("result_wrong_size", "callback"),
    ],
)
def test_a_fault_that_must_not_cost_anything_costs_nothing(
    build: Build, fault: str, decided_by: str
) -> None:
    slow = {"uncertain_grace": 20.0} if fault == "accept_then_reset" else {}
    checked = {"check_after": 600.0} if decided_by == "callback" else {}
    house = build([fault], **{**SOON, **slow, **checked})
    (job,) = house.settle(house.enqueue())
    assert job.state is State.SUCCEEDED, job.error
    assert str(job.decided_by) in decided_by.split()
    assert house.charges() == 1
    assert len(job.attempts) == 1


@pytest.mark.parametrize(
    "fault", ["query_404", "query_500", "query_html", "query_throttle", "query_reset"]
)
def test_a_question_that_fails_is_asked_again(build: Build, fault: str) -> None:
    house = build(["lost_callback", fault], **{**SOON, "uncertain_grace": 20.0})
    (job,) = house.settle(house.enqueue())
    assert job.state is State.SUCCEEDED
    assert job.decided_by == "poll"
    assert house.charges() == 1


@pytest.mark.parametrize(
    "fault", ["refuse_connection_reset", "error_500", "error_502_html", "error_520_text"]
)
def test_an_unknown_outcome_is_settled_by_the_policy(build: Build, fault: str) -> None:
    house = build([fault], **SOON)
    held = house.enqueue(on_uncertain="hold")
    (job,) = house.settle(held)
    assert job.state is State.HELD
    assert job.error is not None
    assert job.error["code"] == "uncertain"
    assert house.charges() == 0
    (again,) = house.settle(house.enqueue())
    assert again.state is State.SUCCEEDED


def test_an_uncertain_submit_is_paid_again_once_and_explained(build: Build) -> None:
    house = build(["accept_then_reset", "lost_callback"], **SOON)
    (job,) = house.settle(house.enqueue(), seconds=20)
    assert job.state is State.SUCCEEDED
    assert [one.state for one in job.attempts] == ["uncertain", "succeeded"]
    assert house.charges() == 2


@pytest.mark.parametrize("fault", ["throttle", "throttle_retry_after"])
def test_a_throttled_job_goes_back_and_everybody_waits(build: Build, fault: str) -> None:
    house = build([{fault: 1} if fault == "throttle_retry_after" else fault])
    (job,) = house.settle(house.enqueue())
    assert job.state is State.SUCCEEDED
    assert [one.state for one in job.attempts] == ["void", "succeeded"]
    assert house.charges() == 1


@pytest.mark.parametrize("fault", ["bad_key", "no_credit", "no_credit_402"])
def test_a_refused_key_stops_the_queue_and_burns_no_job(build: Build, fault: str) -> None:
    house = build([fault], rate=2.0)
    jobs = [house.enqueue() for _ in range(3)]
    house.step()
    house.step()
    assert {house.job(one).state for one in jobs} == {State.QUEUED}
    assert len(house.sandbox.ledger()["refused"]) == 1
    with house.engine.begin() as tx:
        (gate,) = tx.execute(select(schema.gate))
        assert gate.trips == 1
        assert "refused the key" in gate.reason
        resume(tx, gate.key_id)
    assert {job.state for job in house.settle(*jobs)} == {State.SUCCEEDED}
    assert house.charges() == 3


def test_a_wrong_token_stops_it_as_well(build: Build) -> None:
    house = build(provider={"tokens": ["another-key"]})
    job_id = house.enqueue()
    house.step()
    assert house.job(job_id).state is State.QUEUED
    with house.engine.connect() as tx:
        assert tx.execute(select(schema.gate.c.trips)).scalar_one() == 1


@pytest.mark.parametrize("state", [-7, -5, -10, -99])
def test_a_failure_that_cannot_be_helped_fails_the_job_with_its_number(
    build: Build, state: int
) -> None:
    if state == -99:
        house = build(["lost_callback", "stuck_at_4"], **SOON, wait_timeout=0.5)
        (job,) = house.settle(house.enqueue())
        assert job.state is State.HELD
        assert job.error is not None
        assert job.error["code"] == "no_answer"
        return
    house = build([{"task_failed": state}])
    (job,) = house.settle(house.enqueue())
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == f"provider_{state}"
    assert house.charges() == 0


def test_a_failure_worth_another_try_gets_one(build: Build) -> None:
    house = build([{"task_failed": -8}])
    (job,) = house.settle(house.enqueue(), seconds=20)
    assert job.state is State.SUCCEEDED
    assert [one.state for one in job.attempts] == ["failed", "succeeded"]
    assert house.charges() == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("result_expired", "result_gone"),
        ("result_oversized", "too_large"),
        ("result_endless", "too_large"),
        ("result_redirect", "host_refused"),
    ],
)
def test_a_result_that_cannot_be_had_holds_the_job_with_a_reason(
    build: Build, fault: str, code: str
) -> None:
    house = build([fault], **SOON, result_max_bytes=1_000_000)
    (job,) = house.settle(house.enqueue(), seconds=30)
    assert job.state is State.HELD
    assert job.error is not None
    assert job.error["code"] == code
    assert "signature" not in str(job.to_json())
    assert not list((house.folder / "files" / "results").rglob("*.png"))


def test_a_result_host_that_is_not_allowed_says_how_to_allow_it(build: Build) -> None:
    house = build(provider={"latency": (2.0, 2.0)})
    job_id = house.enqueue()
    house.until(job_id, State.WAITING)
    house.tools = replace(
        house.tools, settings=replace(house.settings, api_url="https://api.example.com")
    )
    (job,) = house.settle(job_id)
    assert job.error is not None
    assert job.error["code"] == "host_refused"
    assert "CUTWORK_RESULT_HOSTS" in str(job.error["message"])


def test_a_picture_of_another_size_is_never_taken_for_the_result(build: Build) -> None:
    house = build(["result_wrong_size"])
    job_id = house.enqueue()
    house.until(job_id, State.STORING)
    house.step()
    job = house.job(job_id)
    assert job.state is State.STORING
    assert job.error is not None
    assert "it has 1x1 px, and the provider spoke of 48x32" in str(job.error["message"])
    assert not list((house.folder / "files" / "results").rglob("*.png"))


@pytest.mark.parametrize("crop", [False, True])
def test_a_cropped_picture_has_the_size_of_its_rectangle(build: Build, crop: bool) -> None:
    house = build()
    (job,) = house.settle(house.enqueue(crop=crop))
    assert job.state is State.SUCCEEDED
    assert house.image(job).size == ((24, 16) if crop else (48, 32))


def test_a_full_disk_keeps_the_job_until_there_is_room(build: Build) -> None:
    house = build()
    job_id = house.enqueue()
    blocked = house.folder / "files" / "results"
    blocked.write_text("where the folder of results would be")
    failed = lambda: house.job(job_id).state is State.STORING and house.job(job_id).error  # noqa: E731
    house.run(lambda: bool(failed()), 30, "the download did not fail")
    blocked.unlink()
    (job,) = house.settle(job_id)
    assert job.state is State.SUCCEEDED
    assert house.charges() == 1


def test_an_input_that_vanished_holds_the_job_unpaid(build: Build) -> None:
    house = build()
    job_id = house.enqueue()
    for path in (house.folder / "files" / "inputs").iterdir():
        path.unlink()
    with house.engine.begin() as tx:
        tx.execute(schema.job.update().values(tries=9))
    (job,) = house.settle(job_id)
    assert job.state is State.HELD
    assert job.error is not None
    assert job.error["code"] == "input_unreadable"
    assert house.charges() == 0


def test_an_unreachable_image_url_fails_after_one_more_try(build: Build) -> None:
    house = build()
    job_id = house.enqueue(image_url="http://127.0.0.1:9/nothing.png")
    (job,) = house.settle(job_id, seconds=30)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == "provider_-3"
    assert house.charges() == 0


def test_without_a_public_url_the_same_runs_on_questions_alone(build: Build) -> None:
    house = build(public_url="", poll_after=0.1)
    (job,) = house.settle(house.enqueue())
    assert job.decided_by == "poll"
    (task,) = house.sandbox.ledger()["tasks"]
    assert not task["callback_url"]


def test_a_provider_that_is_down_costs_delay_only(build: Build) -> None:
    house = build()
    job_id = house.enqueue()
    tools = house.tools
    down = replace(house.settings, api_url="http://127.0.0.1:9")
    house.tools = type(tools).of(down)
    house.step()
    job = house.job(job_id)
    assert job.state is State.QUEUED
    assert [one.state for one in job.attempts] == ["void"]
    house.tools.engine.dispose()
    house.tools = tools
    assert house.settle(job_id)[0].state is State.SUCCEEDED
    assert house.charges() == 1


def test_a_wrong_address_stops_the_queue_and_burns_no_job(build: Build) -> None:
    class AnotherSite(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(404)

        def log_message(self, *_: Any) -> None: ...

    house = build()
    server = ThreadingHTTPServer(("127.0.0.1", 0), AnotherSite)
    threading.Thread(target=server.serve_forever).start()
    wrong = replace(house.settings, api_url=f"http://127.0.0.1:{server.server_port}")
    house.tools = replace(house.tools, provider=Provider(wrong))
    job_id = house.enqueue()
    house.step()
    server.shutdown()
    server.server_close()
    job = house.job(job_id)
    assert job.state is State.QUEUED
    assert job.error is not None
    assert "API_URL" in str(job.error["message"])


def test_callbacks_without_a_secret_are_refused_before_any_job_is_touched(build: Build) -> None:
    house = build()
    with pytest.raises(InvalidSetting, match="CUTWORK_CALLBACK_SECRETS"):
        Tools.of(replace(house.settings, callback_secrets=()))


def test_a_worker_without_the_key_leaves_the_job_to_others(build: Build) -> None:
    house = build(permit_ttl=0.5)
    job_id = house.enqueue()
    tools = house.tools
    house.tools = replace(tools, settings=replace(house.settings, api_tokens=("another",)))
    house.step()
    assert house.job(job_id).state is State.QUEUED
    house.tools = tools
    assert house.settle(job_id)[0].state is State.SUCCEEDED


def test_no_key_at_all_leaves_jobs_waiting(build: Build) -> None:
    house = build(api_tokens=())
    job_id = house.enqueue()
    house.step()
    assert house.job(job_id).state is State.QUEUED
    assert house.sandbox.ledger()["submits"] == 0


def test_crop_format_and_colour_reach_the_picture(build: Build) -> None:
    house = build()
    (job,) = house.settle(
        house.enqueue(crop=True, format="jpg", bg_color="00ff00", image_file=picture())
    )
    assert job.files["image"].format == "jpg"
    image = Image.open(BytesIO(Path(str(job.image).removeprefix("file://")).read_bytes()))
    assert image.size == (24, 16)


# --- the early callback --------------------------------------------------------------------------


def test_the_early_callback_completes_the_job(build: Build) -> None:
    """The provider calls back before it has answered the POST, and no question is ever asked."""
    house = build(["reply_after_callback"])
    job_id = house.enqueue()
    (job,) = house.settle(job_id)
    (task,) = house.sandbox.ledger()["tasks"]
    assert job.state is State.SUCCEEDED
    assert job.decided_by == "callback"
    assert job.attempts[0].checks == 0
    assert task["callbacks"][0]["status"] == 200


def test_without_the_token_the_early_callback_would_be_lost(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same race with jobs found by the provider's task_id: this is why the URL is ours."""

    def by_task_id(tx: Connection, _job: Any, _number: Any, report: Any, settings: Any) -> Heard:
        same = schema.attempt.c.task_id == (report.task_id if report else "")
        found = tx.execute(select(schema.attempt).where(same)).one_or_none()
        if found is None:
            return Heard.GONE
        return ledger.learn(tx, found.job_id, found.number, report, "callback", settings)

    monkeypatch.setattr(ledger, "hear", by_task_id)
    house = build(["reply_after_callback"])
    job_id = house.enqueue()
    house.run(lambda: house.job(job_id).state is State.WAITING, 15, "the reply was not recorded")
    (task,) = house.sandbox.ledger()["tasks"]
    assert task["state"] == 1
    assert house.job(job_id).state is State.WAITING
    assert {one["status"] for one in task["callbacks"]} == {410}


# --- a worker that dies between two lines ---------------------------------------------------------


@pytest.mark.parametrize("place", ["before the POST", "after the POST"])
def test_a_worker_that_dies_around_the_post_pays_at_most_once_under_hold(
    build: Build, place: str
) -> None:
    house = build(**SOON, submit_timeout=1.0)
    job_id = house.enqueue(on_uncertain="hold")
    house.reconciler.run_once()
    pid = os.fork()
    if pid == 0:  # the worker, which shares no connection with us
        try:
            tools = type(house.tools).of(house.settings)
            real = tools.provider.submit

            def dying(*args: Any, **kwargs: Any) -> Any:
                if place == "after the POST":
                    real(*args, **kwargs)
                os._exit(9)

            object.__setattr__(
                tools, "provider", type("Dying", (), {"submit": staticmethod(dying)})
            )
            submit(tools, *orders(tools, [job_id]))
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    with house.engine.begin() as tx:  # the lease runs out
        row = tx.execute(select(schema.job.c.state, schema.job.c.created_at)).one()
        if row.state == State.SUBMITTING:
            tx.execute(schema.job.update().values(due_at=row.created_at))
    (job,) = house.settle(job_id)
    if place == "after the POST":
        assert job.state is State.SUCCEEDED
        assert house.charges() == 1
    else:
        assert job.state is State.HELD
        assert house.charges() == 0
    assert len(job.attempts) == 1


def test_the_secrets_of_callback_addresses_rotate_without_losing_a_callback(build: Build) -> None:
    house = build(provider={"latency": (1.5, 1.5)})
    (old,) = house.settings.callback_secrets
    new = "fedcba9876543210fedc"
    for secrets in ((old, new), (new, old), (new,)):
        before = house.enqueue()
        house.run(lambda one=before: bool(house.job(one).attempts), 15, "nothing was sent")
        turned = replace(house.settings, callback_secrets=secrets)
        house.settings, house.tools = turned, replace(house.tools, settings=turned)
        house.listener.serve(turned)
        (job,) = house.settle(before, seconds=30)
        assert (job.state, job.decided_by) == (State.SUCCEEDED, "callback")
