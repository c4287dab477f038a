"""Failed logins are counted, and whoever fails too often has to wait."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

_WINDOW = 60.0
_EACH, _ALL = 5, 30
_ADDRESSES = 1000


class Patience:
    """At most 5 failures a minute from an address, and 30 from all of them together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._failures: dict[str, deque[float]] = {}
        self._all: deque[float] = deque(maxlen=_ALL)

    def wait(self, address: str) -> int:
        """Whole seconds until this address may try again; 0: now."""
        with self._lock:
            now = self._clock()
            mine = self._failures.get(address, ())
            waits = (_wait(mine, _EACH, now), _wait(self._all, _ALL, now))
            return math.ceil(max(waits))

    def failed(self, address: str) -> None:
        with self._lock:
            now = self._clock()
            self._all.append(now)
            self._failures.setdefault(address, deque(maxlen=_EACH)).append(now)
            if len(self._failures) > _ADDRESSES:
                self._failures = {
                    one: times for one, times in self._failures.items() if now - times[-1] < _WINDOW
                }


def _wait(times: Sequence[float], most: int, now: float) -> float:
    """The last ``most`` failures are kept; until the first of them is old enough nobody may."""
    return max(0.0, times[0] + _WINDOW - now) if len(times) == most else 0.0
