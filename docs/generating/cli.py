"""``docs/cli.md``: every command, from the command line itself."""

import inspect
import re
from collections.abc import Iterator

import click

from cutwork.cli.commands import SECTIONS, cutwork

INTRODUCTION = """\
# Command line

Every command reads the same [variables](settings.md). `--json` prints for programs what is otherwise printed for people. An id may be its last digits, at least four. The exit status is 0 when it is done, 1 when the work failed, 2 when it was used wrongly, and an error is one sentence that says what to do.

This page is generated from `cutwork --help` and its like.
"""
# What stands for a value of such a type, where the command does not say.
_KINDS = {
    "choice": "WORD",
    "integer": "N",
    "integer range": "N",
    "float": "X",
    "float range": "X",
    "path": "FILE",
}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    top = click.Context(cutwork, info_name="cutwork")
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            parts += _described(top, name)
    return "\n".join(parts)


def _described(parent: click.Context, name: str) -> Iterator[str]:
    """A command, or a group with what is in it."""
    group = parent.command
    assert isinstance(group, click.Group)
    command = group.get_command(parent, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    yield f"### {context.command_path}\n"
    if isinstance(command, click.Group):
        yield f"{_text(command)}\n"
        for inner in command.list_commands(context):
            yield from _described(context, inner)
        return
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"`{usage}`\n"
    yield f"{_text(command)}\n"
    rows = [_row(one) for one in command.params if isinstance(one, click.Option)]
    if rows:
        yield "\n".join(["| option | meaning | default |\n|---|---|---|", *rows, ""])


def _text(command: click.Command) -> str:
    lines = inspect.cleandoc(command.help or "").replace("\b\n", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in lines)


def _row(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = (
        ""
        if option.is_flag
        else f" {option.metavar or _KINDS.get(option.type.name, 'TEXT')}".replace("|", " or ")
    )
    meaning = re.sub(r"\s+\[default: .*\]", "", option.help or "").replace("|", "\\|")
    if isinstance(option.type, click.Choice):
        words = ", ".join(f"`{word}`" for word in option.type.choices)
        meaning = f"{meaning} One of {words}." if meaning else f"One of {words}."
    told = re.search(r"\[default: (.*)\]", option.help or "")
    default = told[1] if told else _default(option)
    return f"| `{names}{value}` | {meaning} | {default} |"


def _default(option: click.Option) -> str:
    value = option.default
    shown = f"{value:g}" if isinstance(value, float) else value
    return f"`{shown}`" if option.show_default and value not in (None, "", False) else ""
