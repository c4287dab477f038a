"""Waiting with a condition and a deadline; nothing else in the tests may sleep."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def run_until(condition: Callable[[], T], seconds: float = 10.0, message: str = "") -> T:
    """Call ``condition`` until it gives something true, and return that.

    Raises:
        AssertionError: nothing true for ``seconds``; says ``message`` and what was given last.
    """
    deadline = time.monotonic() + seconds
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            what = message or getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"{what}: not within {seconds:g} s (last seen: {value!r})")
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 2, 0.1)
