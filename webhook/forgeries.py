"""Callbacks whose token is not ours: counted in memory, and told to the database now and then.

A statement for each would let strangers, who need no token for it, keep the database busy.
"""

import logging
import threading
import weakref
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cutwork import events, log

_EVERY = 30.0


class Forgeries:
    """``note()`` each; what has come is told ``every`` so many seconds, in a thread of its own."""

    def __init__(self, engine: Engine, every: float = _EVERY) -> None:
        self._engine, self._every = engine, every
        self._lock = threading.Lock()
        self._count, self._timed = 0, False

    def note(self) -> None:
        """Count one. It costs no statement, and the first of them sets the timer."""
        with self._lock:
            self._count += 1
            self._set_timer()

    def tell(self) -> None:
        """Write down how many came since the last time; they are kept if that fails."""
        with self._lock:
            count, self._count, self._timed = self._count, 0, False
        if not count:
            return
        try:
            with self._engine.begin() as tx:
                events.record_forgeries(tx, count)
        except SQLAlchemyError as error:
            log.event("forgeries not told", level=logging.WARNING, fault=type(error).__name__)
            with self._lock:
                self._count += count
                self._set_timer()

    def _set_timer(self) -> None:
        if self._timed:
            return
        # Weakly: a webhook that is gone must not speak any more.
        timer = threading.Timer(self._every, _call, [weakref.WeakMethod(self.tell)])
        timer.daemon = self._timed = True
        timer.start()


def _call(method: "weakref.WeakMethod[Callable[[], None]]") -> None:
    if tell := method():
        tell()
