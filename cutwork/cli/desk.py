"""What a command works with: the settings, and the database when its tables are there."""

from functools import cached_property
from pathlib import Path

import click
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from cutwork import database, schema
from cutwork.doctor import is_missing_file
from cutwork.errors import DatabaseNotReady
from cutwork.settings import Settings, current
from cutwork.storage import Storage


class Desk:
    """The settings of this process, a database that is ready, and storage at first use."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine

    @classmethod
    def open(cls) -> "Desk":
        """Raises:
        InvalidSetting: a variable cannot be used.
        DatabaseNotReady: the tables are missing, old or newer.
        """
        settings = current()
        if is_missing_file(settings.database):  # do not make it by looking for it
            raise DatabaseNotReady(None, schema.REVISION)
        engine = database.engine(settings.database, pool_size=2)
        click.get_current_context().call_on_close(engine.dispose)
        database.ensure_ready(engine)
        return cls(settings, engine)

    @property
    def reading(self) -> Engine:
        """The engine for lone SELECTs."""
        return database.read_only(self.engine)

    @cached_property
    def storage(self) -> Storage:
        return Storage.at(self.settings.storage)

    def place(self, uri: str) -> str:
        """Where a person finds the file: its path on this machine, or its URI elsewhere."""
        path: Path | None = self.storage.path(uri) if uri.startswith("file:") else None
        return str(path) if path else uri


def shown_url(url: str) -> str:
    """A database's or broker's URL as a person may see it: without password and options."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return "(hidden)"
    return parsed.set(query={}).render_as_string(hide_password=True)
