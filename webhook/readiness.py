"""Whether the database answers and has our tables, asked at most every two seconds."""

import logging
import threading
import time

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cutwork import database, log
from cutwork.errors import DatabaseNotReady

_GOOD_FOR = 2.0


class Readiness:
    """Call it: one caller asks the database, and whoever comes meanwhile gets the last answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asking = threading.Lock()
        self._ready, self._stale_at = False, float("-inf")

    def __call__(self) -> bool:
        if time.monotonic() >= self._stale_at and self._asking.acquire(blocking=False):
            try:
                self._ready = self._ask()
                self._stale_at = time.monotonic() + _GOOD_FOR
            finally:
                self._asking.release()
        return self._ready

    def _ask(self) -> bool:
        try:
            database.ensure_ready(self._engine)
        except (DatabaseNotReady, SQLAlchemyError) as error:
            log.event("not ready", level=logging.WARNING, fault=type(error).__name__)
            return False
        return True
