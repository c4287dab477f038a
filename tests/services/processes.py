"""Programs that a test starts: their output goes to files, and none of them outlives the test."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.services.waiting import run_until

GRACE = 5.0
TAIL = 4000


class Process:
    """One started program, the leader of a process group of its own."""

    def __init__(
        self, name: str, argv: list[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        self.name, self.argv, self.log_path = name, argv, log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit status, ``-signal`` if a signal ended it, None while it runs."""
        return self._popen.poll()

    @property
    def log(self) -> str:
        """What it has written so far, standard output and standard error together."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = 10.0) -> int:
        """The exit status, once it has ended."""
        self._expect(lambda: not self.running, seconds, "has not ended")
        return int(self._popen.returncode)

    def wait_for_log(self, text: str, seconds: float = 10.0) -> str:
        """The whole log, once ``text`` is in it; fails at once if the program ends without it."""
        self._expect(
            lambda: text in self.log or not self.running, seconds, f"has not said {text!r}"
        )
        if text not in self.log:
            raise AssertionError(f"{self.name} ended without saying {text!r}:\n{self.tail()}")
        return self.log

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone."""
        self._popen.send_signal(number)

    def interrupt(self) -> None:
        """Send SIGINT to the whole group, as Ctrl-C in a terminal does."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL the program and everything it started, and reap it."""
        kill_all(self.family())
        self._popen.wait()

    def stop(self, grace: float = GRACE) -> None:
        """SIGTERM, then SIGKILL for whatever of the family is left after the grace."""
        family = self.family()
        if self.running:
            self._popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace)
        kill_all({*family, *self.family()})
        self._popen.wait()

    def family(self) -> set[psutil.Process]:
        """The program, its descendants and its process group, as far as they are alive."""
        found = {process for process in psutil.process_iter() if _group(process) == self.pid}
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self.pid)
            found |= {leader, *leader.children(recursive=True)}
        return {process for process in found if is_alive(process)}

    def tail(self) -> str:
        """The end of the log."""
        return self.log[-TAIL:]

    def _expect(self, condition: Callable[[], bool], seconds: float, fault: str) -> None:
        try:
            run_until(condition, seconds)
        except AssertionError:
            raise AssertionError(
                f"{self.name} (pid {self.pid}) {fault} within {seconds:g} s:\n{self.tail()}"
            ) from None


class Processes:
    """Starts programs for one test, and ends them all with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.started: list[Process] = []

    def start(
        self,
        *argv: str | Path,
        env: Mapping[str, str] | None = None,
        name: str = "",
        cwd: Path | None = None,
    ) -> Process:
        """Start a program; ``cutwork``, ``celery`` and the like are those of this environment.

        It gets the environment without any ``CUTWORK_`` variable, then ``env`` on top, and runs in
        the test's own directory unless ``cwd`` says otherwise.
        """
        words = [str(word) for word in argv]
        name = name or Path(words[0]).name
        number = len(self.started) + 1
        process = Process(
            name,
            words,
            env=clean_environment(env or {}),
            cwd=cwd or self._directory,
            log=self._directory / f"{number:02}-{name}.log",
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """End everything, the last started first."""
        for process in reversed(self.started):
            process.stop()

    def report(self) -> Iterable[tuple[str, str]]:
        """(title, end of the log) of every program, for the report of a failed test."""
        for process in self.started:
            state = "running" if process.running else f"exit {process.returncode}"
            yield f"log of {process.name} (pid {process.pid}, {state})", process.tail()


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, free of settings, with this environment's programs first."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("CUTWORK_")
    }
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**inherited, "PATH": path, "PYTHONUNBUFFERED": "1", **extra}


def _group(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except OSError:
        return -1


def is_alive(process: psutil.Process) -> bool:
    """Whether it still does something: a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_all(family: Iterable[psutil.Process]) -> None:
    """SIGKILL them, and wait until they are gone, or zombies that somebody else has to reap."""
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run_until(lambda: not any(is_alive(process) for process in family), GRACE, "all are dead")
