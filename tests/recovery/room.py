"""A directory in which there is no room left, for real, with the privileges that are at hand."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

from tests.services.processes import Processes

SIZE = 16 << 20
# More than a log of the tests, less than a picture of noise or SQLite's own log.
LARGEST = 64 << 10


class Room(Protocol):
    folder: Path

    def fill(self) -> None: ...
    def free(self) -> None: ...
    def inside(self) -> AbstractContextManager[None]: ...


class Disk:
    """A file system of sixteen megabytes: who mounts it has to be root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * 4096):
                pass

    def free(self) -> None:
        self._ballast.unlink()

    def inside(self) -> AbstractContextManager[None]:
        return nullcontext()


class Limit:
    """The running processes may write no larger file; this one may not either while ``inside``."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.folder, self._processes = folder, processes
        self._usual = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        self._limit(LARGEST, *self._started())

    def free(self) -> None:
        self._limit(self._usual[0], *self._started())

    @contextmanager
    def inside(self) -> Iterator[None]:
        self._limit(LARGEST, os.getpid())
        try:
            yield
        finally:
            self._limit(self._usual[0], os.getpid())

    def _started(self) -> set[int]:
        return {one.pid for process in self._processes.started for one in process.family()}

    def _limit(self, size: int, *pids: int) -> None:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, self._usual[1]))


@contextmanager
def small_room(folder: Path, processes: Processes) -> Iterator[Room]:
    """A disk where this user may mount one, else a limit; both end with the processes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)]
    mounted = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode
    room: Room = Disk(folder) if mounted else Limit(folder, processes)
    try:
        yield room
    finally:
        processes.close()
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)
