"""The threads of a worker that do the jobs of its messages side by side.

An executor of the standard library does it too, with a lock, a condition and a wake-up for each
job; whoever brings a message waits for the last of its jobs only.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Crowd:
    """At most ``size`` threads for all who come; they are made when they are needed, and stay."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._growing = threading.Lock()
        self._threads = 0

    def map(self, step: Callable[[T], U], things: Iterable[T]) -> list[U]:
        """``step`` of each, in their order, when all are done; raises the first fault of one."""
        todo = list(things)
        if not todo:
            return []
        made: list[Any] = [None] * len(todo)
        faults: list[BaseException] = []
        left = list(range(len(todo)))
        last: SimpleQueue[None] = SimpleQueue()

        def one(place: int) -> None:
            try:
                made[place] = step(todo[place])
            except BaseException as error:  # noqa: BLE001 - it is raised by who brought the thing
                faults.append(error)
            finally:
                if left.pop() == 0:  # whoever takes the first of the list is the last to come
                    last.put(None)

        self._grow(len(todo))
        for place in range(len(todo)):
            self._work.put(partial(one, place))
        last.get()
        if faults:
            raise faults[0]
        return made

    def _grow(self, more: int) -> None:
        if self._threads < self._size:
            with self._growing:
                for _ in range(min(more, self._size - self._threads)):
                    self._threads += 1
                    threading.Thread(target=self._run, name="job", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._work.get()()
