"""Chromium: the one that is installed, for the tests that look at pages as a person does."""

import subprocess

from tests.services.outcome import Missing
from tests.services.private import find_program

# Nothing of it goes out by itself, and root may run it.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Chromium:
    """Each test has a profile of its own, so nothing is left of the last one."""

    def __init__(self, program: str, version: str) -> None:
        self._program, self.label = program, version

    def empty(self) -> str:
        """The path of the program."""
        return self._program

    def close(self) -> None:
        """Whoever started it has ended it."""


def find(explicit: str) -> Chromium | Missing:
    """The program of ``CUTWORK_TEST_CHROMIUM_URL``, a path, or the one that is installed."""
    program = explicit or find_program("chromium") or find_program("chromium-browser")
    if not program:
        return Missing("no chromium installed")
    told = subprocess.run([program, "--version"], capture_output=True, check=False, text=True)
    if told.returncode:
        return Missing(f"{program} does not run")
    return Chromium(program, " ".join(told.stdout.split()[:2]))
