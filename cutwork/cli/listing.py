"""``cutwork list`` and ``cutwork show``: jobs as they stand."""

from typing import Any

import click

from cutwork import job as records
from cutwork import sources
from cutwork.cli.desk import Desk
from cutwork.cli.ids import resolve, short
from cutwork.cli.output import ago, moment, print_json, styled, table
from cutwork.job import Job
from cutwork.states import State


@click.command("list")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([state.value for state in State]),
    help="Only these; may be given several times.",
)  # fmt: skip
@click.option("--owner", help="Only this owner's.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, without the attempts.")
def list_jobs(states: tuple[str, ...], owner: str | None, limit: int, as_json: bool) -> None:
    """List the newest jobs. The ids are short: every command takes them so."""
    desk = Desk.open()
    with desk.reading.connect() as tx:
        found = records.newest(tx, states=states, owner=owner, limit=limit)
    if as_json:
        print_json([one.to_json() for one in found])
        return
    if not found:
        click.echo("There are no such jobs.", err=True)
        return
    rows = [
        (short(one.id), one.state, ago(one.created_at), one.owner, _what(one), _fault(one))
        for one in found
    ]
    table(("id", "state", "age", "owner", "picture", "error"), rows, state=1)


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(job_id: str, as_json: bool) -> None:
    """Show everything about a job. ID may be its last digits, at least four."""
    desk = Desk.open()
    with desk.reading.connect() as tx:
        one = records.read(tx, resolve(tx, job_id))
    if as_json:
        print_json(one.to_json())
        return
    click.echo(f"job          {one.id}  (short: {short(one.id)})")
    click.echo(f"state        {styled(one.state)}")
    for name, value in _facts(desk, one):
        if value not in (None, ""):
            click.echo(f"{name:<12} {value}")
    if one.attempts:
        click.echo()
        head = ("attempt", "state", "key", "task", "decided by", "checks", "callbacks", "detail")
        rows = [
            (made.number, made.state, made.key_id, made.task_id, made.decided_by, made.checks,
             made.callbacks, made.detail)
            for made in one.attempts
        ]  # fmt: skip
        table(head, rows)


def _facts(desk: Desk, one: Job) -> list[tuple[str, Any]]:
    asked = {
        name: value for name, value in one.request.items()
        if name not in ("image_file", "image_url") and value not in (None, "", False)
    }  # fmt: skip
    facts = [
        ("picture", _what(one)),
        ("asked for", ", ".join(f"{name} {value}" for name, value in asked.items())),
        ("owner", one.owner),
        ("key", one.idempotency_key),
        ("priority", one.priority),
        ("meta", one.meta),
        ("created", moment(one.created_at)),
        ("due", moment(one.due_at)),
        ("finished", moment(one.finished_at)),
        ("source deleted", moment(one.input_purged_at)),
        ("decided by", one.decided_by),
        ("error", _fault(one)),
        ("rectangle", one.foreground_rect and dict(one.foreground_rect)),
    ]
    for name, file in one.files.items():
        size = f"{file.width}x{file.height} {file.format}, {file.size} bytes"
        gone = f"deleted {moment(file.purged_at)}" if file.purged_at else ""
        facts += [(name, gone or desk.place(file.uri)), ("", f"{size}, sha256 {file.sha256}")]
    return facts


def _what(one: Job) -> str:
    if picture := one.request.get("image_file"):
        return f"{picture['format']} {picture['width']}x{picture['height']}"
    return sources.shown(one.request.get("image_url") or "")


def _fault(one: Job) -> str:
    return ": ".join(text for text in (one.error or {}).values() if text)
