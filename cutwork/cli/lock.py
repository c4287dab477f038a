"""One ``cutwork up`` in one HOME: a lock that the kernel takes back when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cutwork.errors import InvalidSetting

_NAME = "up.lock"


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold the lock of this HOME, which is made if it is missing.

    Raises:
        InvalidSetting: another ``cutwork up`` holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with open(home / _NAME, "a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
        else:
            holder = ""
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        if holder:
            rule = f"is where `cutwork up` runs already (process {holder})"
            raise InvalidSetting("CUTWORK_HOME", str(home), rule, "use that one, or another HOME")
        yield


def is_running(home: Path) -> bool:
    """Whether a ``cutwork up`` holds the lock of this HOME."""
    try:
        with open(home / _NAME, encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
