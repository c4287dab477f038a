"""Work for a few threads, each piece at its time: nobody sleeps, so a delay costs no thread."""

import heapq
import logging
import time
from collections.abc import Callable
from itertools import count
from threading import Condition, Thread

log = logging.getLogger(__name__)


class Agenda:
    """Runs what it is given after its delay, in order of time, on ``threads`` daemon threads."""

    def __init__(self, name: str, threads: int) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._ranks = count()
        self._changed = Condition()
        self._stopped = False
        self._threads = [
            Thread(target=self._run, name=f"sandbox-{name}-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, delay: float, work: Callable[[], None]) -> None:
        """Run ``work`` in ``delay`` seconds, or never when the agenda stops before."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + delay, next(self._ranks), work))
            self._changed.notify()

    def stop(self, timeout: float) -> None:
        """Drop what has not begun; wait up to ``timeout`` seconds for what has."""
        with self._changed:
            self._stopped = True
            self._due.clear()
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception:
                log.exception("a piece of the sandbox's work failed")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._stopped:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
        return None
