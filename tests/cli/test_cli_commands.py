"""What all commands share: help, the table of commands, sentences instead of tracebacks."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest

from cutwork.cli.commands import SECTIONS, cutwork
from cutwork.cli.doctor import doctor
from cutwork.cli.purge import Span
from cutwork.cli.roles import role
from cutwork.sandbox.server import Sandbox
from tests.services.ports import free_port
from tests.services.processes import clean_environment
from tests.world import TOKEN, World

Command = Callable[..., Any]
NAMES = [name for section in SECTIONS.values() for name in section]
NOWHERE = "postgresql://nobody:hush@127.0.0.1:1/none"


def test_help_names_every_command_and_imports_none() -> None:
    source = (
        "import sys\nfrom cutwork.cli.commands import cutwork\nfrom cutwork.cli.faults import run\n"
        "run(cutwork, ['--help'])\n"
        "heavy = {'celery', 'kombu', 'rich', 'PIL', 'obstore', 'cv2', 'alembic', 'requests'}\n"
        "heavy |= {'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, check=True, text=True
    ).stdout

    assert set(re.findall(r"^  ([a-z]+)  ", said, re.MULTILINE)) == set(NAMES)
    assert said.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_the_table_says_what_the_command_says_of_itself(name: str) -> None:
    found = cutwork.get_command(click.Context(cutwork), name)

    assert found is not None
    assert found.name == name
    assert found.help


def test_the_version_is_the_packages(command: Command) -> None:
    assert command("--version").out == f"cutwork {version('cutwork')}\n"


def test_a_misspelt_command_is_recognized(command: Command) -> None:
    said = command("enqeue")

    assert said.status == 2
    assert said.err == (
        "cutwork: there is no command 'enqeue' (did you mean 'enqueue'?): see `cutwork --help`\n"
    )


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["enqueue"], "missing argument"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "--state", "gone"], "'gone' is not one of"),
        (
            ["purge", "--older-than", "soon"],
            "'soon' must be a span of time such as 30d, 12h, 90min or 45s",
        ),
        (["up", "--bind", "8000"], "--bind must be HOST:PORT"),
        (["webhook", "--workers", "0"], "--workers"),
        (["sandbox", "--bind", "127.0.0.1:0", "--latency", "soon"], "--latency must be seconds"),
        (["sandbox", "--bind", "127.0.0.1:0", "--faults", "nix.json"], "--faults cannot be read"),
        (["worker", "--lanes", "submit,chekc"], "--lanes must name submit, check, store"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
def test_a_bad_option_is_named_in_one_line(command: Command, words: list[str], fault: str) -> None:
    said = command(*words)

    assert said.status == 2
    assert fault in said.err
    assert said.err.startswith("cutwork: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("words", [["list"], ["stats"], ["enqueue", "http://example.com/a.png"]])
def test_without_tables_it_says_how_to_make_them(
    command: Command, home: Path, words: list[str]
) -> None:
    said = command(*words)

    assert said.status == 1
    assert "`cutwork db upgrade`, or `cutwork up`" in said.err
    assert said.err.count("\n") == 1
    assert list(home.iterdir()) == []


def test_a_database_that_is_down_is_one_sentence_without_the_password(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTWORK_DATABASE_URL", NOWHERE)

    said = command("list")

    assert said.status == 1
    assert "the database postgresql://nobody:***@127.0.0.1:1/none cannot be used" in said.err
    assert "hush" not in said.err
    assert said.err.count("\n") == 1


def test_at_debug_level_the_traceback_is_shown_too(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTWORK_DATABASE_URL", NOWHERE)
    monkeypatch.setenv("CUTWORK_LOG_LEVEL", "DEBUG")

    assert "Traceback" in command("list").err


def test_a_home_that_cannot_be_made_is_one_sentence(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("in the way")
    monkeypatch.setenv("CUTWORK_HOME", str(home / "file"))

    said = command("db", "upgrade")

    assert said.status == 1
    assert said.err.count("\n") == 1


def test_a_misspelt_setting_is_recognized(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTWORK_API_TOKEN", "hush")

    said = command("list")

    assert said.status == 2
    assert "did you mean CUTWORK_API_TOKENS?" in said.err
    assert "hush" not in said.err


def test_an_interrupt_is_quiet(spoken: Command, home: Path) -> None:
    spoken("db", "upgrade")
    program = subprocess.Popen(
        [sys.executable, "-P", "-m", "cutwork", "watch"],
        cwd=home, env=clean_environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them, and so this, ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    with program:
        assert program.stdout is not None
        assert "no jobs" in program.stdout.readline()
        program.send_signal(2)
        out, err = program.communicate(timeout=10)

    assert (program.returncode, out + err.strip()) == (130, "")


def test_a_process_that_ends_does_not_look_through_all_that_it_loaded() -> None:
    source = (
        "import atexit, gc\nfrom cutwork.cli import main\n"
        "atexit.register(lambda: print(len(gc.get_objects()) < gc.get_freeze_count()))\nmain()"
    )
    words = [sys.executable, "-c", source, "--version"]
    said = subprocess.run(words, capture_output=True, check=True, text=True).stdout

    assert said.splitlines()[-1] == "True"


def test_a_reader_that_went_away_is_no_reason_for_noise(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    said = subprocess.run(
        [sys.executable, "-P", "-m", "cutwork", "settings"],
        cwd=home, env=clean_environment({}), stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip

    os.close(writing)
    assert said.stderr == b""
    assert said.returncode == 1


def test_the_tables_are_made_once_and_then_checked(command: Command) -> None:
    assert "at revision 0001 now (before: no tables)" in command("db", "upgrade").out
    assert "already" in command("db", "upgrade").out
    assert command("db", "check").status == 0


def test_a_table_that_differs_is_status_1(command: Command, world: World) -> None:
    with world.engine.begin() as tx:
        tx.exec_driver_sql("ALTER TABLE cutwork_gate ADD COLUMN surplus INTEGER")

    said = command("db", "check")

    assert said.status == 1
    assert "surplus" in said.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(command: Command, shell: str) -> None:
    assert "_CUTWORK_COMPLETE" in command("completion", shell).out


def test_the_shell_is_told_what_fits(spoken: Command) -> None:
    words = {"_CUTWORK_COMPLETE": "bash_complete", "COMP_WORDS": "cutwork en", "COMP_CWORD": "1"}

    assert spoken(env=words).out == "plain,enqueue\n"


def test_settings_hide_secrets_and_show_what_differs(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTWORK_API_TOKENS", "sk-hush")
    monkeypatch.setenv("CUTWORK_RATE", "5")

    said = command("settings")

    assert "hush" not in said.out
    (line,) = [line for line in said.lines if line.startswith("CUTWORK_RATE ")]
    assert line.split() == ["CUTWORK_RATE", "5", "2", "1/s"]


def test_the_page_of_settings_does_not_depend_on_this_machine(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = command("settings", "--markdown").out
    monkeypatch.setenv("CUTWORK_RATE", "5")

    assert command("settings", "--markdown").out == plain
    assert "| `CUTWORK_RATE` | `2` | 1/s | Requests per second" in plain


def test_doctor_on_a_new_machine_says_what_is_missing_and_makes_nothing(
    command: Command, home: Path
) -> None:
    said = command("doctor")

    assert said.status == 1
    assert "has no cutwork tables" in said.out
    assert "CUTWORK_RATE" in said.out
    assert list(home.iterdir()) == []


@pytest.mark.usefixtures("world")
def test_doctor_finds_a_sound_installation_sound(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(tokens=[TOKEN]) as sandbox:
        monkeypatch.setenv("CUTWORK_API_URL", sandbox.url)
        said = command("doctor")

    assert (said.status, said.lines[-1]) == (0, "0 faults")
    assert "key: the provider takes key " in said.out


@pytest.mark.usefixtures("world")
def test_doctor_asks_nobody_outside_when_told_so(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("CUTWORK_API_URL", away)

    asked, local = command("doctor", "--json"), command("doctor", "--local", "--json")

    assert (asked.status, local.status) == (1, 0)
    (fault,) = (one for one in json.loads(asked.out)["findings"] if one["level"] == "fault")
    assert (fault["code"], fault["about"]) == ("api_away", "key")
    assert fault["sentence"].startswith("the provider cannot be reached (")
    assert fault["remedy"].startswith("see that CUTWORK_API_URL is right")


def test_a_span_of_time_is_read_in_seconds() -> None:
    spans = {"45": 45, "45s": 45, "90min": 5400, "12h": 43200, "1.5 d": 129600, "2w": 1209600}

    assert {text: Span().convert(text, None, None) for text in spans} == spans


def test_a_role_whose_extra_is_missing_says_what_to_install(home: Path) -> None:
    (home / "granian.py").write_text("raise ModuleNotFoundError(name='granian')")
    environ = {"PYTHONPATH": str(home), "CUTWORK_CALLBACK_SECRETS": "0123456789abcdef"}

    said = subprocess.run(
        [sys.executable, "-m", "cutwork", "webhook", "--bind", "127.0.0.1:0"],
        cwd=home, env=clean_environment(environ), capture_output=True, check=False, text=True,
    )  # fmt: skip

    assert said.returncode == 2
    assert "pip install 'cutwork[webhook]'" in said.stderr


def test_every_role_that_the_table_names_is_there() -> None:
    for name in ("worker", "reconciler", "webhook", "sandbox", "db upgrade", "db check"):
        assert callable(role(name))
    assert doctor.name == "doctor"
