"""``cutwork pause`` and ``cutwork resume``: whether anything may go to the provider."""

from collections.abc import Callable

import click
from sqlalchemy import Connection

from cutwork import database, gate
from cutwork.cli.desk import Desk
from cutwork.errors import InvalidInput

_key = click.option("--key", metavar="KEY_ID", help="Only this key, as `cutwork stats` names it.")


@click.command()
@_key
def pause(key: str | None) -> None:
    """Let nothing go to the provider: jobs wait, callbacks and downloads go on."""
    _each(key, gate.pause, "paused", "was paused already")


@click.command()
@_key
def resume(key: str | None) -> None:
    """Let jobs go to the provider again, whatever stopped them."""
    _each(key, gate.resume, "open", "was open already")


def _each(
    key: str | None, verb: Callable[[Connection, str], bool], done: str, already: str
) -> None:
    desk = Desk.open()

    def act(tx: Connection) -> dict[str, bool]:
        gate.ensure(tx, desk.settings.keys)
        known = [one.key_id for one in gate.read(tx)]
        if key is not None and key not in known:
            # What is not a key's public name may be the key itself: it is not shown.
            shown = key if len(key) <= 8 else "(hidden)"
            rule = f"must be one of {', '.join(known)}" if known else "must have been used before"
            raise InvalidInput("--key", shown, rule, "`cutwork stats` names the keys")
        return {one: verb(tx, one) for one in known if key in (None, one)}

    changed = database.transact(desk.engine, act)
    for key_id, now in changed.items():
        click.echo(f"key {key_id} {'is ' + done if now else already}")
    if not changed:
        click.echo("There is no API key yet: set CUTWORK_API_TOKENS.", err=True)
