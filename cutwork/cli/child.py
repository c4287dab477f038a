"""One role as a child process, with its own process group, its lines, and its leash."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

Say = Callable[[str, str], None]  # who, what

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_STEADY = 60.0
_PROBE_TIMEOUT = 1.0


@dataclass(frozen=True)
class Role:
    """What to run: ``cutwork`` and these arguments.

    It is ready when ``probe``, a URL, answers 200; without one, when it says so on its leash.
    """

    name: str
    arguments: tuple[str, ...]
    probe: str = ""


class Child:
    """Starts a role, knows whether it runs and is ready, and ends it with all that it started."""

    def __init__(self, role: Role, environ: Mapping[str, str], say: Say) -> None:
        self.role, self._environ, self._say = role, environ, say
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: socket.socket | None = None
        self._reader: threading.Thread | None = None
        self._ready = False
        self._failures, self._started_at, self.due_at = 0, 0.0, 0.0

    @property
    def status(self) -> int | None:
        """The exit status, ``-signal`` if a signal ended it; None while it runs or never ran."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        # -P: a folder named like one of our modules, where the user happens to be, is not ours.
        words = [sys.executable, "-P", "-m", "cutwork", "--leash", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*words, *self.role.arguments],
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes to us alone, and we can end its whole group
                pass_fds=[theirs.fileno()],
            )
        ours.setblocking(False)
        self._leash, self._ready, self._started_at = ours, False, time.monotonic()
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def is_ready(self) -> bool:
        """Whether it does its work now; asks at most until it once said yes."""
        if not self._ready and self.running:
            self._ready = _answers(self.role.probe) if self.role.probe else self._was_told()
        return self._ready and self.running

    def bury(self) -> float:
        """It has ended: end what it left behind; returns the seconds until it may start again."""
        self._clear()
        if time.monotonic() - self._started_at > _STEADY:
            self._failures = 0
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._process, self.due_at = None, time.monotonic() + pause
        return pause

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and everything it started, now."""
        if self._process is not None:
            self._clear()
            self._process.wait()
            _wait_for_group(self._process.pid)
        if self._reader is not None:
            self._reader.join(timeout=1)  # its last lines say how it ended

    def _clear(self) -> None:
        """The group outlives its leader; nobody else is in it, and its number is not used again."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._leash is not None:
            self._leash.close()
            self._leash = None

    def _was_told(self) -> bool:
        try:
            return self._leash is not None and self._leash.recv(16) != b""
        except BlockingIOError:
            return False
        except OSError:
            return False

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is not None:
            with process.stdout as lines:
                for line in lines:
                    self._say(self.role.name, line.decode("utf-8", "replace").rstrip())


def _wait_for_group(number: int) -> None:
    """Until the killed are gone; not for long, for zombies may have nobody to bury them."""
    deadline = time.monotonic() + 1
    with suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(number, 0)
            time.sleep(0.01)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_TIMEOUT) as reply:  # noqa: S310 - our own
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False
