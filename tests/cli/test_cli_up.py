"""`cutwork up` as a user has it: one terminal where it runs, another where pictures are cut."""

import io
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from PIL import Image

from cutwork.cli import house, lock
from cutwork.doctor import examine_outside, glance
from cutwork.errors import InvalidSetting
from cutwork.sandbox.server import Sandbox
from cutwork.settings import Settings
from tests.cli.conftest import PHOTOGRAPHS, Said, cutwork_process
from tests.services.ports import free_port
from tests.services.processes import Process, Processes, is_alive
from tests.services.waiting import run_until
from tests.webhook.proxies import says, serving

ROLES = {"sandbox", "webhook", "worker", "reconciler", "console"}
READY = "ready ("


class Running:
    """A `cutwork up` and a second terminal in its directory."""

    def __init__(self, directory: Path, processes: Processes, *words: str, **env: str) -> None:
        self.directory = directory
        self.process: Process = processes.start(
            "cutwork", "up", "--bind", "127.0.0.1:0", *words, cwd=directory, env=env
        )
        self.process.wait_for_log(READY, 60)

    def __call__(self, *words: str | Path) -> Said:
        return cutwork_process(*words, cwd=self.directory)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests that leave it running."""
    directory = tmp_path_factory.mktemp("up")
    processes = Processes(directory)
    yield Running(directory, processes)
    processes.close()


@pytest.fixture(scope="module")
def photographs() -> Iterator[str]:
    """The address of a web server that has the sample photographs."""
    handler = partial(_Quiet, directory=str(PHOTOGRAPHS))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


def picture(said: Said) -> Image.Image:
    assert said.status == 0, said.err
    (line,) = said.lines
    return Image.open(io.BytesIO(Path(line).read_bytes()))


def test_the_roles_are_named_with_where_they_are(up: Running) -> None:
    said = up.process.log

    assert f"sqlite:///{up.directory / '.cutwork' / 'cutwork.db'}" in said
    assert "the sandbox at http://127.0.0.1:" in said
    assert "roles      sandbox, webhook, worker, reconciler, console" in said


def test_a_person_becomes_a_transparent_png(up: Running) -> None:
    cut = picture(up("enqueue", PHOTOGRAPHS / "grace_hopper.jpg", "--type", "person", "--wait"))

    assert (cut.format, cut.mode, cut.size) == ("PNG", "RGBA", (512, 600))
    alpha = cut.getchannel("A")
    assert alpha.getpixel((5, 5)) == 0
    assert alpha.getpixel((256, 250)) == 255


def test_a_picture_on_the_web_is_fetched_by_the_provider(up: Running, photographs: str) -> None:
    cut = picture(up("enqueue", f"{photographs}/coffee.png", "--type", "object", "--wait"))

    assert (cut.mode, cut.size) == ("RGBA", (600, 400))


def test_a_mask_has_the_size_of_the_picture_and_no_colour(up: Running) -> None:
    cut = picture(up("enqueue", PHOTOGRAPHS / "coffee.png", "--output-type", "3", "--wait"))

    assert cut.size == (600, 400)
    assert cut.getextrema()[0] == (0, 255) if cut.mode != "L" else cut.getextrema() == (0, 255)


def test_a_crop_is_smaller_than_the_picture(up: Running) -> None:
    cut = picture(up("enqueue", PHOTOGRAPHS / "coffee.png", "--crop", "--wait"))

    assert cut.width < 600
    assert cut.height <= 400
    left, top, right, bottom = cut.getchannel("A").getbbox() or (0, 0, 0, 0)
    assert (left, top, right, bottom) == (0, 0, *cut.size)


def test_a_jpg_stands_on_the_colour_that_was_asked_for(up: Running) -> None:
    words = ("--format", "jpg", "--bg-color", "00ff00", "--wait")
    cut = picture(up("enqueue", PHOTOGRAPHS / "grace_hopper.jpg", "--type", "person", *words))

    assert (cut.format, cut.mode) == ("JPEG", "RGB")
    red, green, blue = cut.getpixel((5, 5))  # type: ignore[misc]
    assert green > 240
    assert red < 15
    assert blue < 15


def test_several_pictures_are_answered_in_their_order(up: Running) -> None:
    said = up(
        "enqueue", PHOTOGRAPHS / "grace_hopper.jpg", PHOTOGRAPHS / "coffee.png",
        "--output-type", "1", "--wait", "--json",
    )  # fmt: skip

    first, second = json.loads(said.out)
    assert [one["image_width"] for one in (first, second)] == [512, 600]
    assert all(set(one["files"]) == {"image", "mask"} for one in (first, second))
    assert all(one["decided_by"] == "callback" for one in (first, second))


def test_a_picture_that_the_provider_cannot_use_fails_with_status_1(
    up: Running, photographs: str
) -> None:
    said = up("enqueue", f"{photographs}/README.md", "--wait")

    assert said.status == 1
    assert said.out == ""
    assert "failed (" in said.err
    assert said.err.count("\n") == 1


def test_the_story_of_a_job_can_be_told(up: Running) -> None:
    (job_id,) = (one["id"] for one in json.loads(up("list", "--limit", "1", "--json").out))

    told = json.loads(up("explain", job_id, "--json").out)

    assert {"enqueued", "intent", "post"} <= {one["what"] for one in told["timeline"]}
    assert told["waits"] == "It waits for nothing."


def test_a_second_one_in_the_same_home_is_refused(up: Running) -> None:
    said = up("up")

    assert said.status == 2
    assert f"`cutwork up` runs already (process {up.process.pid})" in said.err
    assert said.err.count("\n") == 1


def test_the_made_up_secrets_are_nobody_elses_to_read(up: Running) -> None:
    for name in ("callback-secret", "sandbox-token"):
        path = up.directory / ".cutwork" / name
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().strip() not in up.process.log
        commands = (" ".join(child.cmdline()) for child in up.family())
        assert not any(path.read_text().strip() in words for words in commands)


def test_the_printed_link_lets_into_the_console(up: Running) -> None:
    (link,) = set(re.findall(r"http://127\.0\.0\.1:\d+/\?token=\S+", up.process.log))

    with requests.Session() as person:
        page = person.get(link, timeout=10)

    assert page.status_code == 200
    assert "token" not in page.url
    assert "<h1>Overview</h1>" in page.text
    path = up.directory / ".cutwork" / "console-token"
    assert path.stat().st_mode & 0o777 == 0o600
    commands = (" ".join(child.cmdline()) for child in up.family())
    assert not any(path.read_text().strip() in words for words in commands)


def test_a_role_that_dies_is_started_again(up: Running) -> None:
    (worker,) = (one for one in up.family() if one.cmdline()[-1] == "worker")
    worker.kill()

    up.process.wait_for_log("worker ended (signal 9), again in")
    cut = picture(up("enqueue", PHOTOGRAPHS / "coffee.png", "--wait"))

    assert cut.size == (600, 400)


def test_a_signal_ends_it_with_all_its_processes(tmp_path: Path, processes: Processes) -> None:
    running = Running(tmp_path, processes)
    family = running.family()
    running.process.signal(signal.SIGTERM)

    assert running.process.wait(30) == 0
    assert len(family) >= len(ROLES) + 2  # granian has a worker of its own
    assert not any(is_alive(one) for one in family)
    assert "reconciler stopped" in running.process.log  # asked, not killed


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path, processes: Processes) -> None:
    running = Running(tmp_path, processes)
    family = running.family()
    running.process.signal(signal.SIGINT)
    running.process.wait_for_log("Ctrl-C again to stop at once")
    running.process.signal(signal.SIGINT)

    assert running.process.wait(3) == 130
    assert not any(is_alive(one) for one in family)


def test_killed_outright_it_leaves_no_process_behind(tmp_path: Path, processes: Processes) -> None:
    running = Running(tmp_path, processes)
    family = running.family()
    running.process.signal(signal.SIGKILL)
    running.process.wait()

    run_until(lambda: not any(is_alive(one) for one in family), 15, "all have ended")


def test_it_warns_in_the_doctors_words(tmp_path: Path, processes: Processes) -> None:
    with Sandbox(tokens=["another-key"]) as sandbox, serving(says("404 Not Found")) as address:
        running = Running(
            tmp_path, processes, CUTWORK_API_TOKENS="sk-hush", CUTWORK_API_URL=sandbox.url,
            CUTWORK_PUBLIC_URL=address, CUTWORK_CONCURRENCY="3",
        )  # fmt: skip
        log = running.process.wait_for_log("route /callbacks/ of that address")
        settings = Settings(
            home=tmp_path / ".cutwork", api_tokens=("sk-hush",), api_url=sandbox.url,
            public_url=address, callback_secrets=("0123456789abcdef",), concurrency=3,
        )  # fmt: skip
        wrong = [*glance(settings), *examine_outside(settings)]
        running.process.stop()

    assert [one.code for one in wrong] == ["lanes_wide", "key_refused", "url_other"]
    for one in wrong:
        assert f"{one.about}: {one.sentence}" in log
        assert f"→ {one.remedy}" in log
    before, _, after = log.partition(READY)
    assert wrong[0].sentence in before
    assert wrong[1].sentence in after
    assert "hush" not in log


def test_with_a_token_and_no_public_url_there_is_no_webhook(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, api_tokens=("sk-test",))

    chosen = house.plan(settings, {"CUTWORK_API_TOKENS": "sk-test"})

    assert [role.name for role in chosen.roles] == ["worker", "reconciler"]
    assert "none, the provider is asked instead" in dict(chosen.plan)["callbacks"]
    assert "CUTWORK_CALLBACK_SECRETS_FILE" not in chosen.environ


def test_a_configured_webhook_keeps_its_secret_and_its_url(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, api_tokens=("sk-test",), public_url="https://hooks.example",
        callback_secrets=("0123456789abcdef",),
    )  # fmt: skip
    bind = f"127.0.0.1:{free_port()}"

    chosen = house.plan(settings, {"CUTWORK_CALLBACK_SECRETS": "0123456789abcdef"}, bind=bind)

    assert chosen.roles[0].arguments == ("webhook", "--bind", bind)
    assert chosen.environ["CUTWORK_PUBLIC_URL"] == "https://hooks.example"
    assert chosen.environ["CUTWORK_CALLBACK_SECRETS"] == "0123456789abcdef"
    assert not (tmp_path / "callback-secret").exists()


def test_a_configured_consoles_token_is_kept_and_not_told(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    settings = Settings(home=tmp_path, console_token=token)
    environ = {"CUTWORK_CONSOLE_TOKEN": token}

    chosen = house.plan(settings, environ, bind="127.0.0.1:0", console=True)

    assert chosen.roles[-1].name == "console"
    assert chosen.environ["CUTWORK_CONSOLE_TOKEN"] == token
    assert token not in str(chosen.plan)
    assert not (tmp_path / "console-token").exists()


def test_yesterdays_secrets_are_used_again(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    first = house.plan(settings, {}, bind="127.0.0.1:0")
    secret = (tmp_path / "callback-secret").read_text()

    again = house.plan(settings, {}, bind="127.0.0.1:0")

    assert (tmp_path / "callback-secret").read_text() == secret
    file = "CUTWORK_CALLBACK_SECRETS_FILE"
    assert again.environ[file] == first.environ[file] == str(tmp_path / "callback-secret")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"api_url": "https://api.example"}, "CUTWORK_API_TOKENS must be set when"),
        ({"broker_url": "memory://"}, "CUTWORK_BROKER_URL must be shared"),
        ({"storage_url": "memory://"}, "CUTWORK_STORAGE_URL must be shared"),
    ],
)
def test_settings_that_cannot_work_together_are_refused(
    tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InvalidSetting, match=fault):
        house.plan(Settings(home=tmp_path, **changes), {})


def test_an_address_that_is_taken_is_refused(tmp_path: Path, photographs: str) -> None:
    bind = photographs.removeprefix("http://")

    with pytest.raises(InvalidSetting, match="cannot be listened on"):
        house.plan(Settings(home=tmp_path), {}, bind=bind)


def test_a_taken_port_is_passed_over(photographs: str) -> None:
    port = int(photographs.rpartition(":")[2])

    assert house.free_port("127.0.0.1", port) > port


def test_the_lock_says_whether_somebody_holds_it(tmp_path: Path) -> None:
    assert not lock.is_running(tmp_path)
    with lock.alone(tmp_path):
        assert lock.is_running(tmp_path)
        assert (tmp_path / "up.lock").read_text() == f"{os.getpid()}\n"
    assert not lock.is_running(tmp_path)
