"""Every command by name, loaded when it is called: ``cutwork --help`` imports none of them."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

# Section → command → (where it is, what it does in a line).
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Start here": {
        "up": ("up:up", "Run everything on this machine."),
        "demo": ("demo:demo", "Cut the sample photographs end to end and show the result."),
        "doctor": ("doctor:doctor", "Look for what is wrong, and say what to do about it."),
    },
    "Jobs": {
        "enqueue": ("enqueue:enqueue", "Ask for pictures to be cut out."),
        "list": ("listing:list_jobs", "List the newest jobs."),
        "show": ("listing:show", "Show everything about a job."),
        "explain": ("explaining:explain", "Say what happened to a job, and what it waits for."),
        "cancel": ("deciding:cancel", "Stop unfinished jobs."),
        "retry": ("deciding:retry", "Send failed, held or cancelled jobs again."),
        "purge": ("purge:purge", "Delete finished jobs and their pictures."),
    },
    "The system": {
        "watch": ("watching:watch", "Watch the counts of jobs as they change."),
        "stats": ("figures:stats", "Count jobs, attempts and charges."),
        "owners": ("owners:owners", "List whose jobs wait, or weigh an owner's."),
        "pause": ("gates:pause", "Let nothing go to the provider."),
        "resume": ("gates:resume", "Let jobs go to the provider again."),
        "settings": ("settings:settings", "Print every setting, its value and its default."),
        "db": ("db:db", "Make, upgrade or check the tables."),
        "drill": ("drill:drill", "Break a staging set-up on purpose, and check what came of it."),
    },
    "Roles, one process each": {
        "worker": ("serving:worker", "Run jobs (Celery)."),
        "reconciler": ("serving:reconciler", "Run the alarm clock that releases and repairs jobs."),
        "webhook": ("serving:webhook", "Hear the provider's callbacks."),
        "console": ("serving:console", "Show jobs and pictures in a browser, and decide there."),
        "metrics": ("exporting:metrics", "Serve figures to Prometheus."),
        "sandbox": ("serving:sandbox", "Be the provider, for tests and for trying things out."),
    },
    "Your shell": {
        "completion": ("completion:completion", "Print the script that completes commands."),
    },
}
_PLACES = {name: place for section in SECTIONS.values() for name, place in section.items()}


class Commands(click.Group):
    """A group that knows its commands' names and one-liners without importing them."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_PLACES)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _PLACES:
            return None
        module, _, name = _PLACES[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"cutwork.cli.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _PLACES:
            near = get_close_matches(args[0], _PLACES, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            ctx.fail(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()])


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"cutwork {version('cutwork')}")
        ctx.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version and exit.",
)
@click.option("--leash", type=int, hidden=True)
@click.pass_context
def cutwork(ctx: click.Context, leash: int | None) -> None:
    """Background removal jobs that are never lost and never paid for twice unsaid.

    Settings are variables that begin with CUTWORK_; `cutwork settings` lists them.
    """
    tied: Any = None
    if leash is not None:
        from cutwork.cli.leash import Leash

        tied = Leash.take(leash)
    ctx.obj = tied
