"""Runs tests in a process of their own, with a mutation and without."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutants.mutations import Mutation

ROOT = Path(__file__).parents[2]
# Neither a test that hangs under its mutation nor a slow machine may take for ever.
_A_TEST, _A_RUN = 90, 600


@dataclass(frozen=True)
class Ran:
    noticed: bool
    seconds: float
    said: str


def pass_unmutated(mutations: Iterable[Mutation]) -> str:
    """Run all their tests once, without a mutation; empty if they pass, else what pytest said."""
    tests = sorted({one.test for one in mutations})
    done = _pytest(*tests)
    return "" if done.returncode == pytest.ExitCode.OK else done.stdout


def notices(mutation: Mutation) -> Ran:
    """Whether the mutation's test fails under it; an error of collection is not enough."""
    began = time.monotonic()
    done = _pytest("--exitfirst", "--mutant", mutation.name, mutation.test)
    noticed = done.returncode == pytest.ExitCode.TESTS_FAILED
    return Ran(noticed, time.monotonic() - began, done.stdout[-2000:] + done.stderr[-2000:])


def _pytest(*arguments: str) -> "subprocess.CompletedProcess[str]":
    options = ["-p", "tests.mutants.plugin", "-p", "no:cacheprovider", "--quiet"]
    limit = f"--timeout={_A_TEST}"
    # Mutated code is not what coverage is about, and this is no worker of a parallel run.
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COVERAGE_", "COV_CORE_", "PYTEST_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, limit, *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=_A_RUN,
        check=False,
    )
