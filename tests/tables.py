"""Rows written straight into the tables, as no verb would leave them, to be read or counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, insert

from cutwork import database, schema
from cutwork.clock import after, now
from cutwork.migrations.upgrade import upgrade
from cutwork.states import State

REQUEST = {"image_url": "https://shop.example/a.png"}


@contextmanager
def tables_at(url: str) -> Iterator[Engine]:
    """An engine on a database whose tables are up to date and empty."""
    engine = database.engine(url)
    try:
        upgrade(engine)
        yield engine
    finally:
        engine.dispose()


def wipe(engine: Engine) -> None:
    """Empty every table of ours."""
    with engine.begin() as tx:
        for table in reversed(schema.metadata.sorted_tables):
            tx.execute(table.delete())


def job_values(state: State, **changes: Any) -> dict[str, Any]:
    """A job's row; ``due`` is in seconds from now, ``None`` for no alarm."""
    due = changes.pop("due", None)
    return {
        "id": uuid4(), "kind": "segmentation", "state": state, "fence": 0, "tries": 0,
        "priority": 5, "owner": "", "request": REQUEST, "request_digest": "0" * 64, "attempt": 0,
        "created_at": now(), "due_at": None if due is None else after(due), **changes,
    }  # fmt: skip


def add_job(tx: Connection, state: State, **changes: Any) -> None:
    """Write one job; see :func:`job_values`."""
    tx.execute(insert(schema.job).values(job_values(state, **changes)))
