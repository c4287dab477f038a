"""The two kinds of storage: a directory of this machine, and a bucket (or memory, for tests).

Both know keys only; what a URI is, ``storage`` knows. ``faults`` are the exceptions that their
methods raise for what may go wrong outside of this program, ``explain`` makes a reason and a remedy
of one.
"""

import errno
import io
import mimetypes
import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

Source = bytes | Path | Iterable[bytes]

_PIECE = 1 << 20
# Calls of the system, and no file object: that asks three more of it, and each one lets go of the
# interpreter, for which the other threads of a worker stand in line.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Shelf(Protocol):
    """What storage needs of a place; a missing key raises FileNotFoundError, but for ``delete``."""

    faults: tuple[type[Exception], ...]

    def put(self, key: str, source: Source) -> None: ...
    def open(self, key: str) -> BinaryIO: ...
    def size(self, key: str) -> int: ...
    def delete(self, key: str) -> None: ...
    def clear(self, folder: str) -> None: ...
    def path(self, key: str) -> Path | None: ...
    def explain(self, error: Exception) -> tuple[str, str]: ...


class Directory:
    """Files below ``root``. Written here and not by obstore, whose local store never calls fsync:
    a row that says "stored" has to be true after a power cut.
    """

    faults: tuple[type[Exception], ...] = (OSError,)

    _reasons: ClassVar[dict[int, tuple[str, str]]] = {
        errno.ENOENT: ("there is no such file", ""),
        errno.ENOSPC: ("the disk is full", "free some space"),
        errno.EDQUOT: ("the disk quota is used up", "free some space or raise the quota"),
        errno.EFBIG: ("the file is larger than this process may write", "raise `ulimit -f`"),
        errno.EACCES: ("permission denied", "let this user read and write there"),
        errno.EPERM: ("permission denied", "let this user read and write there"),
        errno.EROFS: ("the file system is read-only", "mount it read-write"),
    }

    def __init__(self, root: Path) -> None:
        self.root = root
        self._syncs: dict[Path, _Sync] = {}

    def make(self) -> None:
        """Make the root, durably, if it is missing."""
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _sync(folder.parent)

    def put(self, key: str, source: Source) -> None:
        """Write a hidden file, make it durable, then give it its name: never half a file."""
        target = self.root / key
        part = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            file = _create(part)
            try:
                for piece in pieces(source):
                    _write(file, piece)
                os.fsync(file)
            finally:
                os.close(file)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._sync_names(target)

    def open(self, key: str) -> BinaryIO:
        return (self.root / key).open("rb")

    def size(self, key: str) -> int:
        return (self.root / key).stat().st_size

    def delete(self, key: str) -> None:
        """Remove the file and the directories that it leaves empty."""
        target = self.root / key
        target.unlink(missing_ok=True)
        for folder in target.relative_to(self.root).parents[:-1]:
            try:
                (self.root / folder).rmdir()
            except OSError:
                return

    def clear(self, folder: str) -> None:
        """Remove whatever is below the folder, hidden files that were never finished too."""
        target = self.root / folder
        for file in [one for one in target.rglob("*") if not one.is_dir()]:
            self.delete(file.relative_to(self.root).as_posix())

    def path(self, key: str) -> Path | None:
        return self.root / key

    def explain(self, error: Exception) -> tuple[str, str]:
        number = getattr(error, "errno", None) or 0
        return self._reasons.get(number, (getattr(error, "strerror", None) or str(error), ""))

    def _sync_names(self, target: Path) -> None:
        # Up to the root, not only the new ones: another writer may have made a directory a moment
        # ago and not have synced it yet.
        below = target.relative_to(self.root).parents
        for folder in below[:-2]:  # a job's own, where nobody else writes just now
            _sync(self.root / folder)
        for folder in below[-2:]:
            shared = self.root / folder
            self._syncs.setdefault(shared, _Sync(shared)).wait()


class Bucket:
    """Objects below a URL that obstore knows; its credentials come from the environment."""

    _process: ClassVar[int | None] = None

    def __init__(self, url: str) -> None:
        import obstore
        from obstore import store
        from obstore.exceptions import BaseError

        self._api: Any = obstore
        self.faults: tuple[type[Exception], ...] = (BaseError, OSError)
        if url == "memory://":
            self._store: Any = store.MemoryStore()
        else:
            # No client_options here: they would replace those of the environment as a whole.
            retries: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
            self._store = store.from_url(url, retry_config=retries)

    def put(self, key: str, source: Source) -> None:
        """One request, so that no parts of a broken upload stay behind, unseen and paid for."""
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        whole = source if isinstance(source, Path) else b"".join(pieces(source))
        self._api.put(
            self._ready(), key, whole, attributes={"Content-Type": kind}, use_multipart=False
        )

    def open(self, key: str) -> BinaryIO:
        return io.BytesIO(self._api.get(self._ready(), key).bytes())

    def size(self, key: str) -> int:
        return int(self._api.head(self._ready(), key)["size"])

    def delete(self, key: str) -> None:
        try:
            self._api.delete(self._ready(), key)
        except FileNotFoundError:
            return

    def clear(self, folder: str) -> None:
        """Remove whatever is below the folder."""
        for page in self._api.list(self._ready(), prefix=folder):
            for one in page:
                self.delete(one["path"])

    def path(self, key: str) -> Path | None:  # noqa: ARG002 (a bucket has no paths)
        return None

    def _ready(self) -> Any:
        # obstore's threads do not survive a fork: the child would wait for them for ever.
        if Bucket._process not in (None, os.getpid()):
            raise OSError("a bucket was used before this process was forked")
        Bucket._process = os.getpid()
        return self._store

    def explain(self, error: Exception) -> tuple[str, str]:
        name = type(error).__name__
        if isinstance(error, FileNotFoundError):
            return "there is no such file", ""
        if name in ("PermissionDeniedError", "UnauthenticatedError"):
            return "the bucket denies access", "check the bucket and the credentials"
        # A query may hold a signature, and the lines below the first the whole request.
        line = re.sub(r"\?\S*", "", str(error).partition("\n")[0])
        return line[:300], "check the network and the bucket; it can be tried again"


class _Sync:
    """Makes the names in a folder durable: once for all threads that want it at one moment.

    Each costs a flush of the disk, and many results are stored side by side.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._begun = self._done = 0

    def wait(self) -> None:
        """Return when a sync is done that began after this call."""
        wanted = self._begun + 1
        with self._lock:
            if self._done < wanted:
                self._begun += 1
                _sync(self._folder)
                self._done = self._begun


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def pieces(source: Source) -> Iterator[bytes]:
    """What there is to store; raises OSError when it is a file that cannot be read."""
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, Path):
        with source.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    else:
        yield from source


def _create(part: Path) -> int:
    # A delete takes empty directories away: between the two lines, and between two levels of them.
    for _ in range(20):
        with suppress(FileNotFoundError, FileExistsError):
            part.parent.mkdir(parents=True, exist_ok=True)
            return os.open(part, _NEW, 0o666)
    return os.open(part, _NEW, 0o666)


def _write(file: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(file, left) :]
