"""What is wrong with this installation, each in a sentence, each with what to do about it."""

import os
import secrets
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, and_, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from cutwork import database, gate, schema
from cutwork.clock import after
from cutwork.contradictions import FAULT, OK, Finding, contradictions
from cutwork.errors import CutworkError, DatabaseNotReady
from cutwork.explain import explain
from cutwork.settings import Settings
from cutwork.storage import Storage

_PATIENCE = 3.0
_OVERDUE = 10.0


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, as it is made; nothing is changed but a probe file that is deleted again."""
    yield from contradictions(settings)
    yield from _database(settings)
    yield _broker(settings)
    yield _storage(settings)


def is_missing_file(url: str) -> bool:
    """Whether this is a SQLite database whose file does not exist."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return False
    return (
        parsed.get_backend_name() == "sqlite"
        and parsed.database not in (None, "", ":memory:")
        and not Path(str(parsed.database)).exists()
    )


def _database(settings: Settings) -> Iterator[Finding]:
    engine: Engine | None = None
    try:
        if is_missing_file(settings.database):  # do not make it by looking for it
            raise DatabaseNotReady(None, schema.REVISION)
        engine = database.engine(settings.database, pool_size=1)
        database.ensure_ready(engine)
        yield Finding(OK, "database", "the database answers and has the right tables")
        with database.read_only(engine).connect() as tx:
            yield from _gates(tx)
            yield from _overdue(tx, settings)
    except CutworkError as error:
        fault, _, remedy = str(error).rpartition(": ")
        yield Finding(FAULT, "database", fault, remedy)
    except (DBAPIError, OSError) as error:
        reason = _first_line(getattr(error, "orig", None) or error)
        fault = f"the database cannot be used ({reason})"
        yield Finding(FAULT, "database", fault, "start it, or set CUTWORK_DATABASE_URL")
    finally:
        if engine is not None:
            engine.dispose()


def _gates(tx: Connection) -> Iterator[Finding]:
    for one in gate.read(tx):
        if one.open:
            yield Finding(OK, "gate", f"key {one.key_id} is open")
        elif one.paused:
            fault = f"key {one.key_id} is paused ({one.reason}): nothing is sent with it"
            yield Finding(FAULT, "gate", fault, f"`cutwork resume --key {one.key_id}`")
        else:
            fault = f"key {one.key_id} is closed for a while ({one.reason})"
            yield Finding(FAULT, "gate", fault, "wait, or lower CUTWORK_RATE if it comes again")


def _overdue(tx: Connection, settings: Settings) -> Iterator[Finding]:
    """The job that should have gone on longest ago says what is in the way of all."""
    late = and_(schema.job.c.due_at.is_not(None), schema.job.c.due_at < after(-_OVERDUE))
    query = select(schema.job.c.id).where(late).order_by(schema.job.c.due_at).limit(1)
    job_id = tx.execute(query).scalar()
    if job_id is None:
        yield Finding(OK, "progress", "no job is overdue")
        return
    told = explain(tx, job_id, settings)
    reason = f"{told.waits[:1].lower()}{told.waits[1:].rstrip('.')}"
    fault = f"job {job_id} should have gone on: {reason}"
    yield Finding(FAULT, "progress", fault, f"`cutwork explain {job_id}` says more")


def _broker(settings: Settings) -> Finding:
    if settings.broker.startswith("filesystem:"):
        return _folder(settings.home.absolute(), "broker")
    kombu: Any = import_module("kombu")
    options = {"socket_connect_timeout": _PATIENCE, "connect_timeout": _PATIENCE}
    address = {"connect_timeout": _PATIENCE, "transport_options": options}
    try:
        with kombu.Connection(settings.broker, **address) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=_PATIENCE)
    except (kombu.exceptions.OperationalError, OSError) as error:
        reason = _first_line(error)
    except (KeyError, ImportError, AttributeError, ValueError) as error:  # kombu's for a bad URL
        return Finding(
            FAULT, "broker", f"CUTWORK_BROKER_URL cannot be used ({_first_line(error)})",
            "write amqp://user@host or redis://host, and install the extra for it",
        )  # fmt: skip
    else:
        return Finding(OK, "broker", "the broker answers")
    fault = f"the broker cannot be reached ({reason})"
    return Finding(FAULT, "broker", fault, "start it, or set CUTWORK_BROKER_URL")


def _folder(home: Path, about: str) -> Finding:
    """The embedded defaults need no more than a directory that can be written."""
    place = next(one for one in (home, *home.parents) if one.exists())
    if os.access(place, os.W_OK | os.X_OK):
        return Finding(OK, about, f"the embedded {about} can keep its files under {home}")
    fault = f"the embedded {about} cannot write under {home}"
    return Finding(FAULT, about, fault, "set CUTWORK_HOME to a directory that is yours")


def _storage(settings: Settings) -> Finding:
    if not settings.storage_url and not settings.home.exists():
        return _folder(settings.home.absolute(), "storage")
    probe = secrets.token_bytes(16)
    try:
        storage = Storage.at(settings.storage)
        uri = storage.put(f"doctor/{probe.hex()}.bin", probe)
        found = storage.get(uri)
        storage.delete(uri)
    except CutworkError as error:
        remedy = getattr(error, "remedy", "") or "see that it exists and may be written"
        fault = str(error).removesuffix(f": {remedy}")
        return Finding(FAULT, "storage", fault, remedy)
    if found != probe:
        fault = "storage gave back something else than was put there"
        return Finding(FAULT, "storage", fault, "use another CUTWORK_STORAGE_URL")
    return Finding(OK, "storage", "storage takes, gives back and deletes files")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
