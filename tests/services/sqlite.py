"""SQLite: a file for each test."""

import sqlite3
import tempfile
from itertools import count
from pathlib import Path


class SQLite:
    """Gives the path of a file that does not exist yet."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="cutwork-sqlite-")
        self._numbers = count(1)

    @property
    def label(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def empty(self) -> str:
        return f"sqlite:///{Path(self._directory.name) / f'{next(self._numbers)}.db'}"

    def close(self) -> None:
        self._directory.cleanup()


def find(_explicit: str = "") -> SQLite:
    """SQLite comes with Python."""
    return SQLite()
