"""``cutwork doctor``: what is wrong here, and what to do about it."""

from collections.abc import Callable

import click

from cutwork.cli import lock
from cutwork.cli.output import print_json, table
from cutwork.cli.settings import lines, rows
from cutwork.doctor import examine
from cutwork.finding import FAULT, OK, WARNING, Finding
from cutwork.settings import current

_MARKS = {OK: ("ok", "green"), WARNING: ("warning", "yellow"), FAULT: ("FAULT", "red")}


@click.command()
@click.option("--local", is_flag=True, help="Ask neither the provider nor the public URL.")
@click.option("--json", "as_json", is_flag=True, help="Print settings and findings as JSON.")
def doctor(local: bool, as_json: bool) -> int:
    """Print every setting and look for what is wrong; status 1 when something is.

    Each API key is tried with a question about a task that never was: it costs nothing, and is one
    request of the key's rate. The public URL is tried with two probes that concern no job.
    """
    settings = current()
    found = examine(settings, ask_outside=not local)
    if as_json:
        listed = list(found)
        settled = [vars(one) for one in lines(settings)]
        print_json({"settings": settled, "findings": [one.to_json() for one in listed]})
        return 1 if any(one.level == FAULT for one in listed) else 0
    table(("setting", "value", "default", "unit"), rows(lines(settings)))
    click.echo()
    if lock.is_running(settings.home):
        click.echo(f"`cutwork up` runs in {settings.home.absolute()}, with settings of its own.\n")
    faults = 0
    for one in found:
        show(one, click.echo)
        faults += one.level == FAULT
    click.echo()
    click.echo(f"{faults} faults" if faults != 1 else "1 fault")
    return 1 if faults else 0


def show(one: Finding, line: Callable[[str], object]) -> None:
    """Print a finding, and its remedy on a line of its own."""
    mark, colour = _MARKS[one.level]
    line(f"{click.style(f'{mark:<8}', fg=colour)} {one.about}: {one.sentence}")
    if one.remedy:
        line(f"{'':<8} → {one.remedy}")
