"""``cutwork cancel`` and ``cutwork retry``: what an operator decides about jobs."""

import sys
from collections.abc import Iterator, Sequence
from uuid import UUID

import click
from sqlalchemy import Connection

from cutwork import database, ledger
from cutwork import job as records
from cutwork.cli.desk import Desk
from cutwork.cli.ids import resolve_all, short
from cutwork.cli.output import print_json
from cutwork.errors import InputPurged, WrongState
from cutwork.states import State

_PAGE = 100


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def cancel(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Stop unfinished jobs, all of them or none. What the provider has may still be charged."""
    desk = Desk.open()

    def verb(tx: Connection) -> list[UUID]:
        named = resolve_all(tx, job_ids)
        for job_id in named:
            ledger.cancel(tx, job_id)
        return named

    cancelled = database.transact(desk.engine, verb)
    if as_json:
        print_json([{"id": str(job_id), "state": "cancelled"} for job_id in cancelled])
        return
    for job_id in cancelled:
        click.echo(f"{short(job_id)} cancelled")


@click.command()
@click.argument("job_ids", nargs=-1, metavar="ID...")
@click.option("--failed", is_flag=True, help="All failed jobs.")
@click.option("--yes", is_flag=True, help="Do not ask before --failed pays again.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def retry(job_ids: tuple[str, ...], failed: bool, yes: bool, as_json: bool) -> int:
    """Send failed, held or cancelled jobs again; says of each whether it is paid for again.

    A result that was made and can still be fetched is fetched, which costs nothing.
    """
    if failed == bool(job_ids):
        raise click.UsageError("name the jobs, or say --failed")
    desk = Desk.open()
    if failed:
        if not yes and not _agreed(desk):
            click.echo("Nothing was sent again.", err=True)
            return 1
        pages = (_retry(desk, page, strict=False) for page in _failed(desk))
    else:
        with desk.reading.connect() as tx:
            named = resolve_all(tx, job_ids)
        pages = (_retry(desk, page, strict=True) for page in (named,))
    told = []
    for page in pages:
        for job_id, state in page:
            paid = state is State.QUEUED
            told.append({"id": str(job_id), "state": str(state), "paid_again": paid})
            if not as_json:
                how = "is sent, and paid for, again" if paid else "its result is fetched, for free"
                click.echo(f"{short(job_id)} {how}")
    if as_json:
        print_json(told)
    elif not told:
        click.echo("There are no failed jobs.", err=True)
    return 0


def _agreed(desk: Desk) -> bool:
    """Whether the operator wants to pay; asked with no transaction open."""
    paid = free = 0
    for page in _failed(desk):
        for _, state in _retry(desk, page, strict=False, only_look=True):
            paid, free = paid + (state is State.QUEUED), free + (state is not State.QUEUED)
    if not paid:
        return True
    question = f"Sent, and paid for, again: {paid}; for free: {free}. Go on?"
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"--failed would pay again for {paid} of them, say --yes if you want that"
        )
    return click.confirm(question, err=True)


def _failed(desk: Desk) -> Iterator[list[UUID]]:
    last: UUID | None = None
    while True:
        with desk.reading.connect() as tx:
            found = records.newest(tx, states=[State.FAILED], limit=_PAGE, older_than=last)
        if not found:
            return
        last = found[-1].id
        yield [one.id for one in found]


def _retry(
    desk: Desk, job_ids: Sequence[UUID], *, strict: bool, only_look: bool = False
) -> list[tuple[UUID, State]]:
    """In one transaction; not ``strict`` passes over those that cannot be sent (any more)."""

    def verb(tx: Connection) -> list[tuple[UUID, State]]:
        told: list[tuple[UUID, State]] = []
        undo = tx.begin_nested() if only_look else None
        for job_id in job_ids:
            try:
                told.append((job_id, ledger.retry(tx, job_id, desk.settings)))
            except (InputPurged, WrongState):
                if strict:
                    raise
        if undo is not None:
            undo.rollback()
        return told

    return database.transact(desk.engine, verb)
