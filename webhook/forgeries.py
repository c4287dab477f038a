"""Callbacks whose token is not ours: counted in memory, and told to the database now and then.

A statement for each would let strangers, who need no token for it, keep the database busy.
"""

import logging
import threading

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cutwork import events, log

_EVERY = 30.0


class Forgeries:
    """``note()`` each; what has come is told ``every`` so many seconds, in a thread of its own."""

    def __init__(self, engine: Engine, every: float = _EVERY) -> None:
        self._engine, self._every = engine, every
        self._lock = threading.Lock()
        self._count = 0
        self._timer: threading.Timer | None = None

    def note(self) -> None:
        """Count one. It costs no statement, and the first of them sets the timer."""
        with self._lock:
            self._count += 1
            self._set_timer()

    def tell(self) -> None:
        """Write down how many came since the last time; they are kept if that fails."""
        if not self._write():
            with self._lock:
                self._set_timer()

    def close(self) -> None:
        """Tell the last of them."""
        with self._lock:
            timer = self._timer
        if timer is not None:
            timer.cancel()
            timer.join()
            self._write()

    def _write(self) -> bool:
        with self._lock:
            count, self._count, self._timer = self._count, 0, None
        if not count:
            return True
        try:
            with self._engine.begin() as tx:
                events.record_forgeries(tx, count)
        except SQLAlchemyError as error:
            log.event("forgeries not told", level=logging.WARNING, fault=type(error).__name__)
            with self._lock:
                self._count += count
            return False
        return True

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(self._every, self.tell)
            self._timer.daemon = True
            self._timer.start()
