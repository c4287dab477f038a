"""Deletes what was kept long enough, beside the reconciler and in nobody's way.

It has a thread, a connection and a storage of its own: a storage that is away stops it alone, and
no alarm waits for it. Each reconciler has one; they may work at the same time.
"""

import logging
import random
import threading
import time

from sqlalchemy import Engine

from cutwork import log, loop
from cutwork.errors import CutworkError
from cutwork.purging import Broom, Policy, Purged
from cutwork.settings import Settings
from cutwork.storage import Storage

# A batch is a short transaction, and on SQLite it holds the one lock that there is.
_BATCH, _PAUSE = 100, 0.1
# What could not be deleted is tried again when a new broom looks at everything.
_DAY = 86400.0


class Janitor:
    """``start`` it, ``close`` it; ``run_once`` is one sweep and says when to do the next."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
        self._broom: Broom | None = None
        self._renew_at = 0.0

    def start(self) -> None:
        """Begin, if there is anything to do: by default all is kept."""
        if Policy.of(self._settings).ages:
            self._thread.start()

    def close(self) -> None:
        """Stop after the batch that is under way; whoever waits for a dead storage is left."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def run_once(self) -> float:
        """Sweep; returns the seconds until it is worth sweeping again."""
        try:
            if self._broom is None or time.monotonic() > self._renew_at:
                storage = Storage.at(self._settings.storage)
                self._broom = Broom(self._engine, storage, _BATCH, self._rest)
                self._renew_at = time.monotonic() + _DAY
            for name, done in self._broom.sweep(Policy.of(self._settings)).items():
                _tell(name, done)
        except CutworkError as error:
            log.event("nothing purged", level=logging.WARNING, fault=error)
        # Not all reconcilers at once.
        return self._settings.purge_every * random.uniform(0.7, 1.3)  # noqa: S311

    def _rest(self) -> None:
        if self._stop.wait(_PAUSE):
            raise _Stopped

    def _run(self) -> None:
        self._stop.wait(min(self._settings.purge_every, 60) * random.random())  # noqa: S311
        loop.run("janitor", self._quietly, self._stop)

    def _quietly(self) -> float:
        try:
            return self.run_once()
        except _Stopped:
            return 0.0


class _Stopped(Exception):
    """The process ends; what was deleted is deleted, the rest is for the next time."""


def _tell(name: str, done: Purged) -> None:
    if done.jobs:
        log.event("purged", what=name, jobs=done.jobs, files=done.files, bytes=done.size)
    if done.kept:
        log.event("not purged", level=logging.WARNING, jobs=done.kept, fault=done.fault)
