"""What is wrong with this installation, each in a sentence, each with what to do about it.

Every sentence is in ``cutwork.finding``. Nothing is changed: a file and a message go to storage and
to the broker and are deleted again.
"""

import os
import secrets
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from sqlalchemy import Connection, Engine, and_, func, select
from sqlalchemy.exc import DBAPIError

from cutwork import database, gate, room, schema, skew
from cutwork.clock import after
from cutwork.contradictions import contradictions
from cutwork.errors import CutworkError, DatabaseNotReady
from cutwork.events import Kind
from cutwork.explain import explain
from cutwork.finding import OK, Finding, finding, first_line
from cutwork.settings import Settings
from cutwork.storage import Storage

_OVERDUE = 10.0
_DAY = 86400.0


def examine(settings: Settings, *, ask_outside: bool = True) -> Iterator[Finding]:
    """Every finding, as it is made.

    ``ask_outside`` asks the provider about each key, a request of its rate that costs nothing, and
    sends probes to the public URL.
    """
    yield from contradictions(settings)
    yield from _database(settings)
    yield _broker(settings)
    yield _storage(settings)
    yield from room.look_for_room(settings)
    if ask_outside:
        yield from examine_outside(settings)


def glance(settings: Settings) -> Iterator[Finding]:
    """What is not as it should be and can be seen before anything runs.

    Jobs that are overdue are no wonder then.
    """
    yield from contradictions(settings)
    found = [*_database(settings), *room.look_for_room(settings)]
    yield from (one for one in found if one.level != OK and one.about != "progress")


def examine_outside(settings: Settings) -> Iterator[Finding]:
    """Whether the provider takes the keys, and whether its callbacks would reach us."""
    # An app's commands come through this module, and need no HTTP client.
    yield from import_module("cutwork.keys").try_keys(settings)
    yield from import_module("cutwork.reach").reach(settings)


def is_missing_file(url: str) -> bool:
    """Whether this is a SQLite database whose file does not exist."""
    file = room.sqlite_file(url)
    return file is not None and not file.exists()


def _database(settings: Settings) -> Iterator[Finding]:
    engine: Engine | None = None
    try:
        if is_missing_file(settings.database):  # do not make it by looking for it
            raise DatabaseNotReady(None, schema.REVISION)
        engine = database.engine(settings.database, pool_size=1)
        database.ensure_ready(engine)
        yield finding("database_ok")
        with database.read_only(engine).connect() as tx:
            yield skew.compare_database(tx)
            yield from _gates(tx)
            yield from _overdue(tx, settings)
            yield from _refused_hosts(tx)
    except DatabaseNotReady as error:
        yield _not_ready(error)
    except CutworkError as error:
        fault, _, remedy = str(error).rpartition(": ")
        yield finding("database_url", reason=fault, remedy=remedy)
    except (DBAPIError, OSError) as error:
        yield finding("database_away", reason=first_line(getattr(error, "orig", None) or error))
    finally:
        if engine is not None:
            engine.dispose()


def _not_ready(error: DatabaseNotReady) -> Finding:
    if error.found is None:
        return finding("database_empty", wanted=error.wanted)
    code = "database_newer" if error.found > error.wanted else "database_old"
    return finding(code, found=error.found, wanted=error.wanted)


def _gates(tx: Connection) -> Iterator[Finding]:
    for one in gate.read(tx):
        code = "gate_open" if one.open else "gate_paused" if one.paused else "gate_closed"
        yield finding(code, key=one.key_id, reason=one.reason)


def _overdue(tx: Connection, settings: Settings) -> Iterator[Finding]:
    """The job that should have gone on longest ago says what is in the way of all."""
    late = and_(schema.job.c.due_at.is_not(None), schema.job.c.due_at < after(-_OVERDUE))
    query = select(schema.job.c.id).where(late).order_by(schema.job.c.due_at).limit(1)
    job_id = tx.execute(query).scalar()
    if job_id is None:
        yield finding("progress_ok")
        return
    told = explain(tx, job_id, settings)
    reason = f"{told.waits[:1].lower()}{told.waits[1:].rstrip('.')}"
    yield finding("progress", job=job_id, reason=reason)


def _refused_hosts(tx: Connection) -> Iterator[Finding]:
    event = schema.event.c
    lately = and_(event.kind == Kind.HELD, event.at > after(-_DAY))
    query = select(func.count()).where(lately, event.detail.startswith("host_refused"))
    if count := tx.execute(query).scalar_one():
        yield finding("hosts_refused", count=count)


def _broker(settings: Settings) -> Finding:
    if settings.broker.startswith("filesystem:"):
        folder = _folder(settings.home.absolute(), "broker")
        if folder.level != OK or not settings.home.exists():
            return folder
    found: Finding = import_module("cutwork.roundtrip").send_and_receive(settings)
    return found


def _folder(home: Path, about: str) -> Finding:
    """The embedded defaults need no more than a directory that can be written."""
    place = next(one for one in (home, *home.parents) if one.exists())
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return finding("home_ok" if writable else "home", about=about, home=home)


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
        return finding("storage", reason=str(error).removesuffix(f": {remedy}"), remedy=remedy)
    return finding("storage_ok" if found == probe else "storage_changed")
