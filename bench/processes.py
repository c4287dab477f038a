"""Programs that run for the length of a ``with`` block, what they say, and what they cost."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any

import psutil

from cutwork.cli.leash import Leash

_LEASH = "BENCH_LEASH"
_START_WITHIN, _STOP_WITHIN = 30.0, 3.0
HERE = "127.0.0.1"


@dataclass
class Program:
    """One running program; ``port``, or a word on its leash, shows that it is ready."""

    name: str
    process: "subprocess.Popen[bytes]"
    output: IO[bytes]
    leash: socket.socket
    port: int | None
    ready: bool = False
    _shown: psutil.Process = field(init=False)

    def __post_init__(self) -> None:
        self._shown = psutil.Process(self.process.pid)

    @property
    def family(self) -> list[psutil.Process]:
        return [self._shown, *self._shown.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of a core that it and its children have used."""
        spent = 0.0
        for one in self.family:
            with suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                spent += times.user + times.system
        return spent

    def look(self) -> bool:
        """Whether it is ready; it stays so.

        Raises:
            RuntimeError: it has ended; the text is the end of what it said.
        """
        if self.process.poll() is not None:
            self.output.seek(0)
            said = self.output.read().decode(errors="replace")
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{said[-3000:]}")
        if not self.ready:
            self.ready = self._answers() if self.port else self._said_so()
        return self.ready

    def _answers(self) -> bool:
        """Whether a request gets any answer: the port alone may be open before the program is."""
        connection = HTTPConnection(HERE, self.port, timeout=5)
        with suppress(OSError, HTTPException), closing(connection):
            connection.request("GET", "/healthz")
            return connection.getresponse().status > 0
        return False

    def _said_so(self) -> bool:
        with suppress(BlockingIOError):
            return self.leash.recv(16) != b""
        return False


class Crew:
    """``with Crew() as crew``: whatever is started in the block is ended, however it is left.

    Each program has a process group of its own, and a leash: should this process be killed, those
    that took the leash end by themselves.
    """

    def __init__(self) -> None:
        self._programs: list[Program] = []
        self._before: Any = None

    def __enter__(self) -> "Crew":
        self._before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_: object) -> None:
        for one in reversed(self._programs):
            one.process.terminate()
        deadline = time.monotonic() + _STOP_WITHIN
        for one in self._programs:
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.0, deadline - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
            one.leash.close()
            one.output.close()
        signal.signal(signal.SIGTERM, self._before)

    def start(
        self,
        name: str,
        words: Iterable[str],
        environ: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
    ) -> Program:
        """Start ``python -m words…``; ``{leash}`` in a word becomes the leash's number."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        number = str(theirs.fileno())
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the program
        process = subprocess.Popen(  # noqa: S603 - programs of our own choice
            [sys.executable, "-m", *(word.replace("{leash}", number) for word in words)],
            env={**_bare_environ(), **(environ or {}), _LEASH: number},
            cwd=Path(__file__).parent.parent,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        theirs.close()
        self._programs.append(Program(name, process, output, ours, port))
        return self._programs[-1]

    def cpu(self, but: Program) -> float:
        """Seconds of a core that all but one of the programs have used."""
        return cpu(one for one in self._programs if one is not but)

    def wait_ready(self) -> None:
        """Until all that was started does its work.

        Raises:
            RuntimeError: one has ended, or says nothing for half a minute.
        """
        deadline = time.monotonic() + _START_WITHIN
        while waiting := [one.name for one in self._programs if not one.look()]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not ready: {', '.join(waiting)}")
            time.sleep(0.02)


def cpu(programs: Iterable[Program]) -> float:
    """Seconds of a core that these have used, with their children."""
    return sum(one.cpu() for one in programs)


def say_ready() -> None:
    """For a program that a crew started: it is ready now, and ends when the crew does."""
    if number := os.environ.get(_LEASH):
        Leash.take(int(number)).ready()


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as trial:
        trial.bind((HERE, 0))
        return int(trial.getsockname()[1])


def until(condition: Any, seconds: float, what: str, *, every: float = 0.01) -> None:
    """Look until it is so.

    Raises:
        RuntimeError: it never was; ``what`` says what should have been.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


def _bare_environ() -> dict[str, str]:
    """Nobody's settings of cutwork are to be measured but those that are given."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CUTWORK_")}
