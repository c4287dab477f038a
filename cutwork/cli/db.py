"""``cutwork db``: the tables."""

import click

from cutwork import database, schema
from cutwork.cli.desk import Desk, shown_url
from cutwork.cli.roles import role
from cutwork.settings import current


@click.group()
def db() -> None:
    """Make, upgrade or check the tables."""


@db.command()
def upgrade() -> None:
    """Make the tables, or bring them up to date; safe to run again, and beside running workers."""
    settings = current()
    engine = database.engine(settings.database, pool_size=1)
    click.get_current_context().call_on_close(engine.dispose)
    before = database.revision(engine)
    role("db upgrade")(engine)
    after = database.revision(engine)
    where = shown_url(settings.database)
    if before == after:
        click.echo(f"{where} is at revision {after} already")
    else:
        click.echo(f"{where} is at revision {after} now (before: {before or 'no tables'})")


@db.command()
def check() -> int:
    """Compare the tables with what this program expects; status 1 when they differ."""
    desk = Desk.open()
    differences: list[str] = role("db check")(desk.engine)
    for difference in differences:
        click.echo(difference)
    if not differences:
        click.echo(f"the tables are as revision {schema.REVISION} has them")
    return 1 if differences else 0
