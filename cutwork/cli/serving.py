"""``cutwork worker``, ``reconciler``, ``webhook`` …: one role in this process."""

from pathlib import Path
from typing import Any

import click

from cutwork.cli.leash import Leash
from cutwork.cli.roles import role
from cutwork.errors import InvalidSetting
from cutwork.settings import current

_LANES = ("submit", "check", "store", "notify")


@click.command()
@click.option(
    "--pool", type=click.Choice(["threads", "prefork"]), default="threads", show_default=True,
    help="How CUTWORK_CONCURRENCY jobs run at once.",
)  # fmt: skip
@click.option("--lanes", default=",".join(_LANES), show_default=True, help="What it works on.")
@click.option("--hostname", default="", help="Its name in Celery, such as worker2@%h.")
@click.pass_obj
def worker(leash: Leash | None, pool: str, lanes: str, hostname: str) -> None:
    """Run jobs, as a Celery worker. Start as many as you like, on as many machines."""
    chosen = tuple(dict.fromkeys(lane.strip() for lane in lanes.split(",")))
    if unknown := sorted(set(chosen) - set(_LANES)):
        raise InvalidSetting("--lanes", unknown[0], f"must name {', '.join(_LANES)}")
    serve = role("worker")
    if leash is not None:
        _tell_when_ready(leash)
    serve(pool=pool, lanes=chosen, hostname=hostname)


def _tell_when_ready(leash: Leash) -> None:
    from celery.signals import worker_ready

    def ready(**_: Any) -> None:
        leash.ready()

    worker_ready.connect(ready, weak=False)


@click.command()
@click.pass_obj
def reconciler(leash: Leash | None) -> None:
    """Run the alarm clock: release jobs that are due, repair what went wrong.

    One is enough; several are safe together.
    """
    serve = role("reconciler")
    if leash is not None:
        leash.ready()
    serve()


@click.command()
@click.option(
    "--bind", default="127.0.0.1:8000", show_default=True, metavar="HOST:PORT",
    help="Where to listen.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes."
)
def webhook(bind: str, workers: int) -> None:
    """Hear the provider's callbacks, under granian.

    It speaks plain HTTP: let a proxy do TLS, and give its address as CUTWORK_PUBLIC_URL.
    """
    role("webhook")(bind, workers=workers)


@click.command()
@click.option(
    "--bind", default="127.0.0.1:8700", show_default=True, metavar="HOST:PORT",
    help="Where to listen.",
)  # fmt: skip
@click.option("--read-only", is_flag=True, help="Show everything, change nothing.")
def console(bind: str, read_only: bool) -> None:
    """Show jobs, pictures and troubles in a browser, and decide there, under granian.

    CUTWORK_CONSOLE_TOKEN lets people in. It speaks plain HTTP: let a proxy do TLS.
    """
    role("console")(bind, read_only=read_only)


@click.command()
@click.option(
    "--bind", default="127.0.0.1:8600", show_default=True, metavar="HOST:PORT",
    help="Where to listen; port 0 takes a free one.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), help="Decides faults, task ids and latencies.")
@click.option("--latency", default="0", metavar="S|S-S", help="Seconds a task waits, or a range.")
@click.option(
    "--faults", type=click.Path(path_type=Path), metavar="FILE", help="What goes wrong, as JSON."
)
@click.option(
    "--rate", type=click.FloatRange(0), default=2.0, show_default=True,
    help="Requests per second and key; 0 for no limit.",
)  # fmt: skip
@click.option("--engine", default="", metavar="MODULE:NAME", help="What cuts, instead of GrabCut.")
@click.pass_obj
def sandbox(
    leash: Leash | None, bind: str, seed: int | None, latency: str, faults: Path | None,
    rate: float, engine: str,
) -> None:  # fmt: skip
    """Be the provider: the same API, real cut-outs, and misbehaviour on command.

    It lets in the keys of CUTWORK_API_TOKENS, or any key when none is set.
    """

    def announce(line: str) -> None:
        click.echo(line)
        if leash is not None:
            leash.ready()

    role("sandbox")(
        bind, seed=seed, latency=latency, faults_file=faults, rate=rate, engine=engine,
        tokens=current().api_tokens or None, announce=announce,
    )  # fmt: skip
