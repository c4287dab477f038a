"""The provider's own limits, and what was measured at its door."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from threading import Lock
from typing import Any

MAX_BYTES = 15 * 2**20
MAX_SIDE = 4096
MAX_URL = 512
FETCH_SECONDS = 10.0
REMEMBERED = 100_000


def key_id(token: str) -> str:
    """A name for a key that may be shown: the first 8 hex digits of its SHA-256."""
    return sha256(token.encode()).hexdigest()[:8]


@dataclass
class Counter:
    """One key's requests: ``seen`` holds (Unix time, submit | query, let in)."""

    seen: deque[tuple[float, str, bool]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    tokens: float = 0.0
    filled_at: float = 0.0
    open: int = 0
    most_open: int = 0


class Meter:
    """A token bucket for each key: ``rate`` requests a second, bursts of at most ``rate``.

    Rate 0 lets everything in. Whatever is let in or not is remembered, for ``summary()``.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._counters: dict[str, Counter] = {}
        self._lock = Lock()

    @contextmanager
    def request(self, key: str, kind: str) -> Iterator[bool]:
        """Count a request while it lasts; the value says whether it is let in."""
        with self._lock:
            counter = self._counters.setdefault(key, self._fresh())
            let_in = self._take(counter)
            counter.seen.append((time.time(), kind, let_in))
            counter.open += 1
            counter.most_open = max(counter.most_open, counter.open)
        try:
            yield let_in
        finally:
            with self._lock:
                counter.open -= 1

    def reset(self) -> None:
        with self._lock:
            self._counters.clear()

    def summary(self) -> dict[str, Any]:
        """For each key id: counts, the busiest second, the most open at once, and every time."""
        with self._lock:
            return {key: _summary(counter) for key, counter in self._counters.items()}

    def _fresh(self) -> Counter:
        return Counter(tokens=max(1.0, self._rate), filled_at=time.monotonic())

    def _take(self, counter: Counter) -> bool:
        if self._rate == 0:
            return True
        now = time.monotonic()
        filled = counter.tokens + (now - counter.filled_at) * self._rate
        counter.tokens, counter.filled_at = min(filled, max(1.0, self._rate)), now
        if counter.tokens < 1:
            return False
        counter.tokens -= 1
        return True


def _summary(counter: Counter) -> dict[str, Any]:
    let_in = [at for at, _, passed in counter.seen if passed]
    return {
        "submits": sum(kind == "submit" for _, kind, _ in counter.seen),
        "queries": sum(kind == "query" for _, kind, _ in counter.seen),
        "throttled": len(counter.seen) - len(let_in),
        "busiest_second": _busiest_second([at for at, _, _ in counter.seen]),
        "busiest_second_let_in": _busiest_second(let_in),
        "most_open": counter.most_open,
        "times": [[round(at, 4), kind, passed] for at, kind, passed in counter.seen],
    }


def _busiest_second(times: list[float]) -> int:
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
