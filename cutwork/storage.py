"""Our own storage: where source pictures wait and results stay, by URIs that the job rows keep.

A URI is the storage's URL, a slash, and a key: ``file:///srv/cutwork/results/7/image.png``,
``s3://bucket/prefix/results/7/image.png``. It is complete, so a row can be read without settings.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from cutwork.errors import InvalidSetting, StorageError
from cutwork.shelves import Bucket, Directory, Shelf, Source

T = TypeVar("T")

SCHEMES = ("file", "s3", "gs", "az", "memory")

# No name starts with a dot: those are `.`, `..`, and files that are being written.
_KEY = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*(?:/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*")


class Storage:
    """One place for pictures. Safe for threads; open it after a fork, not before.

    Every method raises StorageError when the place refuses, is full, or cannot be reached.
    """

    def __init__(self, base: str, shelf: Shelf) -> None:
        self._base, self._shelf = base, shelf

    @classmethod
    def at(cls, url: str) -> "Storage":
        """Open ``file:///absolute/directory`` (made if it is missing), ``s3://bucket/prefix``,
        ``gs://bucket/prefix``, ``az://container/prefix``, or ``memory://`` (new, for tests).

        Buckets take credentials, region and endpoint from the environment, by the names that
        their own tools use (``AWS_ACCESS_KEY_ID`` …).

        Raises:
            InvalidSetting: the URL has another form; it is not shown, for it may hold a secret.
            StorageError: the directory cannot be made.
        """
        scheme = _check_url(url)
        if scheme == "file":
            root = Path(os.path.normpath(unquote(urlsplit(url).path)))
            directory = Directory(root)
            _attempt(directory, root.as_uri(), directory.make)
            return cls(root.as_uri().rstrip("/"), directory)
        base = "memory://" if scheme == "memory" else url.rstrip("/")
        return cls(base, _bucket(base))

    def uri(self, key: str) -> str:
        """The URI that ``put`` gives to the key, such as ``results/7/image.png``."""
        if not _KEY.fullmatch(key) or len(key) > 512:
            raise StorageError(
                f"{self._base}/…", f"{key!r:.200} is no key", "use letters, digits, and . _ = - /"
            )
        return f"{self._base}/{key}"

    def holds(self, uri: str) -> bool:
        """Whether the URI is of this storage, be the file there or not."""
        return uri.startswith(f"{self._base}/")

    def put(self, key: str, source: Source) -> str:
        """Store bytes, pieces of them, or a copy of a file, and return the URI.

        What was there is replaced. The change is atomic, and durable when this returns.
        """
        uri = self.uri(key)
        _attempt(self._shelf, uri, lambda: self._shelf.put(key, source))
        return uri

    def get(self, uri: str) -> bytes:
        """The whole file."""
        key = self._key(uri)

        def read() -> bytes:
            with self._shelf.open(key) as file:
                return file.read()

        return _attempt(self._shelf, uri, read)

    def open(self, uri: str) -> BinaryIO:
        """The file, for an upload; the caller closes it. A bucket's is in memory."""
        key = self._key(uri)
        return _attempt(self._shelf, uri, lambda: self._shelf.open(key))

    def size(self, uri: str) -> int:
        """The file's size in bytes, without reading it."""
        key = self._key(uri)
        return _attempt(self._shelf, uri, lambda: self._shelf.size(key))

    def exists(self, uri: str) -> bool:
        """Whether the file is there."""
        key = self._key(uri)

        def look() -> bool:
            try:
                self._shelf.size(key)
            except FileNotFoundError:
                return False
            return True

        return _attempt(self._shelf, uri, look)

    def delete(self, uri: str) -> None:
        """Remove the file; one that is gone already is no error."""
        key = self._key(uri)
        _attempt(self._shelf, uri, lambda: self._shelf.delete(key))

    def clear(self, folder: str) -> None:
        """Remove all files whose key begins with ``folder`` and a slash, such as ``results/7``."""
        uri = self.uri(folder)
        _attempt(self._shelf, uri, lambda: self._shelf.clear(folder))

    def path(self, uri: str) -> Path | None:
        """The file's path on this machine; None for a bucket."""
        return self._shelf.path(self._key(uri))

    def _key(self, uri: str) -> str:
        key = uri.removeprefix(f"{self._base}/")
        if key == uri or not _KEY.fullmatch(key):
            raise StorageError(
                f"{uri:.300}",
                f"it is not in this storage ({self._base})",
                "set CUTWORK_STORAGE_URL to where the file is",
            )
        return key


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        secret = "@" in parts.netloc or bool(parts.query or parts.fragment)
    except ValueError:
        raise _refused("must be a URL") from None
    if parts.scheme not in SCHEMES or "://" not in url:
        remedy = f"write a directory as {Path('/srv/cutwork').as_uri()}"
        raise _refused(f"must start with one of {', '.join(SCHEMES)}, and ://", remedy)
    if secret:
        raise _refused(
            "must have no user, query or fragment", "give credentials in the environment"
        )
    if parts.scheme == "file" and (
        parts.netloc not in ("", "localhost") or parts.path in ("", "/")
    ):
        raise _refused("must name a directory by its absolute path", "write file:///srv/cutwork")
    if parts.scheme in ("s3", "gs", "az") and not parts.netloc:
        raise _refused("must name a bucket", f"write {parts.scheme}://bucket/prefix")
    return parts.scheme


def _bucket(url: str) -> Bucket:
    from obstore.exceptions import BaseError

    try:
        return Bucket(url)
    except (BaseError, ValueError) as error:
        cause = str(error).partition("\n")[0]
    raise _refused(f"must be a bucket that can be opened ({cause})", "complete the environment")


def _refused(rule: str, remedy: str = "") -> InvalidSetting:
    return InvalidSetting("CUTWORK_STORAGE_URL", "(hidden)", rule, remedy)


def _attempt(shelf: Shelf, uri: str, act: Callable[[], T]) -> T:
    try:
        return act()
    except shelf.faults as error:
        reason, remedy = shelf.explain(error)
    # Raised here, so that the cause, whose text may hold a signed URL, is not its context.
    raise StorageError(uri, reason, remedy)
