"""The command line of the kit: ``simulate`` runs seeds, ``crash`` kills roles at ``points``."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

import click

from cutwork.cli.output import print_json, table

from .points import POINTS
from .range import ranged
from .round import Round, rounds, whole
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


@main.command("crash")
@click.option(
    "--pool", type=click.Choice(("threads", "prefork")), default="threads", show_default=True,
    help="What the workers run jobs in.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1), default=20, show_default=True, help="At least, at each point."
)
@click.option("--points", "chosen", default="", help="Only these, with commas.  [default: all]")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Decides delays and faults.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def crash_roles(pool: str, jobs: int, chosen: str, seed: int, as_json: bool) -> int:
    """T3: let real roles kill themselves at each point, and check what came of it.

    Uses CUTWORK_DATABASE_URL, CUTWORK_BROKER_URL and CUTWORK_STORAGE_URL as they are set, or
    embedded ones that are thrown away. The provider is always a sandbox of its own. It refuses a
    database with unfinished jobs that are not its own.
    """
    points = _points(chosen)
    again = f"python -m cutwork.drill crash --pool {pool} --jobs {jobs} --seed {seed}"
    again += f" --points {chosen}" if chosen else ""
    click.echo(f"to repeat it: {again}", err=True)
    with ranged(os.environ, pool, seed) as ground:
        shown = []
        for one in rounds(ground, points, jobs, pool):
            shown.append(one)
            click.echo(f"{one.point} ({one.victim}): {one.died} died, {one.jobs} jobs", err=True)
            for line in one.violations:
                click.echo(line, err=True)
        total = whole(ground)
    broken = [line for one in (*shown, total) for line in one.violations]
    if as_json:
        rows = [one.to_json() for one in shown]
        print_json({"points": rows, "all": total.to_json(), "pool": pool, "repeat": again})
    else:
        _show_rounds([*shown, total])
        for line in broken:
            click.echo(line, err=True)
    return 1 if broken else 0


def _points(chosen: str) -> list[str]:
    points = [word.strip() for word in chosen.split(",") if word.strip()] or [*POINTS]
    for point in points:
        if point not in POINTS:
            near = ", ".join(get_close_matches(point, POINTS, 3)) or "see `points`"
            raise click.BadParameter(f"there is no point {point} ({near})", param_hint="--points")
    return points


def _show_rounds(shown: Sequence[Round]) -> None:
    head = ("point", "role", "died", "times", "jobs", "charges", "second", "violations")
    rows = [
        (
            one.point, one.role, one.victim, one.died, one.jobs, one.charges, one.second_charges,
            len(one.violations),
        )
        for one in shown
    ]  # fmt: skip
    table(head, rows)


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
