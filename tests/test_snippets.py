"""Every snippet of the README and the docs runs, in its order, beside a real ``cutwork up``."""

import os
import re
import shlex
import threading
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from standardwebhooks import Webhook

from cutwork.settings import PREFIX, current
from tests.household import House
from tests.reader import SHOWN, Reader, is_up, plain
from tests.services.processes import Processes, clean_environment
from tests.services.waiting import run_until
from tests.snippets import ROOT, snippets

PHOTOGRAPH = ROOT / "cutwork" / "cli" / "photographs" / "grace_hopper.jpg"
# Pages whose snippets need more than this house, and the tests that run them.
ELSEWHERE = {
    "backends.md": "tests/test_docs.py",
}
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if page.name not in ELSEWHERE
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
# Nobody waits ten seconds for a question that is asked in the same way after two.
SHORTER = {"CUTWORK_CHECK_AFTER": "2"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Started as the tutorial says, in a folder with a photograph that has an address as well."""
    folder = tmp_path_factory.mktemp("house")
    for name in ("photo.jpg", "shoe.jpg"):
        (folder / name).write_bytes(PHOTOGRAPH.read_bytes())
    (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n", encoding="utf-8")
    started = Processes(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        tutorial = snippets(ROOT / "docs" / "tutorial.md")
        (asked,) = [one.source for one in tutorial if one.language == "shell" and is_up(one.source)]
        given = dict(word.split("=") for word in shlex.split(asked) if "=" in word)
        environ = SHORTER | given
        up = started.start("cutwork", "up", "--bind", "127.0.0.1:0", env=environ, cwd=folder)
        said = up.wait_for_log("ready (", 60)
        sandbox, webhook = (
            re.findall(rf"{what} +.*?(http://127\.0\.0\.1:\d+)", said)[0]
            for what in ("provider", "callbacks")
        )
        photograph = f"http://127.0.0.1:{server.server_port}/shoe.jpg"
        mine = clean_environment({"CURL_HOME": str(folder), **given})
        found = House(folder, sandbox, webhook, photograph, said, mine)
        run_until(found.keys, 10, "the reconciler makes a gate")
        yield found
    finally:
        started.close()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch, house: House) -> Iterator[None]:
    """To be in the house, with an environment that sets nothing."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in house.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(house.folder)
    current.cache_clear()
    yield
    current.cache_clear()


def of_a_subscriber() -> dict[str, Any]:
    """An app's Celery, and a request to its webhook that was signed with its secret."""
    secret, body = f"whsec_{b64encode(b'0' * 32).decode()}", b"{}"
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("1", now, body.decode()),
    }
    request = SimpleNamespace(body=body, headers=headers)
    return {"app": Celery("shop"), "secret": secret, "request": request}


def runs(page: Path) -> bool:
    return any(one.language in ("shell", "python") and not one.excuse for one in snippets(page))


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize("page", [one for one in PAGES if runs(one)], ids=lambda one: one.name)
def test_a_reader_can_do_what_the_page_says(page: Path, house: House) -> None:
    house.reset()
    reader = Reader(house, page)
    try:
        if page.name == "notify.md":
            reader.takes_for_granted(**of_a_subscriber())
        for snippet in snippets(page):
            if not snippet.excuse:
                reader.read(snippet)
    finally:
        reader.close()


@each_page
def test_what_is_not_run_says_why(page: Path) -> None:
    for snippet in snippets(page):
        known = snippet.language in SHOWN | {"shell", "python"}
        assert known or snippet.excuse, f"{snippet}: {snippet.language} is neither run nor excused"
        assert not snippet.excuse or len(snippet.excuse) > 10, f"{snippet}: {snippet.excuse}"


def test_what_is_typed_is_run_or_says_why_not() -> None:
    """An indented block is typed; what is only shown stands in a fence that says what it is."""
    folders = [ROOT / name for name in ("docs", "docker", "examples")]
    pages = {ROOT / "CONTRIBUTING.md", *(page for one in folders for page in one.rglob("*.md"))}
    run = {*PAGES, *(ROOT / "docs" / name for name in ELSEWHERE)}

    unsaid = [
        f"{snippet.page.relative_to(ROOT)}:{snippet.line}"
        for page in sorted(pages | run)
        for snippet in snippets(page)
        if not snippet.excuse
        and (snippet.indented or snippet.language in ("python", "shell"))
        and (snippet.language == "text" or page not in run)
    ]

    assert unsaid == []


def test_snippets_that_need_more_are_run_elsewhere() -> None:
    for page, tests in ELSEWHERE.items():
        assert (ROOT / "docs" / page).exists()
        assert (ROOT / tests).exists()


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize("command", ["cutwork show ffffffff", 'cutwork show "ffffffff"'])
def test_a_command_that_fails_fails_its_page(tmp_path: Path, house: House, command: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```sh\n{command}\n```\n", encoding="utf-8")
    reader = Reader(house, page)

    with pytest.raises(AssertionError, match="there is no job ffffffff"):
        reader.read(snippets(page)[0])

    reader.close()


def test_what_a_page_shows_and_did_not_come_fails_it(tmp_path: Path, house: House) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint('one')\n```\n\n```text\ntwo\n```\n", encoding="utf-8")
    reader = Reader(house, page)
    first, second = snippets(page)
    reader.read(first)

    with pytest.raises(AssertionError, match=re.escape("shows {'two'}")):
        reader.read(second)

    reader.close()


def test_only_times_ids_and_places_may_differ() -> None:
    shown = (
        "  2026-11-27 13:00:00  +1.20 s  post  01a20943-7f78-7375-a654-b23f096cd693 in /a/.cutwork"
    )
    came = (
        " 2026-11-28 09:01:02 +0.7 s post 01a30943-7f78-7375-a654-b23f096cd693 in /tmp/x/.cutwork"
    )

    assert plain(shown) == plain(came)
    assert plain("job 1f2e3d4c is held") != plain("job 1f2e3d4c is failed")
