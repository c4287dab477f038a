"""``cutwork purge``: finished jobs and their pictures are deleted."""

import re

import click

from cutwork.cli.desk import Desk
from cutwork.cli.output import print_json

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


class Span(click.ParamType[float]):
    """``30d``, ``12h``, ``90min``, ``45s``: seconds."""

    name = "span"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        match = _SPAN.fullmatch(value.strip())
        unit = match[2].lower() or "s" if match else ""
        if match is None or unit not in _UNITS or len(match[1]) > 9:
            self.fail(f"{value!r} is no span of time, write 30d, 12h, 90min or 45s", param, ctx)
        return float(match[1]) * _UNITS[unit]


@click.command()
@click.option(
    "--older-than", type=Span(), default="30d", show_default=True, metavar="SPAN",
    help="Since they finished: 30d, 12h, 90min, 45s.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def purge(older_than: float, dry_run: bool, as_json: bool) -> int:
    """Delete succeeded, failed and cancelled jobs with their pictures. Held jobs stay."""
    from dataclasses import asdict

    from cutwork.purging import purge as delete

    desk = Desk.open()
    gone = delete(desk.engine, desk.storage, older_than, dry_run=dry_run)
    if as_json:
        print_json(asdict(gone) | {"dry_run": dry_run})
    else:
        done = "would be deleted" if dry_run else "deleted"
        click.echo(f"{done}: jobs {gone.jobs}, files {gone.files}, bytes {gone.size}")
    if gone.kept:
        click.echo(f"cutwork: jobs that are kept: {gone.kept}: {gone.fault}", err=True)
    return 1 if gone.kept else 0
