"""Somebody who does what a page says, from the top, beside a real ``cutwork up``."""

import contextlib
import io
import os
import re
import shlex
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import cutwork
from cutwork.cli.commands import cutwork as command_line
from cutwork.cli.faults import run
from cutwork.settings import current
from tests.household import Base, House, Order
from tests.services.ports import free_port, is_open
from tests.services.processes import Processes
from tests.services.waiting import run_until
from tests.snippets import Shell, Snippet

# What is shown, not run.
SHOWN = {"ini", "json", "nginx", "text", "toml", "yaml"}
SERVES = re.compile(
    r"(?:[A-Z_]+=\S+ )*"
    r"(?:cutwork (console|metrics|reconciler|sandbox|up|webhook|worker)|gunicorn|waitress-serve)\b"
)
# What only looks may be looked at again, until it shows what the page shows.
_LOOKS = ("cutwork explain", "cutwork list", "cutwork show", "cutwork stats")
_PATIENCE = 30.0
# A page's JSON that a command of the page reads.
_FILES = {"sandbox.md": "faults.json"}
_GIVEN = re.compile(r"[A-Z_]+=")
# A command that needs no shell is called in this process: it is the same, and there at once.
_ALONE = re.compile(r"cutwork [\w ./:-]+")


class Reader:
    """``read`` each snippet of a page in its order; ``close`` ends whatever the page started."""

    def __init__(self, house: House, page: Path) -> None:
        self._house, self._page = house, page
        self._shell = Shell(house.folder, house.environ)
        self._started = Processes(house.folder)
        self._sandbox = house.sandbox.removeprefix("http://")
        self._said, self._last = "", ""
        self._exported: dict[str, str] = {}
        self._engine = create_engine(f"sqlite:///{house.folder / '.cutwork' / 'cutwork.db'}")
        Base.metadata.create_all(self._engine)
        # Pages that begin in the middle of an app have these; the session is never committed.
        self._session = Session(self._engine)
        self._names: dict[str, Any] = {
            "cutwork": cutwork,
            "engine": self._engine,
            "session": self._session,
            "url": house.photograph,
            "Order": Order,
            "Session": Session,
        }

    def takes_for_granted(self, **names: Any) -> None:
        """What a page uses without having made it."""
        self._names |= names

    def close(self) -> None:
        self._started.close()
        self._shell.close()
        self._session.close()
        for one in {self._engine, self._names["engine"]}:
            one.dispose()

    def read(self, snippet: Snippet) -> None:
        match snippet.language:
            case "shell":
                self._type(snippet.source)
            case "python":
                self._run(snippet)
            case "json" if self._page.name in _FILES:
                (self._house.folder / _FILES[self._page.name]).write_text(snippet.source, "utf-8")
            case "text" if self._last:
                self._compare(snippet)
            case language:
                assert language in SHOWN, f"{snippet}: nobody runs {language}"
                self._last = ""

    def _type(self, source: str) -> None:
        lines = [self._meant(line) for line in source.splitlines()]
        for line in lines:
            if line.startswith("export "):
                self._exported |= _given(shlex.split(line, comments=True))
            elif SERVES.match(line) and not is_up(line):
                self._serve(line)
        rest = [line for line in lines if line.strip() and not SERVES.match(line)]
        up = any(map(is_up, lines))
        self._said, self._last = (self._house.said, "cutwork up") if up else ("", "")
        if rest and all(_ALONE.fullmatch(line) for line in rest):
            with patch.dict(os.environ, self._exported):
                self._said, self._last = "".join(map(_called, rest)), rest[-1]
        elif rest:
            self._said, self._last = self._shell.run("\n".join(rest)), rest[-1]

    def _meant(self, line: str) -> str:
        """The line with what stands for something of the reader's own."""
        line = line.replace("https://shop.example/shoe.jpg", self._house.photograph)
        line = line.replace("127.0.0.1:8600", self._sandbox)
        # Where the house keeps the secrets that it made up.
        line = line.replace("/run/secrets", str(self._house.folder / ".cutwork"))
        if "KEY_ID" in line:
            line = line.replace("KEY_ID", self._house.keys()[0])
        if found := re.match(r"cutwork (\w+) ID$", line):
            line = line.replace(" ID", f" {self._house.job(found[1])}")
        return line

    def _serve(self, line: str) -> None:
        """Start what serves until it is told to stop, on a port of its own, and see it serve."""
        port = free_port()
        line = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", line)
        words = shlex.split(line, comments=True)
        given = self._exported | _given(words)
        words = [word for word in words if not _GIVEN.match(word)]
        role = words[1]
        if role in ("worker", "reconciler"):
            port = 0
        elif str(port) not in line:
            words += ["--bind", f"127.0.0.1:{port}"]
        environ = self._house.environ if role == "sandbox" else self._house.for_roles
        process = self._started.start(*words, env=environ | given, cwd=self._house.folder)
        if port:
            run_until(lambda: is_open(port) or not process.running, 30, f"{line} serves")
            assert process.running, process.log
        else:
            process.wait_for_log("ready" if role == "worker" else "started", 30)
        if role == "sandbox":
            self._sandbox = f"127.0.0.1:{port}"

    def _run(self, snippet: Snippet) -> None:
        if name := re.match(r"# (\w+\.py)\n", snippet.source):
            (self._house.folder / name[1]).write_text(snippet.source, "utf-8")
        code = compile(snippet.source, str(snippet), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, self._names)  # noqa: S102 - that is the test
        self._said, self._last = out.getvalue(), "python"

    def _compare(self, shown: Snippet) -> None:
        """What the page shows is what came, but for times, ids and places."""
        wanted = {plain(line) for line in shown.source.splitlines() if "…" not in line}
        looks = self._last.startswith(_LOOKS)

        def same() -> bool:
            if wanted <= {plain(line) for line in self._said.splitlines()}:
                return True
            if looks:
                self._said = self._shell.run(self._last)
            return False

        with contextlib.suppress(AssertionError):  # what is missing says more
            run_until(same, _PATIENCE if looks else 0.0)
        missing = wanted - {plain(line) for line in self._said.splitlines()}
        assert not missing, f"{shown} shows {missing}, but there came:\n{self._said}"


def _given(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if _GIVEN.match(word))


def _called(line: str) -> str:
    """What the command prints; a command that fails fails the test."""
    current.cache_clear()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = run(command_line, shlex.split(line)[1:])
    assert status == 0, f"it failed:\n{line}\n{out.getvalue()}"
    return out.getvalue()


def is_up(source: str) -> bool:
    """Whether this is what the house is made by."""
    return re.match(r"(?:[A-Z_]+=\S+ )*cutwork up\b", source) is not None


def plain(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"/\S*?(?=\.cutwork)", "/", line)
    line = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>", line)
    line = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8}\b", "<id>", line)
    line = re.sub(r"[+-]?\d+([.:-]\d+)*", "<n>", line)
    return " ".join(line.split())
