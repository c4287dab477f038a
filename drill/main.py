"""The command line of the kit: ``simulate`` runs seeds, ``points`` lists where roles may die."""

import time
from collections import Counter

import click

from .points import POINTS
from .seeds import simulate_all, simulate_each
from .simulator import Broken, Outcome, Place

_EVERY = 10.0


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Break cutwork on purpose, and check what must never break."""


@main.command("simulate")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first.")
@click.option("--jobs", type=click.IntRange(4), default=20, show_default=True, help="In each.")
@click.option("--database", default="", help="A database to use, and to empty; SQLite by default.")
@click.option("--trace", is_flag=True, help="Print what happened, line by line.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="At the same time."
)
def simulate_seeds(
    seeds: int, seed: int, jobs: int, database: str, trace: bool, processes: int
) -> None:
    """T2: run seeds, each a simulation of its own."""
    if processes > 1 and (database or trace):
        raise click.UsageError("--processes goes with neither --database nor --trace")
    total = Total()
    lines: list[str] | None = [] if trace else None
    wanted = range(seed, seed + seeds)
    with Place(database) as place:
        said = time.monotonic()
        for number, came in (
            simulate_all(wanted, jobs, processes)
            if processes > 1
            else simulate_each(wanted, jobs, place, lines)
        ):
            total.add(number, came)
            while lines:
                click.echo(lines.pop(0))
            if time.monotonic() - said > _EVERY:
                said = time.monotonic()
                click.echo(f"{number - seed + 1} seeds, {len(total.broken)} broken", err=True)
    total.show()
    raise SystemExit(1 if total.broken else 0)


@main.command("points")
def list_points() -> None:
    """T3: the points for ``python -m cutwork.drill.crashing POINT[:N] ROLE …``."""
    for point, role in POINTS.items():
        click.echo(f"{role:<11} {point}")


class Total:
    """What many seeds showed."""

    def __init__(self) -> None:
        self.seeds = self.charges = 0
        self.broken: list[int] = []
        self.struck: Counter[str] = Counter()
        self.sometimes: Counter[str] = Counter()
        self.states: Counter[str] = Counter()

    def add(self, seed: int, outcome: Outcome | Broken) -> None:
        if isinstance(outcome, Broken):
            self.broken.append(seed)
            click.echo(f"seed {seed}: {outcome}", err=True)
            return
        self.seeds += 1
        self.charges += outcome.charges
        self.struck += outcome.struck
        self.sometimes += outcome.sometimes
        self.states += outcome.states

    def show(self) -> None:
        for title, counts in (
            ("faults injected", self.struck),
            ("sometimes", self.sometimes),
            ("jobs", self.states),
        ):
            click.echo(f"{title} ({counts.total()})")
            for name, times in counts.most_common():
                click.echo(f"  {name:<34} {times:>9}")
        click.echo(f"{self.seeds} seeds held, {len(self.broken)} broke; {self.charges} charges")
