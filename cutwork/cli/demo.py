"""``cutwork demo``: the whole path, with real processes, on three photographs."""

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy import Engine

from cutwork import database
from cutwork.cli import house
from cutwork.cli.board import HOW, board, seconds
from cutwork.cli.crew import Crew
from cutwork.cli.ids import short
from cutwork.cli.output import table
from cutwork.cli.sample import Sample, enqueue, look, samples
from cutwork.cli.up import upgrade
from cutwork.job import Job
from cutwork.settings import PREFIX, Settings
from cutwork.states import State
from cutwork.storage import Storage

_PATIENCE = 60.0
# At the end nothing is under way, and HOME is thrown away: nobody needs to stop in good order.
_GRACE = 0.5
_TAIL = 15
# The second picture's callback is lost; whose that is depends on the order of the submits.
_FAULTS = {"schedule": {"1": ["lost_callback"]}}


@click.command()
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("demo-output"),
    show_default=True, metavar="DIR", help="Where the pictures go.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the demo's HOME: its database, files and logs.")
def demo(output: Path, keep: bool) -> int:
    """Cut three photographs end to end and show the result.

    Real processes in a HOME of its own: SQLite, files as broker, the sandbox as provider, a webhook
    on loopback. One callback is lost on purpose. Nothing leaves this machine, nothing costs money.
    """
    output.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="cutwork-demo-"))
    try:
        return _Demo(home, output).run()
    finally:
        if keep:
            click.echo(f"The demo's HOME is {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def _environment(home: Path) -> dict[str, str]:
    """None of the user's settings: they may hold a real API token, or a real database."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    own = {f"{PREFIX}HOME": str(home), f"{PREFIX}CHECK_AFTER": "4", "TMPDIR": str(home)}
    return plain | own


class _Tails:
    """The last lines of each role, for when something goes wrong."""

    def __init__(self, home: Path) -> None:
        self._path, self._alone = home / "roles.log", threading.Lock()
        self._lines: dict[str, deque[str]] = {}

    def line(self, who: str, what: str) -> None:
        with self._alone:
            self._lines.setdefault(who, deque(maxlen=_TAIL)).append(what)
            with self._path.open("a", encoding="utf-8") as log:
                log.write(f"{who:<10} | {what}\n")

    def print(self) -> None:
        with self._alone:
            for who, lines in self._lines.items():
                click.echo(f"--- the last lines of {who}", err=True)
                for line in lines:
                    click.echo(line, err=True)


class _Demo:
    """One run: ``home`` is new and empty, the pictures go to ``output``."""

    def __init__(self, home: Path, output: Path) -> None:
        self._environ = _environment(home)
        self._settings = Settings.load(self._environ)
        self._home, self._output, self._tails = home, output, _Tails(home)
        self._samples = samples()

    def run(self) -> int:
        upgrade(self._settings)
        engine = database.engine(self._settings.database, pool_size=1)
        chosen = self._plan()
        click.echo(f"Starting {', '.join(role.name for role in chosen.roles)} …")
        with Crew(chosen.roles, chosen.environ, self._tails.line, _GRACE) as crew:
            crew.start()
            jobs = self._cut(crew, engine) if crew.wait_ready(_PATIENCE) else []
        engine.dispose()
        if crew.asked:
            return 130 if crew.asked == signal.SIGINT else 1
        if not jobs or any(one.state is not State.SUCCEEDED for one in jobs):
            return self._failed(jobs)
        self._show(jobs)
        return 0

    def _plan(self) -> house.House:
        faults = self._home / "faults.json"
        faults.write_text(json.dumps(_FAULTS), encoding="utf-8")
        options = ("--faults", str(faults), "--seed", "1")
        return house.plan(
            self._settings, self._environ,
            bind="127.0.0.1:0", sandbox_port=0, sandbox_options=options,
        )  # fmt: skip

    def _cut(self, crew: Crew, engine: Engine) -> list[Job]:
        names = [one.name for one in self._samples]
        click.echo(f"Cutting {', '.join(names)}; one callback will be lost on purpose")
        ids: Sequence[UUID] = enqueue(engine, self._samples, self._settings)
        deadline = time.monotonic() + _PATIENCE
        with board(names) as shown:
            while True:
                jobs = look(engine, ids)
                shown.show(jobs)
                if all(one.resting for one in jobs) or time.monotonic() > deadline:
                    return jobs
                if not crew.tend(0.1):
                    return jobs

    def _failed(self, jobs: Sequence[Job]) -> int:
        self._tails.print()
        for one in jobs:
            reason = (one.error or {}).get("message") or "no reason was given"
            if one.state is not State.SUCCEEDED:
                click.echo(f"job {short(one.id)} is {one.state}: {reason}", err=True)
        if not jobs:
            click.echo(f"the roles were not ready within {_PATIENCE:g} s", err=True)
        told = "the demo did not succeed: the lines above say where it stopped"
        click.echo(f"cutwork: {told}", err=True)
        return 1

    def _show(self, jobs: Sequence[Job]) -> None:
        rows = [
            (short(job.id), sample.name, job.state, HOW[str(job.decided_by)], seconds(job))
            for sample, job in zip(self._samples, jobs, strict=True)
        ]
        click.echo()
        table(("job", "photograph", "state", "who decided", "seconds"), rows, state=2)
        click.echo()
        for sample, job in zip(self._samples, jobs, strict=True):
            if job.decided_by == "poll":
                click.echo(
                    f"The callback of {sample.name} (job {short(job.id)}) was lost: the reconciler "
                    "asked the provider and found it done."
                )
        click.echo("The pictures:")
        for path in self._write(jobs):
            click.echo(f"  {path}")

    def _write(self, jobs: Sequence[Job]) -> list[Path]:
        from cutwork.cli import contact_sheet

        storage, paths, pairs = Storage.at(self._settings.storage), [], []
        for sample, job in zip(self._samples, jobs, strict=True):
            cut = storage.get(str(job.image))
            path = self._output.absolute() / f"{sample.name}-cutout.png"
            path.write_bytes(cut)
            paths.append(path)
            pairs.append(contact_sheet.Pair(sample.data, cut, _captions(sample, job)))
        sheet = self._output.absolute() / "contact-sheet.png"
        subtitle = f"{len(pairs)} photographs, cut out end to end on this machine"
        contact_sheet.draw(pairs, "cutwork demo", subtitle, sheet)
        return [*paths, sheet]


def _captions(sample: Sample, job: Job) -> tuple[str, str]:
    title = sample.name.replace("_", " ")
    return f"{title}  ({sample.kind})", f"{HOW[str(job.decided_by)]}  ·  {seconds(job) or 0:.1f} s"
