"""``cutwork metrics``: figures for Prometheus, in a process of its own."""

from collections.abc import Callable

import click

from cutwork.cli.house import split_bind
from cutwork.cli.leash import Leash
from cutwork.cli.roles import role


@click.command()
@click.option(
    "--bind", default="127.0.0.1:9464", show_default=True, metavar="HOST:PORT",
    help="Where to listen; port 0 takes a free one.",
)  # fmt: skip
@click.pass_obj
def metrics(leash: Leash | None, bind: str) -> None:
    """Serve GET /metrics to Prometheus: figures from SQL, for all processes at once.

    One is enough. It has no password: let nobody but Prometheus reach it.
    """
    ready: dict[str, Callable[[], object]] = {} if leash is None else {"ready": leash.ready}
    role("metrics")(*split_bind(bind), **ready)
