"""The commands of the README, and the files behind them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FIND_PYTHON = ROOT / ".ci" / "find-python"
# Where packages are fetched from is the user's choice, not the project's.
INDEX = re.compile(r"--(extra-)?index[-]url|--find[-]links|pypi\.org|pythonhosted\.org")


def pins() -> dict[str, Requirement]:
    """Name → requirement of every line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def shipped_files() -> Iterator[Path]:
    """Every file but those that .gitignore names; there may be no git here to ask."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    patterns = [".git", *(line.rstrip("/") for line in ignored)]
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not _matches(name, patterns)]
        yield from (Path(folder, name) for name in files if not _matches(name, patterns))


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def make(*words: str) -> str:
    """What make prints, with none of the variables of the make that runs the tests."""
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        ["make", *words], cwd=ROOT, env=environment, capture_output=True, check=True, text=True
    ).stdout


def fake_python(directory: Path, says: str, status: int) -> Path:
    program = directory / "python3"
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {status}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def test_make_help_lists_every_target() -> None:
    said = make()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.findall(r"^\.PHONY: ([a-z -]+)$", makefile, re.MULTILINE)[0].split()

    listed = re.findall(r"^make ([a-z-]+) +\S", said, re.MULTILINE)

    assert sorted(listed) == sorted(phony)
    assert {"help", "demo", "test", "check", "format", "clean"} <= set(listed)


def test_ci_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").endswith("export CI=true\n\nexec make check test\n")
    planned = make("--dry-run", "check", "test")
    for command in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest", "--cov"):
        assert command in planned


def test_every_pin_is_exact_and_appears_once() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]

    assert len(pins()) == len(pinned)
    for requirement in pins().values():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement


def test_everything_that_is_installed_is_pinned_to_that_version() -> None:
    known = pins()

    strays = [
        f"{name}=={found.version}"
        for found in distributions()
        if (name := canonicalize_name(found.metadata["Name"])) != "cutwork"
        and (name not in known or not known[name].specifier.contains(found.version))
    ]

    assert strays == []


def test_no_file_names_a_package_index() -> None:
    named = []
    for path in shipped_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        named += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in INDEX.finditer(text)]

    assert named == []


def test_the_first_python_that_can_make_an_environment_is_taken(tmp_path: Path) -> None:
    working = Path(os.path.realpath(sys.executable))

    found = subprocess.run(
        [FIND_PYTHON, tmp_path / "absent", fake_python(tmp_path, "", 1), working],
        capture_output=True, check=True, text=True,
    )  # fmt: skip

    assert found.stdout == f"{working}\n"


@pytest.mark.parametrize(
    ("says", "status", "shown"),
    [
        ("is Python 3.9", 1, "python3 is Python 3.9:"),
        ("comes without venv or ensurepip", 1, "python3 comes without venv or ensurepip:"),
        ("pyenv: python3: command not found", 127, "python3 cannot be run:"),
    ],
)
def test_without_a_usable_python_one_sentence_says_what_to_do(
    tmp_path: Path, says: str, status: int, shown: str
) -> None:
    unusable = fake_python(tmp_path, says, status)

    refused = subprocess.run([FIND_PYTHON, unusable], capture_output=True, check=False, text=True)

    assert refused.returncode == 1
    assert shown in refused.stderr
    assert "install one" in refused.stderr
    assert refused.stderr.count("\n") == 1
