"""What is costly to count is counted at most every few seconds, by one request for all."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """``get()`` is what ``make`` gave not longer ago than ``seconds``; others wait for the first.

    What ``make`` raises is raised, and it is called again by whoever comes next.
    """

    def __init__(self, make: Callable[[], T], seconds: float) -> None:
        self._make, self._seconds = make, seconds
        self._lock = threading.Lock()
        self._made: T | None = None
        self._stale_at = float("-inf")

    def get(self) -> T:
        with self._lock:
            if self._made is None or time.monotonic() >= self._stale_at:
                self._made = self._make()
                self._stale_at = time.monotonic() + self._seconds
            return self._made

    def forget(self) -> None:
        """Somebody has changed what is counted."""
        self._stale_at = float("-inf")
