"""``cutwork stats``: counts of jobs, attempts and charges, and how callbacks and keys do."""

import click

from cutwork import money as accounts
from cutwork.cli.desk import Desk
from cutwork.cli.ids import short
from cutwork.cli.output import duration, moment, print_json, table
from cutwork.money import Money
from cutwork.stats import Callbacks, Stats, collect


@click.command()
@click.option("--money", is_flag=True, help="Charges by day and key, and every second charge.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def stats(money: bool, as_json: bool) -> None:
    """Count jobs by state, attempts by outcome, charges, and say how callbacks and keys do."""
    desk = Desk.open()
    with desk.reading.connect() as tx:
        if money:
            paid = accounts.money(tx)
        else:
            found = collect(tx)
    if as_json:
        print_json(paid.to_json() if money else found.to_json())
    elif money:
        _print_money(paid)
    else:
        _print(found)


def _print(found: Stats) -> None:
    rows = [(state, count, _age(found, state)) for state, count in found.jobs.items()]
    table(("jobs", "count", "oldest"), rows, state=0)
    click.echo()
    table(("attempts", "count"), list(found.attempts.items()))
    click.echo()
    click.echo(
        f"charges: {found.charges}, beyond a job's first: {found.second_charges}, "
        f"attempts that may have been charged: {found.uncertain}"
    )
    shares = [f"{who} {found.share(who):.0%}" for who in sorted(found.decided)]
    click.echo(f"decided by: {', '.join(shares) or 'nobody yet'}")
    _print_callbacks(found.callbacks)
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found.notices.items())
    click.echo(f"notices: {told}")
    if found.keys:
        click.echo()
        rows_ = [
            (one.key_id, one.condition, one.in_flight, moment(one.closed_until), one.reason)
            for one in found.keys
        ]
        table(("key", "gate", "in flight", "closed until", "reason"), rows_)


def _print_callbacks(found: Callbacks) -> None:
    waited = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.waited.items())
    click.echo(
        f"callbacks: decided {found.share:.0%}, lost {found.lost:.1%}, late {found.late}, "
        f"duplicate {found.duplicate}, forged {found.forged}"
        + (f"; they come after {waited}" if waited else "")
    )


def _print_money(found: Money) -> None:
    head = ("day (UTC)", "key", "submits", "charges", "second charges", "uncertain")
    days = [
        (one.day, one.key_id, one.submits, one.charges, one.second, one.uncertain)
        for one in found.days
    ]
    table(head, days)
    click.echo()
    if not found.twice:
        click.echo("No job was charged twice.")
        return
    charged = [(short(one.job_id), ", ".join(map(str, one.attempts))) for one in found.twice]
    table(("charged more than once", "attempts"), charged)
    click.echo("`cutwork explain ID` says how that came about.")


def _age(found: Stats, state: str) -> str:
    oldest = found.oldest.get(state)
    return duration((found.at - oldest).total_seconds()) if oldest else ""
