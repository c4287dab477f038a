"""``cutwork enqueue``: pictures become jobs, and with --wait their cut-outs are waited for."""

import re
import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import click
from sqlalchemy import Connection

from cutwork import database, jobs
from cutwork.cli.desk import Desk
from cutwork.cli.ids import short
from cutwork.cli.output import is_terminal, print_json, styled
from cutwork.cli.waiting import wait_for
from cutwork.errors import InvalidInput
from cutwork.job import Job
from cutwork.request import Segmentation
from cutwork.sources import shown
from cutwork.states import State

_AT_ONCE = 20
_WEB = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@click.command()
@click.argument("pictures", nargs=-1, required=True, metavar="FILE|URL...")
@click.option("--type", "type_", default="", metavar="WORD", help="person, object or stamp.")
@click.option(
    "--output-type", type=int, default=2, show_default=True,
    help="1 picture and mask, 2 picture, 3 mask.",
)  # fmt: skip
@click.option("--crop", is_flag=True, help="Cut the result to the edges of the subject.")
@click.option(
    "--format", "format_", default="png", show_default=True,
    help="png (transparent) or jpg (on a colour).",
)  # fmt: skip
@click.option("--bg-color", metavar="HEX", help="The colour behind a jpg, such as ffffff.")
@click.option("--key", help="The same key gives the same job, however often it is asked for.")
@click.option(
    "--priority", type=int, default=jobs.DEFAULT_PRIORITY, show_default=True,
    help="0 goes first, 9 last.",
)  # fmt: skip
@click.option("--owner", default="", help="Whose job it is.")
@click.option("--notify", metavar="TASK|URL", help="Whom to tell when it is over.")
@click.option("--wait", is_flag=True, help="Wait for the results and print where they are.")
@click.option(
    "--timeout", type=click.FloatRange(0), default=300.0, show_default=True, metavar="S",
    help="How long to wait at most.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the jobs as a JSON array.")
def enqueue(
    pictures: tuple[str, ...], type_: str, output_type: int, crop: bool, format_: str,
    bg_color: str | None, key: str | None, priority: int, owner: str, notify: str | None,
    wait: bool, timeout: float, as_json: bool,
) -> int:  # fmt: skip
    """Ask for pictures to be cut out; - reads one from standard input.

    Prints the ids of the jobs, or with --wait the files of the results, a line each.
    """
    if key is not None and len(pictures) > 1:
        raise click.UsageError("--key goes with one picture")
    desk = Desk.open()
    form = {
        "type": type_, "output_type": output_type, "crop": crop, "format": format_,
        "bg_color": bg_color,
    }  # fmt: skip
    asked = [_ask(one, form) for one in pictures]
    made = _write(
        desk, pictures, asked, idempotency_key=key, priority=priority, owner=owner, notify=notify
    )
    if wait:
        return _Wait(desk, pictures, made).run(timeout, as_json)
    if as_json:
        print_json([one.to_json() for one in made])
    else:
        for one in made:
            click.echo(str(one.id))
    return 0


def _ask(picture: str, form: dict[str, Any]) -> Segmentation:
    try:
        if _WEB.match(picture):
            return Segmentation(image_url=picture, **form)
        source = sys.stdin.buffer.read() if picture == "-" else picture
        return Segmentation(image_file=source, **form)
    except InvalidInput as error:
        raise _of(picture, error) from None


def _write(
    desk: Desk, pictures: Sequence[str], asked: Sequence[Segmentation], **options: Any
) -> list[Job]:
    """Some at a time, so that the workers are not kept waiting by the reading of the rest."""
    made: list[Job] = []

    def write(tx: Connection, first: int) -> list[Job]:
        some: list[Job] = []
        try:
            for name, one in list(zip(pictures, asked, strict=True))[first : first + _AT_ONCE]:
                try:
                    some.append(jobs.enqueue(tx, one, settings=desk.settings, **options))
                except InvalidInput as error:
                    raise _of(name, error, already=first) from None
        except BaseException:
            _forget(desk, some)
            raise
        return some

    for first in range(0, len(asked), _AT_ONCE):
        made += database.transact(desk.engine, write, first)
    return made


def _forget(desk: Desk, some: Sequence[Job]) -> None:
    """Their rows are rolled back; their pictures are not, and would stay for ever."""
    for one in some:
        if picture := one.request.get("image_file"):
            desk.storage.delete(picture["uri"])


def _of(picture: str, error: InvalidInput, already: int = 0) -> InvalidInput:
    """The same error, which names the picture and says what became of the others."""
    remedy = error.remedy
    if already:
        remedy = f"{remedy}; " if remedy else ""
        remedy += f"the first {already} pictures are enqueued, ask for the rest again"
    field, picture = error.field, _name(picture)
    if field in ("image_file", "image_url") and str(error.value) != picture:
        field = f"{picture}: {field}"
    return InvalidInput(field, error.value, error.rule, remedy)


def _name(picture: str) -> str:
    """A picture as it may be shown: the query of an address may be a signature."""
    return shown(picture) if _WEB.match(picture) else picture


class _Wait:
    """Waits for the jobs of some pictures, and tells standard error how it goes."""

    def __init__(self, desk: Desk, pictures: Sequence[str], made: Sequence[Job]) -> None:
        self._desk, self._made = desk, made
        self._names: dict[UUID, str] = {
            one.id: _name(picture) for one, picture in zip(made, pictures, strict=True)
        }
        self._started = time.monotonic()

    def run(self, timeout: float, as_json: bool) -> int:
        done: list[Job] = []
        ids = [one.id for one in self._made]
        for one in wait_for(self._desk.reading, ids, timeout, self._tell):
            done.append(one)
            if not as_json:
                self._print(one)
        if as_json:
            print_json([one.to_json() for one in done])
        return 0 if all(one.state is State.SUCCEEDED for one in done) else 1

    def _tell(self, job_id: UUID, state: State) -> None:
        if is_terminal(err=True):
            seconds = time.monotonic() - self._started
            line = f"{seconds:6.1f} s  {short(job_id)}  {self._names[job_id]}  {styled(state)}"
            click.echo(line, err=True)

    def _print(self, one: Job) -> None:
        if one.state is State.SUCCEEDED:
            for name, file in one.files.items():
                if file.purged_at is None:
                    click.echo(self._desk.place(file.uri))
                else:  # the key of an old job was given again
                    gone = f"the {name} of job {short(one.id)} was deleted from storage"
                    click.echo(f"cutwork: {self._names[one.id]}: {gone}", err=True)
            return
        reason = (one.error or {}).get("message") or "no reason was given"
        what = f"{self._names[one.id]}: job {short(one.id)} {one.state} ({reason})"
        click.echo(f"cutwork: {what}: see `cutwork explain {short(one.id)}`", err=True)
