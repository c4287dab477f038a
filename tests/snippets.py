"""The code blocks of the docs, each with its place, and a shell that runs them in turn."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.services.waiting import run_until

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(r"( *)```(\w*)\s*$")
_EXCUSE = re.compile(r"<!-- not run: (.+) -->\s*$")
_ITEM = re.compile(r"\s*(?:[*-]|\d+\.)\s")
_NAMES = {"sh": "shell", "bash": "shell", "console": "shell", "py": "python"}
_PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S* )*(?:export |echo |curl |cutwork |gunicorn |make |pip |waitress-serve |cp |"
    r"(?:\.venv/bin/)?python3? |\.venv/bin/pip |CUTWORK_\w+=)"
)


@dataclass(frozen=True)
class Snippet:
    """A block of code; ``line`` is that of its first line, ``excuse`` says why it is not run."""

    page: Path
    line: int
    language: str
    source: str
    excuse: str = ""
    indented: bool = False

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def snippets(page: Path) -> list[Snippet]:
    """Every block of a page, fenced or indented, from the top."""
    return list(_found(page, page.read_text(encoding="utf-8").splitlines()))


def _found(page: Path, lines: list[str]) -> Iterator[Snippet]:
    excuse, in_list, number = "", False, 0
    while number < len(lines):
        line = lines[number]
        if fence := _FENCE.match(line):
            end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == "```")
            body = [one.removeprefix(fence[1]) for one in lines[number + 1 : end]]
            language = _NAMES.get(fence[2], fence[2] or "text")
            yield Snippet(page, number + 2, language, "\n".join(body), excuse)
            excuse, number = "", end + 1
        elif line.startswith("    ") and not in_list:
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            source = "\n".join(one[4:] for one in lines[number:end]).strip("\n")
            yield Snippet(page, number + 1, _guessed(source), source, excuse, indented=True)
            excuse, number = "", end
        else:
            if line.strip():
                told = _EXCUSE.match(line)
                excuse = told[1] if told else ""
                in_list = bool(_ITEM.match(line)) or (in_list and line.startswith(" "))
            number += 1


def _guessed(source: str) -> str:
    shell = all(_PROGRAM.match(line) for line in source.splitlines() if line.strip())
    return "shell" if shell else "text"


class Shell:
    """One bash for all snippets of a page, so that a variable that one sets is there for the next.

    The first command that fails ends it, as ``set -e`` has it, and fails the test.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder, self._log, self._count = folder, folder / "shell.log", 0
        with self._log.open("wb") as log:
            self._bash = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-eu", "-o", "pipefail"],
                cwd=folder, env=dict(environ), stdin=subprocess.PIPE, stdout=log,
                stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip

    def run(self, source: str, seconds: float = 60.0) -> str:
        """What the commands print."""
        self._count += 1
        script, done = self._folder / f"snippet-{self._count}.sh", f"--done {self._count}--"
        script.write_text(source, encoding="utf-8")
        before = len(self._said())
        assert self._bash.stdin is not None
        self._bash.stdin.write(f". ./{script.name} </dev/null\necho '{done}'\n")
        self._bash.stdin.flush()
        over = lambda: done in self._said()[before:] or self._bash.poll() is not None  # noqa: E731
        with suppress(AssertionError):  # what it printed says more
            run_until(over, seconds, "it ended")
        told = self._said()[before:]
        assert done in told, f"it failed, or did not end:\n{source}\n{told}"
        return told.partition(done)[0]

    def close(self) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        if self._bash.poll() is None:
            os.killpg(self._bash.pid, 15)
        self._bash.wait()

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")
