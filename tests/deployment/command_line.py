"""Whether the command line takes some words: parsed as it parses them, and not run."""

from collections.abc import Sequence

import click

from cutwork.cli.commands import cutwork


def ensure_taken(words: Sequence[str]) -> None:
    """Raise click.UsageError when a command, an option or a value of an option does not exist."""
    command: click.Command = cutwork
    name, rest = "cutwork", list(words)
    while isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        if not rest:
            raise click.UsageError(f"{name} needs a command", context)
        name = rest.pop(0)
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"there is no command {name!r}", context)
        command = found
    command.make_context(name, rest)
