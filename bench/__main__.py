"""``python -m bench [--full] [WORK …]``: measure, print one table, keep the figures as JSON."""

import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click
import psutil

from . import keeping, works
from .measuring import Seen, Verdict, Work, as_json, judge, measure
from .place import Place

RESULTS = Path(__file__).parent / "results"
MODULES = sorted(found.name for found in iter_modules(works.__path__))
PACKAGES = ("sqlalchemy", "psycopg", "celery", "kombu", "requests", "granian")
PEERS = ("dramatiq", "oban", "pgqueuer", "procrastinate")


@click.command()
@click.argument("names", nargs=-1, metavar="[WORK]…")
@click.option("--full", is_flag=True, help="Also what takes minutes; more rounds.")
@click.option("--rounds", type=click.IntRange(1), help="2 by default, 5 with --full.")
@click.option("--keep", is_flag=True, help="Of the works that are named, too.")
def main(names: tuple[str, ...], full: bool, rounds: int | None, keep: bool) -> None:
    """Measure the works (all, or those named) against ceilings and peers in the same run.

    What is measured of all is kept in ``bench/results``; of those that are named only if asked.
    """
    if unknown := set(names) - set(MODULES):
        raise click.UsageError(f"no work {', '.join(unknown)}; there are {', '.join(MODULES)}")
    place, began = Place.here(quick=not full), time.monotonic()
    rounds = rounds or (5 if full else 2)
    measured: list[keeping.Kept] = []
    kept = RESULTS / f"{'full' if full else 'quick'}.json"
    before = keeping.read(kept) if names else []
    facts = {**_facts(), "rounds": rounds}
    for work in _works(names or tuple(MODULES), place):
        seen = measure(work, rounds, lambda line: click.echo(line, err=True))
        for line in _table(work, seen):
            click.echo(line)
        measured.append({**as_json(work, seen), **facts})
        if keep or not names:  # after each, so that a run that is broken off has measured something
            keeping.write(kept, keeping.renew(before, measured))
    if keep or not names:
        click.echo(f"\nkept in {kept}; again: python -m bench{' --full' if full else ''}")
    click.echo(f"{time.monotonic() - began:.0f} s")


def _works(names: tuple[str, ...], place: Place) -> Iterator[Work]:
    for name in names:
        yield from import_module(f"bench.works.{name}").works(place)


def _table(work: Work, seen: list[Seen]) -> Iterator[str]:
    yield f"\n{work.name}"
    for one in seen:
        figures = "  ".join(f"{name} {value:,.4g}" for name, value in one.figures.items())
        yield f"  {one.way.role:<10}{one.way.name:<34}{figures or one.missing}"
    for verdict in judge(work, seen):
        yield f"  {_sentence(verdict)}"


def _sentence(verdict: Verdict) -> str:
    goal = verdict.goal
    wanted = f"≥ {goal.at_least:g}" if goal.at_least is not None else f"≤ {goal.at_most:g}"
    than = f" of {verdict.against}" if verdict.against else ""
    if verdict.value is None:
        return f"?  {goal.figure} {wanted}{than}: not measured"
    return f"{'✓' if verdict.met else '✗'}  {goal.figure} {verdict.value:.3g}{than} (goal {wanted})"


def _facts() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        cwd=RESULTS.parent,
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "packages": {name: found for name in (*PACKAGES, *PEERS) if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
