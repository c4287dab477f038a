"""``cutwork settings``: the one table of settings, for people, programs and the docs."""

from dataclasses import MISSING, dataclass, fields
from typing import Any

import click

from cutwork.cli.output import print_json, table
from cutwork.settings import PREFIX, Settings, current


@dataclass(frozen=True)
class Line:
    """One setting in words; the value of a secret is hidden."""

    name: str
    value: str
    default: str
    unit: str
    doc: str

    @property
    def changed(self) -> bool:
        return self.value != self.default


def lines(settings: Settings) -> list[Line]:
    """Every setting, in the order of the table."""
    told = []
    for item in fields(Settings):
        default = "" if item.default is MISSING else _text(item.default)
        value = _text(getattr(settings, item.name))
        if item.metadata["secret"] and value != default:
            value = "(hidden)"
        facts = (item.metadata["unit"], item.metadata["doc"])
        told.append(Line(f"{PREFIX}{item.name.upper()}", value, default, *facts))
    return told


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--markdown", is_flag=True, help="Print names and defaults as docs/settings.md.")
def settings(as_json: bool, markdown: bool) -> None:
    """Print every setting, its value here and its default. Secrets are hidden.

    CUTWORK_X_FILE names a file that holds the value of CUTWORK_X.
    """
    if markdown:
        _print_markdown(lines(Settings()))
        return
    told = lines(current())
    if as_json:
        print_json([vars(one) for one in told])
        return
    table(("setting", "value", "default", "unit"), rows(told))


def rows(told: list[Line]) -> list[tuple[str, str, str, str]]:
    """For a table: the default stands only where the value is another one."""
    return [
        (one.name, one.value or "-", (one.default or "-") if one.changed else "", one.unit)
        for one in told
    ]


def _print_markdown(told: list[Line]) -> None:
    click.echo("# Settings\n")
    click.echo(
        "Variables of the environment. `X_FILE` names a file that holds the value of `X`. An empty "
        "value means the default.\n\nThis page is generated: `cutwork settings --markdown`.\n"
    )
    click.echo("| variable | default | unit | meaning |\n|---|---|---|---|")
    for one in told:
        default = f"`{one.default}`" if one.default else ""
        meaning = one.doc.replace("|", "\\|")
        click.echo(f"| `{one.name}` | {default} | {one.unit} | {meaning} |")


def _text(value: Any) -> str:
    match value:
        case tuple():
            return ",".join(value)
        case float():
            return f"{value:g}" if value < 1e6 else f"{value:.0f}"
    return str(value)
