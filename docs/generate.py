"""Rewrites the parts of the docs that come from the code: ``.venv/bin/python docs/generate.py``.

A part stands between ``<!-- generated: name -->`` and ``<!-- end -->``; a test says when it is old.
"""

import re
import runpy
from pathlib import Path

from click.testing import CliRunner

from cutwork.cli.settings import settings
from cutwork.sandbox.faults import CATALOGUE, Fault
from cutwork.states import DONE, TRANSITIONS, State

DOCS = Path(__file__).parent
_MUTATIONS = DOCS.parent / "tests" / "mutants" / "mutations.py"
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def states() -> str:
    """The transition table as a Mermaid diagram, the events of one arrow on one line."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (source, event), target in TRANSITIONS.items():
        arrows.setdefault((source, target), []).append(event)
    order = list(State)
    lines = [
        f"    {source} --> {target}: {', '.join(arrows[source, target])}"
        for source, target in sorted(arrows, key=lambda pair: [order.index(one) for one in pair])
    ]
    ends = [f"    {state} --> [*]" for state in order if state in DONE]
    body = "\n".join(["stateDiagram-v2", f"    [*] --> {State.QUEUED}", *lines, *ends])
    return f"```mermaid\n{body}\n```\n"


def faults() -> str:
    """The sandbox's faults as a table."""
    rows = [
        f"| `{name}` | {fault.stage} | {fault.doc} | {_number(fault)} | {_times(fault)} |"
        for name, fault in CATALOGUE.items()
    ]
    head = "| fault | stage | what happens | number | times |\n|---|---|---|---|---|"
    return "\n".join([head, *rows, ""])


def mutants() -> str:
    """What is taken out of the product, invariant by invariant, and which test notices."""
    rows = sorted(
        (one.invariant[0] == "L", int(one.invariant[1:]), one.name, one.taken_out, one.test)
        for one in runpy.run_path(str(_MUTATIONS))["MUTATIONS"]
    )
    lines = [
        f"| {'SL'[live]}{number} | `{name}` | {out} | `{test.rpartition('::')[2]}` |"
        for live, number, name, out, test in rows
    ]
    head = "| | mutant | what is taken out | which test notices |\n|---|---|---|---|"
    return "\n".join([head, *lines, ""])


def page_of_settings() -> str:
    """All of ``settings.md``."""
    done = CliRunner().invoke(settings, ["--markdown"], catch_exceptions=False)
    return done.output


def filled(page: str) -> str:
    """The page with its generated parts as they should be."""
    parts = {"states": states, "faults": faults, "mutants": mutants}
    return _PART.sub(lambda part: f"{part[1]}{parts[part[2]]()}{part[3]}", page)


def _number(fault: Fault) -> str:
    value = "" if fault.value is None else f"{fault.value:g}" if fault.value < 1e6 else fault.value
    return " ".join(filter(None, (str(value), fault.unit)))


def _times(fault: Fault) -> str:
    return "" if fault.times is None else "always" if fault.times == 0 else str(fault.times)


def main() -> None:
    (DOCS / "settings.md").write_text(page_of_settings(), encoding="utf-8")
    for name in ("architecture.md", "reliability.md", "sandbox.md"):
        page = DOCS / name
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
