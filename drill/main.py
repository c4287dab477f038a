"""The command line of the kit: ``simulate`` runs seeds, ``points`` lists where roles may die."""

import time
from collections import Counter

import click

from .points import POINTS
from .simulator import Broken, Outcome, Place, simulate

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
def simulate_seeds(seeds: int, seed: int, jobs: int, database: str, trace: bool) -> None:
    """T2: run seeds one after the other, each a simulation of its own."""
    total = Total()
    with Place(database) as place:
        said = time.monotonic()
        for number in range(seed, seed + seeds):
            lines: list[str] | None = [] if trace else None
            try:
                total.add(simulate(number, jobs, place, lines))
            except Broken as broken:
                total.broken.append(number)
                click.echo(f"seed {number}: {broken}", err=True)
            for line in lines or ():
                click.echo(line)
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

    def add(self, outcome: Outcome) -> None:
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
