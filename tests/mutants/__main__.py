"""Runs the mutants: ``python -m tests.mutants [NAME …]``; exits with 1 if one survives."""

import sys

import click

from tests.mutants.mutations import MUTATIONS
from tests.mutants.running import notices, pass_unmutated


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Show for each mutation of NAMES (of all) that its test passes without it, fails with it."""
    unknown = set(names) - {one.name for one in MUTATIONS}
    if unknown:
        raise click.BadParameter(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [one for one in MUTATIONS if not names or one.name in names]
    if said := pass_unmutated(chosen):
        click.echo(said)
        raise SystemExit("the tests fail without any mutation")
    survivors = 0
    for one in chosen:
        ran = notices(one)
        survivors += not ran.noticed
        verdict = "caught by" if ran.noticed else "SURVIVES "
        test = one.test.rpartition("::")[2]
        click.echo(f"{one.invariant:<4} {one.name:<36} {ran.seconds:5.1f} s  {verdict} {test}")
        if not ran.noticed:
            click.echo(ran.said)
    click.echo(f"{len(chosen) - survivors} of {len(chosen)} noticed")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
