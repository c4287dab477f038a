"""``cutwork doctor``: what is wrong here, and what to do about it."""

import click

from cutwork.cli import lock
from cutwork.cli.output import print_json, table
from cutwork.cli.settings import lines, rows
from cutwork.contradictions import FAULT, OK, WARNING, Finding
from cutwork.doctor import examine
from cutwork.settings import current

_MARKS = {OK: ("ok", "green"), WARNING: ("warning", "yellow"), FAULT: ("FAULT", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print settings and findings as JSON.")
def doctor(as_json: bool) -> int:
    """Print every setting and look for what is wrong; status 1 when something is."""
    settings = current()
    if as_json:
        found = list(examine(settings))
        settled = [vars(one) for one in lines(settings)]
        print_json({"settings": settled, "findings": [one.to_json() for one in found]})
        return 1 if any(one.level == FAULT for one in found) else 0
    table(("setting", "value", "default", "unit"), rows(lines(settings)))
    click.echo()
    if lock.is_running(settings.home):
        click.echo(f"`cutwork up` runs in {settings.home.absolute()}, with settings of its own.\n")
    faults = 0
    for one in examine(settings):
        _print(one)
        faults += one.level == FAULT
    click.echo()
    click.echo(f"{faults} faults" if faults != 1 else "1 fault")
    return 1 if faults else 0


def _print(one: Finding) -> None:
    mark, colour = _MARKS[one.level]
    click.echo(f"{click.style(f'{mark:<8}', fg=colour)} {one.about}: {one.sentence}")
    if one.remedy:
        click.echo(f"{'':<8} → {one.remedy}")
