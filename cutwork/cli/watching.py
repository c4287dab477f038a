"""``cutwork watch``: the counts of jobs as they change."""

import time
from datetime import datetime

import click

from cutwork.cli.desk import Desk
from cutwork.cli.output import is_terminal, styled
from cutwork.stats import count_jobs

_PAUSE = 0.5
# Counting may cost the database no more than this part of its time.
_SHARE = 0.05


@click.command()
def watch() -> None:
    """Watch the counts of jobs; a line at each change when nobody looks. Ends with Ctrl-C."""
    desk, last, drawn = Desk.open(), "", is_terminal()
    try:
        while True:
            began = time.monotonic()
            with desk.reading.connect() as tx:
                counts = count_jobs(tx)
            took = time.monotonic() - began
            line = "  ".join(f"{styled(state)} {count}" for state, count in counts.items() if count)
            line = line or "no jobs"
            if drawn:
                clock = f"{datetime.now().astimezone():%H:%M:%S}"
                click.echo(f"\r\x1b[2K{clock}  {line}", nl=False)
            elif line != last:
                click.echo(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {line}")
            last = line
            time.sleep(max(_PAUSE, took / _SHARE))
    finally:
        if drawn:
            click.echo()
