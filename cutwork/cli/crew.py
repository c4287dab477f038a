"""The roles that run together: started, watched, started again when they die, and ended.

``with Crew(…) as crew`` ends them however the block is left. While it runs, SIGINT, SIGTERM and
SIGHUP only ask (``crew.asked``); a second one kills what is left at once.
"""

import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from types import FrameType, TracebackType

from cutwork.cli.child import Child, Role, Say
from cutwork.errors import InvalidSetting

GRACE = 20.0
_TICK = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Crew:
    """``roles`` in the order in which they start; they are stopped the other way round.

    ``say(who, what)`` gets the roles' lines, from several threads, and our own as ``"cutwork"``.
    """

    def __init__(
        self, roles: Iterable[Role], environ: Mapping[str, str], say: Say, grace: float = GRACE
    ) -> None:
        self._children = [Child(role, environ, self._tell) for role in roles]
        self._say, self._grace = say, grace
        self._asked: list[int] = []
        self._undo = ExitStack()

    def __enter__(self) -> "Crew":
        for number in _SIGNALS:
            before = signal.signal(number, self._hear)
            self._undo.callback(signal.signal, number, before)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            self._undo.close()

    @property
    def asked(self) -> int:
        """The first signal that asked us to stop; 0 while none did."""
        return self._asked[0] if self._asked else 0

    @property
    def ready(self) -> bool:
        return all(child.is_ready() for child in self._children)

    def start(self) -> None:
        for child in self._children:
            if not self._asked:
                child.start()

    def tend(self, seconds: float) -> bool:
        """Look after the roles for so long; False as soon as a signal asks us to stop."""
        deadline = time.monotonic() + seconds
        while not self._asked:
            for child in self._children:
                self._look_after(child)
            left = deadline - time.monotonic()
            if left <= 0:
                return True
            time.sleep(min(_TICK, left))
        return False

    def wait_ready(self, seconds: float) -> bool:
        """Until all do their work; False when asked to stop, or when it takes longer.

        Raises:
            InvalidSetting: a role says that it is used wrongly, so starting it again cannot help.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for child in self._children:
                if child.status == 2:
                    told = "its last line says why"
                    raise InvalidSetting(child.role.name, child.status, "cannot start", told)
            if self.ready:
                return True
            if not self.tend(_TICK):
                return False
        return False

    def stop(self) -> None:
        """Ask each to stop, the ones that start work first; kill what is left after the grace."""
        deadline = time.monotonic() + self._grace
        for child in reversed(self._children):
            child.ask_to_stop()
            # A submit that is on its way needs the provider and the webhook until it is recorded.
            if child.role.name in ("reconciler", "worker"):
                self._wait_for([child], deadline)
        self._wait_for(self._children, deadline)
        for child in self._children:
            child.kill()

    def _wait_for(self, children: list[Child], deadline: float) -> None:
        while any(child.running for child in children):
            if time.monotonic() > deadline or len(self._asked) > 1:
                return
            time.sleep(_TICK)

    def _look_after(self, child: Child) -> None:
        if child.running:
            return
        status = child.status
        if status is not None:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            pause = child.bury()
            self._tell("cutwork", f"{child.role.name} ended ({how}), again in {pause:g} s")
        elif time.monotonic() >= child.due_at:
            child.start()

    def _tell(self, who: str, what: str) -> None:
        try:
            self._say(who, what)
        except OSError:  # whoever read our lines is gone, and did not ask us to go on without
            self._asked.append(signal.SIGPIPE)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self._asked.append(number)
