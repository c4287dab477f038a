"""``cutwork drill``: break this set-up on purpose, with the sandbox as provider, and audit it."""

import secrets

import click

from cutwork.cli.output import print_json, table
from cutwork.cli.roles import role


@click.command()
@click.option("--jobs", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option(
    "--seconds", type=click.FloatRange(5), default=60.0, show_default=True,
    help="How long there is trouble.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), help="Decides faults and kills.  [default: drawn]")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes.")
@click.option(
    "--reconcilers", type=click.IntRange(1), default=2, show_default=True, help="Processes."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def drill(
    jobs: int, seconds: float, seed: int | None, workers: int, reconcilers: int, as_json: bool
) -> int:
    """Kill processes every few seconds, let the provider lie, and check what came of it.

    Uses CUTWORK_DATABASE_URL, CUTWORK_BROKER_URL and CUTWORK_STORAGE_URL as they are set, or
    embedded ones that are thrown away. The provider is always a sandbox of its own. It refuses a
    database with unfinished jobs that are not its own, and wipes its queues on the broker once.
    """
    seed = secrets.randbelow(2**31) if seed is None else seed
    orders = {
        "jobs": jobs, "seconds": seconds, "seed": seed, "workers": workers,
        "reconcilers": reconcilers,
    }  # fmt: skip
    again = f"cutwork drill --jobs {jobs} --seconds {seconds:g} --seed {seed}"
    again += f" --workers {workers} --reconcilers {reconcilers}"
    click.echo(f"to repeat it: {again}", err=True)
    found = role("drill")(orders, lambda line: click.echo(line, err=True))
    if as_json:
        print_json(found.to_json() | {"repeat": again})
    else:
        rows = [("faults injected", *pair) for pair in found.faults.items()]
        rows += [("sometimes", *pair) for pair in found.sometimes.items()]
        rows += [("jobs", *pair) for pair in found.jobs.items()]
        rows += [
            ("money", "charges", found.charges),
            ("money", "second charges", found.second_charges),
            ("money", "second charges explained", found.explained),
            ("invariants", "violations", len(found.violations)),
        ]
        table(("", "what", "times"), rows)
        for line in found.violations:
            click.echo(line, err=True)
    return 1 if found.violations else 0
