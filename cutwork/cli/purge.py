"""``cutwork purge``: what was kept long enough is deleted, or all of one owner."""

from typing import TYPE_CHECKING, Any

import click

from cutwork.cli.desk import Desk
from cutwork.cli.output import duration, print_json
from cutwork.spans import span

if TYPE_CHECKING:
    from cutwork.purging import Purged

_LONGEST = 100 * 366 * 86400.0
_NOTHING_SAID = (
    "nothing says what to delete: give --older-than, --inputs, --results or --owner, "
    "or set CUTWORK_KEEP_JOBS, CUTWORK_KEEP_INPUTS or CUTWORK_KEEP_RESULTS"
)


class Span(click.ParamType[float]):
    """``30d``, ``12h``, ``90min``, ``45s``: seconds."""

    name = "span"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            return span(value, most=_LONGEST)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


@click.command()
@click.option(
    "--older-than", "jobs", type=Span(), metavar="SPAN",
    help="Whole jobs, so long after they finished: 30d, 12h, 90min, 45s.",
)  # fmt: skip
@click.option("--inputs", type=Span(), metavar="SPAN", help="Source pictures only.")
@click.option("--results", type=Span(), metavar="SPAN", help="Results only.")
@click.option("--owner", metavar="NAME", help="Everything of one owner, however old.")
@click.option("--cancel", is_flag=True, help="With --owner: cancel what is not finished first.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def purge(
    jobs: float | None,
    inputs: float | None,
    results: float | None,
    owner: str | None,
    cancel: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Delete succeeded, failed and cancelled jobs, or their pictures only. Held jobs stay.

    Without a span or an owner it does what the reconciler does by itself: it goes by
    CUTWORK_KEEP_JOBS, CUTWORK_KEEP_INPUTS and CUTWORK_KEEP_RESULTS. Only what has a span is
    deleted.
    """
    from cutwork.purging import Broom, Policy, erase_owner

    spans = {"jobs": jobs, "inputs": inputs, "results": results}
    chosen = any(age is not None for age in spans.values())
    if owner is not None and chosen:
        raise click.UsageError("--owner deletes whatever its age: leave out the spans")
    if cancel and owner is None:
        raise click.UsageError("--cancel goes with --owner")
    desk = Desk.open()
    if owner is not None:
        how: Any = {"storage": desk.storage, "cancel": cancel, "dry_run": dry_run}
        gone = erase_owner(desk.engine, owner, **how)
        return _tell({f"owner {owner}": gone}, dry_run, as_json)
    policy = Policy(**spans) if chosen else Policy.of(desk.settings)
    if not policy.ages:
        raise click.UsageError(_NOTHING_SAID)
    told = Broom(desk.engine, desk.storage).sweep(policy, dry_run=dry_run)
    if as_json:
        return _tell(told, dry_run, as_json)
    named = {f"{name} older than {duration(policy.ages[name])}": one for name, one in told.items()}
    return _tell(named, dry_run, as_json)


def _tell(told: "dict[str, Purged]", dry_run: bool, as_json: bool) -> int:
    from dataclasses import asdict

    if as_json:
        print_json({name: asdict(one) for name, one in told.items()} | {"dry_run": dry_run})
    for name, one in told.items():
        done = "would be deleted" if dry_run else "deleted"
        if not as_json:
            click.echo(f"{name}: {done}: jobs {one.jobs}, files {one.files}, bytes {one.size}")
        if one.kept:
            click.echo(f"cutwork: {name}: jobs that are kept: {one.kept}: {one.fault}", err=True)
    return 1 if any(one.kept for one in told.values()) else 0
