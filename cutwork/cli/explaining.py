"""``cutwork explain``: the story of a job, and what it waits for."""

import click

from cutwork.cli.desk import Desk
from cutwork.cli.ids import resolve, short
from cutwork.cli.output import print_json, styled
from cutwork.explain import explain as tell


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def explain(job_id: str, as_json: bool) -> None:
    """Say what happened to a job, where it stands, what it waits for, and what comes next."""
    desk = Desk.open()
    with desk.reading.connect() as tx:
        told = tell(tx, resolve(tx, job_id), desk.settings)
    if as_json:
        print_json(told.to_json())
        return
    click.echo(f"job {told.job_id} (short: {short(told.job_id)}) is {styled(told.state)}")
    click.echo()
    first = told.timeline[0].at
    for one in told.timeline:
        passed = (one.at - first).total_seconds()
        line = f"  {one.at.astimezone():%Y-%m-%d %H:%M:%S}  {passed:+9.3f} s  {one.what:<14}"
        click.echo(f"{line}  {one.detail}".rstrip())
    click.echo()
    for sentence in (told.stands, told.waits, told.next):
        click.echo(sentence)
