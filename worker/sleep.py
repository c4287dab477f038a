"""How the reconciler rests: on PostgreSQL it can be called, elsewhere it waits out its pause."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine

from cutwork import database, log, wake

# A note outlives a reconciler that was killed by so many seconds, and is renewed at half of them.
_NOTE = 30.0
# So many looks in a row that found work make a busy reconciler: it is not to be called.
_BUSY = 8
_RECONNECT = 5.0
# Who can be called need not look as often as who cannot.
_LONGEST = 0.2


class Sleep:
    """``rest(pause)`` returns when somebody calls, when ``pause`` seconds are over, or at a stop.

    ``idle`` says whether the latest look found nothing; then a wait for calls is a fifth of a
    second at least, and a stop is seen at its end.
    """

    def __init__(self, engine: Engine, stop: threading.Event, idle: Callable[[], bool]) -> None:
        self._engine, self._stop, self._idle = engine, stop, idle
        self._id = uuid4()
        self._ear: Any = None
        self._deaf_until = 0.0
        self._noted_until = 0.0
        self._busy = 0
        self._can_hear = (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")

    def rest(self, pause: float) -> None:
        """Wait; not at all when a note was just made, since a job may have come before it."""
        if not self._can_hear:
            self._stop.wait(pause)
            return
        self._busy = 0 if self._idle() else self._busy + 1
        try:
            waited = self._rest(pause)
        except Exception as error:  # noqa: BLE001 - whatever it was: without an ear it still polls
            self._lose(error)
            waited = False
        if not waited:
            self._stop.wait(pause)

    def close(self) -> None:
        """Take the note back, if the database is there, and hang up."""
        with suppress(Exception):
            self._clear()
        self._hang_up()

    def _rest(self, pause: float) -> bool:
        if self._busy >= _BUSY:
            self._clear()
        if self._busy or not self._listens():
            return False
        if time.monotonic() > self._noted_until - _NOTE / 2:
            new = not self._noted_until
            # Counted from before, so that the note is never thought to last longer than it does.
            until = time.monotonic() + _NOTE
            database.transact(self._engine, wake.note, self._id, _NOTE)
            self._noted_until = until
            if new:
                return True
        for _ in self._ear.notifies(timeout=max(pause, _LONGEST), stop_after=1):
            pass
        return True

    def _listens(self) -> bool:
        if self._ear is None and time.monotonic() >= self._deaf_until:
            lent = self._engine.raw_connection()
            self._ear = lent.driver_connection
            lent.detach()
            self._ear.rollback()
            self._ear.autocommit = True
            self._ear.execute(f"LISTEN {wake.CHANNEL}")
        return self._ear is not None

    def _clear(self) -> None:
        if self._noted_until:
            database.transact(self._engine, wake.clear, self._id)
            self._noted_until = 0.0

    def _lose(self, error: Exception) -> None:
        self._hang_up()
        self._deaf_until = time.monotonic() + _RECONNECT
        # The next note is a new one, so that a look follows it.
        self._noted_until = 0.0
        fault = f"{type(error).__name__}: {error}".splitlines()[0]
        log.event("reconciler cannot be called", level=logging.WARNING, fault=fault)

    def _hang_up(self) -> None:
        if self._ear is not None:
            with suppress(Exception):
                self._ear.close()
            self._ear = None
