"""Room on the disks of this machine that cutwork writes to: pictures, SQLite, downloads."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from urllib.parse import unquote, urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from cutwork.finding import Finding, finding
from cutwork.settings import Settings

_LOW, _FULL = 1024**3, 128 * 1024**2
_FEW_NAMES = 1000


@dataclass(frozen=True)
class Place:
    """A directory, or one that will be made, what is written there, and what that needs."""

    path: Path
    what: str
    full: int = _FULL
    low: int = _LOW


def look_for_room(settings: Settings) -> Iterator[Finding]:
    """A finding for each place that is short of room, or one that says that none is."""
    found = [one for place in places(settings) if (one := measure(place))]
    yield from found or [finding("disk_ok")]


def places(settings: Settings) -> Iterator[Place]:
    """Where this machine's processes write, as the settings say."""
    downloads = settings.store_lane * settings.result_max_bytes
    yield Place(Path(gettempdir()), "results on their way", min(downloads, _FULL), downloads)
    if urlsplit(settings.storage).scheme == "file":
        yield Place(Path(unquote(urlsplit(settings.storage).path)), "pictures")
    if file := sqlite_file(settings.database):
        yield Place(file.parent, "the database")


def measure(place: Place) -> Finding | None:
    """What is wrong with the room there; None when there is enough."""
    there = next((one for one in (place.path, *place.path.parents) if one.exists()), None)
    if there is None:
        return None
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize
    code = "disk_full" if free < place.full else "disk_low" if free < place.low else ""
    if not code and disk.f_files and disk.f_favail < _FEW_NAMES:
        return finding("disk_low", place=there, free=f"{disk.f_favail} inodes", what=place.what)
    return finding(code, place=there, free=_size(free), what=place.what) if code else None


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for a database in memory or of another kind."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def _size(count: int) -> str:
    return f"{count / 1024**2:.0f} MiB"
