"""``cutwork up``: everything on this machine, as child processes that cannot outlive it."""

import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import click

from cutwork import database
from cutwork.cli import house, lock
from cutwork.cli.crew import Crew
from cutwork.cli.doctor import show
from cutwork.cli.roles import role
from cutwork.doctor import examine_outside, glance
from cutwork.finding import OK, Finding
from cutwork.settings import Settings, current

_COLOURS = {"sandbox": "magenta", "webhook": "blue", "worker": "green", "reconciler": "cyan"}
_PATIENCE = 60.0


@click.command()
@click.option(
    "--bind", default="", metavar="HOST:PORT",
    help="Where callbacks are heard.  [default: 127.0.0.1:8000, or the next free port]",
)  # fmt: skip
def up(bind: str) -> int:
    """Run everything on this machine: the tables, a worker, the reconciler, webhook and console.

    Without CUTWORK_API_TOKENS the sandbox is the provider. Ctrl-C stops all of it; a second Ctrl-C
    does so at once.
    """
    settings, started = current(), time.monotonic()
    with lock.alone(settings.home):
        upgrade(settings)
        chosen = house.plan(settings, os.environ, bind=bind, console=True)
        printer = Printer()
        printer.plan(settings.home, chosen)
        settled = Settings.load(chosen.environ)
        printer.findings(glance(settled))
        with Crew(chosen.roles, chosen.environ, printer.line) as crew:
            crew.start()
            if crew.wait_ready(_PATIENCE):
                printer.ready(settings.home, time.monotonic() - started, chosen)
                if settings.api_tokens:
                    _look_outside(settled, printer)
            elif not crew.asked:
                printer.line("cutwork", f"not all are ready after {_PATIENCE:g} s, going on")
            while crew.tend(3600):
                pass
            printer.line("cutwork", "stopping; Ctrl-C again to stop at once")
    return 130 if crew.asked == signal.SIGINT else 0


def _look_outside(settings: Settings, printer: "Printer") -> None:
    """Warn when the provider refuses a key or would not reach us; nobody waits for it."""

    def look() -> None:
        printer.findings(one for one in examine_outside(settings) if one.level != OK)

    threading.Thread(target=look, name="doctor", daemon=True).start()


def upgrade(settings: Settings) -> None:
    """Bring the tables up to date."""
    engine = database.engine(settings.database, pool_size=1)
    try:
        role("db upgrade")(engine)
    finally:
        engine.dispose()


class Printer:
    """Whole lines, whichever thread they come from."""

    def __init__(self) -> None:
        self._alone = threading.Lock()

    def plan(self, home: Path, chosen: house.House) -> None:
        click.echo(f"cutwork up in {home.absolute()}")
        for what, where in chosen.plan:
            click.echo(f"  {what:<10} {where}")
        click.echo(f"  {'roles':<10} {', '.join(one.name for one in chosen.roles)}")

    def findings(self, found: Iterable[Finding]) -> None:
        """In the doctor's words."""
        for one in found:
            show(one, lambda text: self.line("cutwork", text))

    def ready(self, home: Path, seconds: float, chosen: house.House) -> None:
        elsewhere = home.absolute() != Path(".cutwork").absolute()
        prefix = f"CUTWORK_HOME={home.absolute()} " if elsewhere else ""
        self.line("cutwork", f"ready ({seconds:.1f} s); now, in another terminal:")
        self.line("cutwork", f"  {prefix}cutwork enqueue photo.jpg --type person --wait")
        self.line("cutwork", f"the console is {dict(chosen.plan)['console']}")

    def line(self, who: str, what: str) -> None:
        with self._alone:
            colour = _COLOURS.get(who, "yellow")
            click.echo(f"{click.style(f'{who:<10} |', fg=colour)} {what}")
