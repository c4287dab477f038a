"""The demo's jobs while they run: a table that redraws itself on a terminal, else plain lines."""

import time
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Protocol

import click

from cutwork.cli.ids import short
from cutwork.cli.output import is_terminal, styled
from cutwork.job import Job
from cutwork.states import State

HOW = {
    "callback": "its callback came",
    "poll": "no callback came, so the reconciler asked",
    "reply": "the reply to the submit said so",
}
_STEPS = (State.QUEUED, State.SUBMITTING, State.WAITING, State.STORING, State.SUCCEEDED)


class Board(Protocol):
    """``with board: board.show(jobs)`` as often as you like."""

    def __enter__(self) -> Any: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def show(self, jobs: Sequence[Job]) -> None: ...


def board(names: Sequence[str]) -> Board:
    """The best that standard output can show; ``names`` are the photographs, in order."""
    if is_terminal() and find_spec("rich"):
        return _Table(names)
    return _Lines(names)


def seconds(one: Job) -> float | None:
    """From the commit of the job to its end, by the database's clock."""
    if one.finished_at is None or one.created_at is None:
        return None
    return (one.finished_at - one.created_at).total_seconds()


class _Lines:
    """A line at each change."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._last = names, [""] * len(names)
        self._started = time.monotonic()

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Every line is out already."""

    def show(self, jobs: Sequence[Job]) -> None:
        for index, one in enumerate(jobs):
            if one.state != self._last[index]:
                self._last[index] = one.state
                passed = time.monotonic() - self._started
                name = f"{self._names[index]:<14}"
                click.echo(f"  {passed:5.1f} s  {short(one.id)}  {name}{styled(one.state)}")


class _Table:
    """A table with a bar for each job, drawn over itself."""

    def __init__(self, names: Sequence[str]) -> None:
        from rich.live import Live

        self._names, self._started = names, time.monotonic()
        self._jobs: Sequence[Job] = ()
        self._live = Live(get_renderable=self._draw, refresh_per_second=12, transient=True)

    def __enter__(self) -> "_Table":
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs

    def _draw(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        drawn = Table.grid(padding=(0, 2))
        passed = time.monotonic() - self._started
        for name, one in zip(self._names, self._jobs, strict=False):
            reached = _STEPS.index(one.state) if one.state in _STEPS else 0
            over = seconds(one)
            bar = ProgressBar(total=len(_STEPS) - 1, completed=reached, width=24)
            took = f"{passed if over is None else over:.1f} s"
            state = Text.from_ansi(styled(one.state))
            drawn.add_row(f"  {name}", bar, state, took, HOW.get(one.decided_by or "", ""))
        return drawn
