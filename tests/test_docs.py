"""The docs say what is true: snippets run, commands and settings exist, links lead somewhere."""

import json
import os
import re
import runpy
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import requests
from PIL import Image
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import cutwork
from cutwork import database
from cutwork.cli.commands import cutwork as command_line
from cutwork.migrations.upgrade import upgrade
from cutwork.sandbox.engine import load_engine
from cutwork.sandbox.plan import Plan
from cutwork.sandbox.server import Sandbox
from cutwork.settings import PREFIX, Settings, current
from cutwork.states import TRANSITIONS, Event, State
from tests.services.processes import Processes

ROOT = Path(__file__).parent.parent
PHOTOGRAPH = ROOT / "cutwork" / "cli" / "photographs" / "grace_hopper.jpg"
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *ROOT.glob("docker/*.md"),
        *ROOT.glob("examples/**/*.md"),
    ]
)
DECISIONS = sorted(DOCS.glob("decisions/0*.md"))
# Whom the docs may send a reader to; the others are examples and this machine.
HOSTS = {"api.gpt.ge", "keepachangelog.com", "semver.org", "www.standardwebhooks.com", "127.0.0.1"}
REGISTRIES = ("pypi", "pythonhosted", "npmjs", "ghcr.io", "docker.io", "quay.io", "crates.io")
GENERATE = runpy.run_path(str(DOCS / "generate.py"))

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The words after each ``cutwork`` of code spans and indented lines."""
    spans = re.findall(r"`+([^`\n]+)`+", text(page))
    lines = [line.strip() for line in text(page).splitlines() if line.startswith("    ")]
    calls = (re.match(r"(?:[A-Z_]+=\S+ )*cutwork( .+)$", code) for code in spans + lines)
    return [shlex.split(call[1], comments=True) for call in calls if call]


def unknown(words: list[str]) -> str:
    """The first word that the command line would not understand, or ""."""
    command: click.Command = command_line
    context = click.Context(command)
    rest = list(words)
    while isinstance(command, click.Group):
        if not rest or rest[0].startswith("-"):
            break
        found = command.get_command(context, rest[0])
        if found is None:
            return rest[0]
        command = found
        rest.pop(0)
    known = {name for parameter in command.params for name in parameter.opts}
    known |= {"--help", "-h"}
    options = (word.partition("=")[0] for word in rest if word.startswith("-"))
    return next((option for option in options if option not in known), "")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A directory to be in, and an environment without settings."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    current.cache_clear()
    yield tmp_path
    current.cache_clear()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "shop_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    article: Mapped[str]


@pytest.mark.usefixtures("plain")
def test_the_snippet_about_retention_runs(
    empty_database: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = database.engine(empty_database("sqlite"))
    upgrade(engine)
    with Session(engine) as session, session.begin():
        job = cutwork.enqueue(session, image_url="https://shop.example/a.jpg", owner="anna")
        cutwork.cancel(session, job.id)

    (snippet,) = blocks(DOCS / "retention.md", "python")
    exec(snippet, {"engine": engine})  # noqa: S102 - that is the test
    engine.dispose()

    assert capsys.readouterr().out == "1 0\n"


@pytest.mark.usefixtures("plain")
def test_the_readmes_snippets_run(
    empty_database: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = empty_database("sqlite")
    roles = database.engine(url)
    upgrade(roles)
    roles.dispose()
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    names: dict[str, Any] = {"engine": engine, "Order": Order}

    for snippet in blocks(ROOT / "README.md", "python"):
        exec(snippet, names)  # noqa: S102 - that is the test

    assert capsys.readouterr().out == "queued None None\n"
    with Session(engine) as session:
        job = cutwork.get(session, names["job"].id)
        order = session.get_one(Order, 1)
    assert job.state is State.QUEUED
    assert job.idempotency_key == f"order-{order.id}"
    assert job.request["type"] == "object"
    engine.dispose()


def test_the_example_is_an_order_with_its_cut_out(tmp_path: Path, processes: Processes) -> None:
    up = processes.start("cutwork", "up", "--bind", "127.0.0.1:0", cwd=tmp_path)
    up.wait_for_log("ready (", 60)

    script = str(ROOT / "examples" / "order.py")
    example = processes.start(sys.executable, script, str(PHOTOGRAPH), name="order", cwd=tmp_path)

    assert example.wait(60) == 0, example.log
    state, uri = example.log.split()
    assert state == "succeeded"
    with Image.open(urlsplit(uri).path) as cut_out:
        assert cut_out.mode == "RGBA"


def test_the_snippets_of_the_backends_are_lines_of_the_examples_which_tests_run() -> None:
    examples = [text(path) for path in (ROOT / "examples").rglob("*.py")]
    snippets = blocks(DOCS / "backends.md", "python")

    assert len(snippets) > 5
    for snippet in snippets:
        indented = [textwrap.indent(snippet, " " * depth) for depth in range(0, 13, 4)]
        assert any(one in example for one in indented for example in examples), snippet


def test_the_sandboxs_snippet_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks(DOCS / "sandbox.md", "python")[0], {})  # noqa: S102 - that is the test

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ 0\n", capsys.readouterr().out)


def test_the_documented_plan_is_one() -> None:
    (plan,) = blocks(DOCS / "sandbox.md", "json")

    read = Plan.read(json.loads(plan))

    assert read.seed == 7
    assert "task_failed" in read.draw(1)


def test_the_documented_engine_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = [block for block in blocks(DOCS / "sandbox.md", "python") if "def cut" in block]
    (tmp_path / "brightness.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    with Sandbox(engine=load_engine("brightness:Brightness")) as sandbox:
        told = requests.post(
            f"{sandbox.url}/task/pic/segmentation",
            headers={"Authorization": "Bearer any"},
            data={"sync": "1"},
            files={"image_file": ("photo.jpg", PHOTOGRAPH.read_bytes())},
            timeout=30,
        ).json()["data"]

    assert (told["state"], told["result_type"]) == (1, "object")
    assert told["foreground_rect"]["height"] > 0


def places(page: Path) -> set[str]:
    """What ``#…`` may follow the page's address, as the repository's pages have it."""
    heads = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", head.lower()).strip() for head in heads)
    return {re.sub(r"\s", "-", head) for head in plain}


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", text(page))
    here = [link for link in links if not urlsplit(link).scheme]
    missing = [link for link in here if not (page.parent / link.partition("#")[0]).exists()]
    into = [link.split("#") for link in here if "#" in link]
    lost = [
        f"{path}#{place}"
        for path, place in into
        if place not in places(page.parent / path if path else page)
    ]

    assert not missing
    assert not lost


@each_page
def test_every_command_exists_with_its_options(page: Path) -> None:
    wrong = {" ".join(words): unknown(words) for words in commands(page) if unknown(words)}

    assert not wrong


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    assert unknown(["enqueu", "photo.jpg"]) == "enqueu"
    assert unknown(["db", "upgrad"]) == "upgrad"
    assert unknown(["enqueue", "photo.jpg", "--wai"]) == "--wai"
    assert ["enqueue", "photo.jpg", "--crop", "--wait"] in commands(ROOT / "README.md")


@each_page
def test_every_setting_exists(page: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.__dataclass_fields__}
    known |= {f"{name}_FILE" for name in known}
    named = {name.rstrip("_") for name in re.findall(rf"{PREFIX}[A-Z_]+", text(page))}
    ours = {name for name in named if not name.startswith((f"{PREFIX}BENCH", f"{PREFIX}TEST"))} - {
        "CUTWORK_X"
    }

    assert ours <= known | {"CUTWORK_X_FILE"}


@each_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:cutwork|docs|tests|worker|webhook|migrations)/[\w./]*)`", text(page))

    assert not [name for name in named if not (ROOT / name).exists()]


@each_page
def test_no_registry_is_named_and_no_stranger_linked(page: Path) -> None:
    hosts = {urlsplit(url).hostname or "" for url in re.findall(r"https?://[\w.:-]+", text(page))}

    assert not [name for name in REGISTRIES if name in text(page).lower()]
    assert not {host for host in hosts if not host.endswith(".example")} - HOSTS


def test_the_settings_are_those_of_the_table() -> None:
    assert text(DOCS / "settings.md") == GENERATE["page_of_settings"]()


@pytest.mark.parametrize("name", GENERATE["FILES"])
def test_what_is_wholly_generated_is_up_to_date(name: str) -> None:
    assert text(DOCS / name) == GENERATE["FILES"][name](), "run docs/generate.py"


@pytest.mark.parametrize("name", GENERATE["PAGES"])
def test_the_generated_parts_are_up_to_date(name: str) -> None:
    page = text(DOCS / name)

    assert "<!-- generated: " in page
    assert page == GENERATE["filled"](page), "run docs/generate.py"


def test_the_chart_is_drawn_from_the_latest_round() -> None:
    assert text(DOCS / "images" / "performance.svg") == GENERATE["chart"](), "run docs/generate.py"


@pytest.mark.parametrize("name", ["architecture.md", "states.md"])
def test_the_table_has_every_arrow_and_no_other(name: str) -> None:
    (head, rows) = re.findall(
        r"^\| event \|(.+)\|\n\|[-|]+\n((?:\|.+\n)+)", text(DOCS / name), re.MULTILINE
    )[0]
    sources = [State(cell.strip(" `")) for cell in head.split("|")]
    told = {}
    for row in rows.splitlines():
        event, *targets = (cell.strip(" `") for cell in row.strip("|").split("|"))
        cells = zip(sources, targets, strict=True)
        told |= {(one, Event(event)): State(target) for one, target in cells if target}

    assert told == TRANSITIONS


def test_every_arrow_that_is_drawn_is_one_of_the_table() -> None:
    made = runpy.run_path(str(DOCS / "generating" / "drawing.py"))
    picture = text(DOCS / "images" / "states.svg")

    assert all((one.source, one.event) in TRANSITIONS for one in made["ARROWS"])
    assert all(f">{state}</text>" in picture for state in State)


def test_every_error_code_has_its_remedy() -> None:
    made = runpy.run_path(str(DOCS / "generating" / "states.py"))
    known, told = made["states_of_provider"]()

    assert made["codes_in_use"]() == set(made["REMEDIES"])
    assert known == told


def test_the_python_page_has_every_name_of_the_package() -> None:
    page = text(DOCS / "api.md")

    for name in cutwork.__all__:
        assert re.search(rf"^### {name}$|^\*\*`{name}`\*\*", page, re.MULTILINE), name


def test_the_command_line_page_has_every_command_and_option() -> None:
    page = text(DOCS / "cli.md")
    context = click.Context(command_line)

    for name in command_line.list_commands(context):
        command = command_line.get_command(context, name)
        assert command is not None
        assert f"### cutwork {name}\n" in page
        for parameter in command.params:
            shown = isinstance(parameter, click.Option) and not parameter.hidden
            assert not shown or all(
                f"`{opt}" in page or f" {opt}" in page for opt in parameter.opts
            )


def test_every_state_is_explained() -> None:
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\|", text(DOCS / "architecture.md"), re.MULTILINE)

    assert {word.strip("`") for row in rows for word in row.split()} >= set(State)


def test_every_trouble_names_a_test_that_shows_it() -> None:
    rows = [line for line in text(DOCS / "recovery.md").splitlines() if line.startswith("| ")][1:]
    named = {row: re.findall(r"`(test_\w+)`", row) for row in rows}
    sources = "".join(page.read_text() for page in (ROOT / "tests").rglob("test_*.py"))

    assert rows
    assert all(named.values())
    assert all(f"def {name}(" in sources for names in named.values() for name in names)


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text(ROOT / "Makefile"), re.MULTILINE))
    named = re.findall(r"^    make ([a-z]+)|`make ([a-z]+)", text(ROOT / "README.md"), re.MULTILINE)

    assert {"demo", "test"} <= {one or other for one, other in named} <= targets


def test_the_readme_is_short_and_its_picture_light() -> None:
    assert len(text(ROOT / "README.md").splitlines()) <= 150
    assert (DOCS / "images" / "contact-sheet.png").stat().st_size < 400_000


def test_the_decisions_are_numbered_listed_and_short() -> None:
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", text(DOCS / "decisions" / "README.md"), re.M)
    found = [
        (str(int(page.name[:4])), re.match(r"# \d+\. (.+)", text(page)), page) for page in DECISIONS
    ]

    assert [(number, title, name) for number, title, name in listed] == [
        (number, title[1] if title else "", page.name) for number, title, page in found
    ]
    for page in DECISIONS:
        assert len(text(page).splitlines()) <= 40
        parts = re.findall(r"^## (.+)$", text(page), re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequence"]
        assert "\nStatus: " in text(page)
