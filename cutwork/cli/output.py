"""How commands print: JSON for programs, aligned columns for people, colour on terminals only."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

_COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "held": "yellow",
    "uncertain": "yellow",
    "cancelled": "bright_black",
}


def is_terminal(*, err: bool = False) -> bool:
    """Whether a person looks at standard output (or standard error)."""
    return (sys.stderr if err else sys.stdout).isatty()


def print_json(value: Any) -> None:
    """One document, indented; names are those of ``Job.to_json()``."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def styled(state: str) -> str:
    """A state in its colour; click takes the colour away where nobody sees it."""
    return click.style(state, fg=_COLOURS.get(state.strip(), "cyan"))


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, state: int = -1) -> None:
    """Columns as wide as their widest cell; numbers to the right; column ``state`` in colour."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        for index in range(len(head))
    ]
    for number, row in enumerate([list(head), *cells]):
        line = []
        for index, cell in enumerate(row):
            last = index == len(row) - 1
            padded = cell.rjust(widths[index]) if right[index] else cell.ljust(widths[index])
            text = cell if last and not right[index] else padded
            line.append(styled(text) if number and index == state else text)
        click.echo("  ".join(line).rstrip())


def moment(value: datetime | None) -> str:
    """A time as people here read it, to the second."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if value else ""


def ago(value: datetime | None) -> str:
    """How long ago, roughly; by this machine's clock."""
    return "" if value is None else duration((datetime.now(UTC) - value).total_seconds())


def duration(seconds: float) -> str:
    """``4 s``, ``12 min``, ``5 h``, ``3 d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.1f}"
    return str(value)
