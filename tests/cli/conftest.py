"""The command line: in this process for what is quick, as real processes for the rest."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cutwork.cli.commands import cutwork
from cutwork.cli.faults import run
from cutwork.settings import current
from tests.services.processes import clean_environment
from tests.world import SETTINGS, TOKEN, World

PHOTOGRAPHS = Path(__file__).parents[2] / "cutwork" / "cli" / "photographs"


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Command = Callable[..., Said]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new directory to be in, with an environment that sets nothing."""
    for name in list(os.environ):
        if name.startswith("CUTWORK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(
    home: Path,  # noqa: ARG001 - where the command is called
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Command]:
    """``command("list", "--json")`` in this process, in ``home``."""

    def call(*words: str | Path) -> Said:
        current.cache_clear()
        capfd.readouterr()
        status = run(cutwork, [str(word) for word in words])
        return Said(status, *capfd.readouterr())

    yield call
    current.cache_clear()


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The database of ``home``, with its tables and one key, to be driven by hand."""
    (home / ".cutwork").mkdir()
    monkeypatch.setenv("CUTWORK_API_TOKENS", TOKEN)
    made = World.at(f"sqlite:///{home / '.cutwork' / 'cutwork.db'}", SETTINGS)
    yield made
    made.engine.dispose()


def cutwork_process(*words: str | Path, cwd: Path, **options: Any) -> Said:
    """The real thing, to its end; ``env`` and ``input`` may be given."""
    environ = clean_environment(options.pop("env", {}))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cutwork", *map(str, words)],
        cwd=cwd, env=environ, capture_output=True, check=False, text=True, timeout=120, **options,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def spoken(home: Path) -> Command:
    """``spoken("list")`` as a process of its own, in ``home``."""

    def call(*words: str | Path, **options: Any) -> Said:
        return cutwork_process(*words, cwd=home, **options)

    return call
