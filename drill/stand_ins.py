"""What stands around the real code in a simulation: its database, host clock, disk and wire.

Each is the real thing as far as the code above it can tell, and comes to an edge where other
processes may run, where this one may die, and where the seed lets something fail.
"""

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from requests import PreparedRequest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from cutwork import provider
from cutwork.ledger import Ticket
from cutwork.provider import NotSent
from cutwork.reply import Reply
from cutwork.settings import Settings
from cutwork.shelves import Source, pieces
from cutwork.worker.group import Group


class Edges(Protocol):
    """What a stand-in asks of the simulation."""

    def edge(self, name: str, delay: float | None = None) -> None: ...
    def strikes(self, kind: str) -> bool: ...
    def committed(self) -> None: ...
    def seconds(self) -> float: ...


class Bell:
    """An event that is waited for at edges."""

    def __init__(self, edges: Edges) -> None:
        self._edges, self._rung = edges, False

    def wait(self) -> None:
        while not self._rung:
            self._edges.edge("waits for its turn")

    def ring(self) -> None:
        self._rung = True


class WatchedGroup(Group):  # type: ignore[misc]  # the roles are read elsewhere
    """Says which tickets it gave, in the step that asked for them."""

    def __init__(self, engine: Engine, edges: Edges, took: Callable[[Ticket], None]) -> None:
        super().__init__(engine, lambda: Bell(edges))
        self._took = took

    def run(self, job_id: UUID, verb: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().run(job_id, verb, *args, **kwargs)
        if isinstance(result, Ticket):
            self._took(result)
        return result


class CutEngine:
    """An engine whose transactions have edges before, at and after their commit.

    Nobody else runs between the first statement and the commit: SQLite's write lock, and elsewhere
    the row's, would make them wait.
    """

    def __init__(self, engine: Engine, edges: Edges) -> None:
        self._engine, self._edges = engine, edges
        self.dialect = engine.dialect

    def execution_options(self, **options: Any) -> Engine:
        return self._engine.execution_options(**options)

    def connect(self) -> Connection:
        return self._engine.connect()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        self._edges.edge("begin")
        with self._engine.begin() as tx:
            yield tx
            self._edges.edge("before commit", 0)
            if self._edges.strikes("commit refused"):
                raise _outage()
        self._edges.committed()
        if self._edges.strikes("commit unanswered"):
            raise _outage()
        self._edges.edge("after commit")


def _outage() -> OperationalError:
    lost = ConnectionError("the database closed the connection")
    return OperationalError("COMMIT", None, lost, connection_invalidated=True)


class HostClock:
    """Stands where a module says ``time``: it moves with the simulation; sleep is an edge."""

    def __init__(self, edges: Edges, start: float) -> None:
        self._edges, self._start = edges, start

    def time(self) -> float:
        return self._start + self._edges.seconds()

    def monotonic(self) -> float:
        return self._edges.seconds()

    def sleep(self, seconds: float) -> None:
        self._edges.edge("sleep", seconds)


class MemoryShelf:
    """A disk in memory."""

    faults: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self.files: dict[str, bytes] = {}

    def put(self, key: str, source: Source) -> None:
        self._edges.edge("put: before")
        if self._edges.strikes("disk full"):
            raise OSError(errno.ENOSPC, "no space left")
        self.files[key] = b"".join(pieces(source))
        self._edges.edge("put: after")

    def open(self, key: str) -> BinaryIO:
        return io.BytesIO(self._at(key))

    def size(self, key: str) -> int:
        return len(self._at(key))

    def delete(self, key: str) -> None:
        self.files.pop(key, None)

    def clear(self, folder: str) -> None:
        for key in [one for one in self.files if one.startswith(f"{folder}/")]:
            del self.files[key]

    def path(self, _key: str) -> Path | None:
        return None

    def explain(self, error: Exception) -> tuple[str, str]:
        return str(error), ""

    def _at(self, key: str) -> bytes:
        if key not in self.files:
            raise FileNotFoundError(key)
        return self.files[key]


class Wireless(provider.Provider):
    """The real client, forms and answers included; only its wire leads to ``answer``."""

    def __init__(
        self, settings: Settings, answer: Callable[[PreparedRequest], Reply | NotSent]
    ) -> None:
        super().__init__(settings)
        self._answer = answer

    def _exchange(
        self, request: Callable[[], PreparedRequest], *_: object, **__: object
    ) -> Reply | NotSent:
        return self._answer(request())
