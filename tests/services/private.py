"""A server of our own: in a directory of its own, on a free port, ended by its pid."""

import os
import pwd
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any, ClassVar

import psutil

from tests.services.outcome import Missing
from tests.services.ports import free_port, is_open
from tests.services.processes import kill_all
from tests.services.waiting import run_until

START = 60.0
STOP = 20.0


def find_program(name: str, *patterns: str) -> str:
    """The path of an installed program, from PATH or the newest match of a pattern; '' if none."""
    found = [path for pattern in patterns for path in glob(pattern)]
    return shutil.which(name) or max(found, key=_version_order, default="")


def _version_order(path: str) -> list[int]:
    return [int(part) for part in Path(path).parts if part.isdigit()]


class PrivateServer(ABC):
    """Start, stop, kill, restart and wipe one server; its data survive all but the last."""

    name: ClassVar[str]
    stop_signal: ClassVar[int]

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"cutwork-{self.name.lower()}-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            os.chown(self.directory, *_identity())

    @classmethod
    @abstractmethod
    def missing(cls) -> Missing | None:
        """Which of the programs is not installed."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it answers, as cutwork's settings write it."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the data directory, once, before the first start."""

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """The program that stays in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client is served."""

    @abstractmethod
    def wipe(self) -> None:
        """Remove everything in it while it runs."""

    def environment(self) -> Mapping[str, str]:
        """Variables that the programs need besides PATH and HOME."""
        return {}

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, unless it runs, and return when it serves clients."""
        if self.running:
            return
        if self._process is None:
            self.prepare()
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in self.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **self._setting(),
            )
        self._ready()

    def stop(self) -> None:
        """Ask it to stop, as an operator does, and wait until it is gone."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL it and its children, as a power cut does, and wait until they are gone."""
        if self._process is None or self._process.poll() is not None:
            return
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        kill_all(family)
        self._process.wait()
        # A killed program of many threads looks dead a moment before its sockets are closed.
        run_until(lambda: not is_open(self.port), STOP, f"{self.name} is gone")

    def restart(self) -> None:
        """Stop and start, on the same port and with the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it and remove its directory."""
        try:
            self.kill()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, *words: str | Path) -> str:
        """Run one of the server's own programs as the server's user; its standard output."""
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=START,
            **self._setting(),
        )
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise RuntimeError(f"{self.name}: {words[0]} ended with {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    def _setting(self) -> dict[str, Any]:
        """Whose process it is, and what it sees: nothing of the caller's environment but PATH."""
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        env = {"PATH": path, "HOME": str(self.directory), "LC_ALL": "C", **self.environment()}
        setting: dict[str, Any] = {"env": env, "cwd": self.directory, "start_new_session": True}
        if os.geteuid() == 0:
            user, group = _identity()
            setting |= {"user": user, "group": group, "extra_groups": []}
        return setting

    def _ready(self) -> None:
        try:
            run_until(lambda: self.answers() or not self.running, START, f"{self.name} serves")
            if not self.running:
                raise AssertionError(f"{self.name} ended while starting")
        except AssertionError as fault:
            said = self._log.read_text(errors="replace")[-4000:]
            self.kill()
            raise RuntimeError(f"{fault}:\n{said}") from None


def _identity() -> tuple[int, int]:
    """Somebody without privileges: PostgreSQL and MariaDB refuse to run as root."""
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid
