"""Real roles as processes that are killed, stopped, and replaced; none outlives the drill."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


class Player:
    """One role, started again under the same name; ``point`` is where it kills itself."""

    def __init__(
        self, name: str, role: tuple[str, ...], environ: Mapping[str, str], home: Path
    ) -> None:
        self.name, self.kind, self._role = name, role[0], role
        self._environ, self._log = environ, home / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: socket.socket | None = None
        self.point, self._said = "", 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    @property
    def crashed(self) -> bool:
        """Whether somebody of it has reached the point since it was started, and died there."""
        return bool(self.point) and f"drill: crashed at {self.point}\n" in self.log[self._said :]

    def start(self, point: str = "", *, times: int = 1, child: bool = False) -> None:
        """Start it, or a twin that dies when it reaches ``point`` for the Nth time.

        All of it dies, or the one process of its pool that got there (``child``).
        """
        self.point, self._said = point, len(self.log)
        self._let_go()
        trap = ("cutwork.drill.crashing", *(["--child"] if child else []), f"{point}:{times}")
        ours, theirs = socket.socketpair()
        module = trap if point else ("cutwork",)
        words = [sys.executable, "-P", "-m", *module, "--leash", str(theirs.fileno()), *self._role]
        with theirs, self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                words,
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        self._leash = ours

    def signal(self, number: signal.Signals) -> None:
        """To it and all that it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        if self._leash is not None:
            self._leash.close()
            self._leash = None
