"""``cutwork owners``: who has jobs in the queue, and who weighs more than others."""

import click

from cutwork import database, turns
from cutwork.cli.desk import Desk
from cutwork.cli.output import print_json, table


@click.command()
@click.argument("owner", required=False)
@click.option(
    "--weight", type=float, help="From now on OWNER's new jobs go so many times as often."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def owners(owner: str | None, weight: float | None, as_json: bool) -> None:
    """List owners with their queued jobs and weights, or set the weight of one.

    At equal priority owners take turns; one of weight 3 goes three times as often as the others,
    whose weight is 1.
    """
    if (owner is None) != (weight is None):
        raise click.UsageError("name an owner together with --weight, or neither")
    desk = Desk.open()
    if owner is not None and weight is not None:
        database.transact(desk.engine, turns.set_weight, owner, weight)
        click.echo(f"owner {owner!r} has weight {weight:g}; jobs that are queued keep their turns")
        return
    with desk.reading.connect() as tx:
        queued, weights = dict(turns.queued_by_owner(tx)), turns.weights(tx)
    names = [*queued, *(name for name in weights if name not in queued)]
    rows = [(name, queued.get(name, 0), weights.get(name, 1.0)) for name in names]
    if as_json:
        print_json([dict(zip(("owner", "queued", "weight"), row, strict=True)) for row in rows])
        return
    table(("owner", "queued", "weight"), [(name or "(none)", *rest) for name, *rest in rows])
