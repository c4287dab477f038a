"""Rewrites the parts of the docs that come from the code: ``.venv/bin/python docs/generate.py``.

Whole pages come from the modules of ``generating``. A part of a page stands between
``<!-- generated: name -->`` and ``<!-- end -->``; a test says when it is old.
"""

import json
import re
import runpy
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from cutwork.cli.settings import settings
from cutwork.finding import FINDINGS, OK
from cutwork.metrics import METRICS
from cutwork.sandbox.faults import CATALOGUE, Fault

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "bench" / "results" / "full.json"
CHART = DOCS / "images" / "performance.svg"
_MUTATIONS = DOCS.parent / "tests" / "mutants" / "mutations.py"
_MADE = {
    name: runpy.run_path(str(DOCS / "generating" / f"{name}.py"))
    for name in ("api", "cli", "compared", "drawing", "states")
}
# Whole pages and pictures, by name.
FILES: dict[str, Callable[[], str]] = {
    "api.md": _MADE["api"]["page"],
    "cli.md": _MADE["cli"]["page"],
    "states.md": _MADE["states"]["page"],
    "images/states.svg": _MADE["drawing"]["drawn"],
}
PAGES = (
    "architecture.md",
    "comparison.md",
    "doctor.md",
    "metrics.md",
    "performance.md",
    "reliability.md",
    "sandbox.md",
)
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


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


def metrics() -> str:
    """What is exported, in the order of the table."""
    rows = [
        f"| `{one.name.removeprefix('cutwork_')}` | {one.kind} | {', '.join(one.labels)}"
        f" | {one.source} | {one.help} |"
        for one in METRICS
    ]
    head = "| metric | type | labels | how | what |\n|---|---|---|---|---|"
    return "\n".join([head, *rows, ""])


def findings() -> str:
    """What the doctor may say, but for what is well."""
    rows = [
        f"| `{code}` | {level} | {about} | {sentence} | {remedy} |"
        for code, (level, about, sentence, remedy) in FINDINGS.items()
        if level != OK
    ]
    head = "| code | | about | sentence | remedy |\n|---|---|---|---|---|"
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", "\n".join([head, *rows, ""]))


def performance() -> str:
    """The figures of the latest round of benchmarks, a work after the other."""
    works = json.loads(RESULTS.read_text(encoding="utf-8"))["works"]
    latest = max(works, key=lambda work: str(work["at"]))
    versions = ", ".join(f"{name} {number}" for name, number in sorted(latest["packages"].items()))
    lines = [f"{latest['cores']} cores, Python {latest['python']}, {versions}.\n"]
    for work in works:
        lines += [f"\n**{work['work']}**\n", "| | | figures |", "|---|---|---|"]
        for way in work["ways"]:
            figures = ", ".join(_figure(*one) for one in way["figures"].items())
            lines.append(f"| {way['role']} | {way['name']} | {figures or way['missing']} |")
        lines += ["", *(_goal(goal) for goal in work["goals"])]
        day, rounds = work["at"][:10], work["rounds"]
        lines.append(f"* measured of `{work['commit']}` on {day}, medians of {rounds} rounds")
    return "\n".join([*lines, ""])


def _figure(name: str, value: float) -> str:
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{shown}/s" if name == "rate" else f"{name.replace('_', ' ')} {shown}"


def _goal(goal: dict[str, Any]) -> str:
    low = goal["at_least"] is not None
    wanted = f"at least {goal['at_least']:g}" if low else f"at most {goal['at_most']:g}"
    of = f" of {goal['against']}" if goal["against"] else ""
    if goal["value"] is None:
        return f"* {goal['figure'].replace('_', ' ')}: not measured (goal: {wanted}{of})"
    met = "met" if goal["met"] else "not met"
    return f"* {goal['figure'].replace('_', ' ')} {goal['value']:.3g}{of}, goal {wanted}: {met}"


def chart() -> str:
    """The rates of each work as bars, as shares of the fastest way's; an SVG picture."""
    rows: list[str] = []
    top = 10
    for work in json.loads(RESULTS.read_text(encoding="utf-8"))["works"]:
        ways = [way for way in work["ways"] if "rate" in way["figures"]]
        if len(ways) < 2:
            continue
        best = max(way["figures"]["rate"] for way in ways)
        top += 26
        rows.append(f'<text x="10" y="{top}" class="work">{escape(work["work"])}</text>')
        for way in ways:
            rate = way["figures"]["rate"]
            top += 20
            length = max(2, round(430 * rate / best))
            rows += [
                f'<text x="280" y="{top}" text-anchor="end">{escape(way["name"])}</text>',
                f'<rect x="290" y="{top - 12}" width="{length}" height="15"'
                f' class="{way["role"].replace("-", "")}"/>',
                f'<text x="{300 + length}" y="{top}">{rate:,.0f}/s</text>',
            ]
    style = (
        "text{font:12px sans-serif;fill:#333}.work{font-weight:bold}.ours{fill:#0a7d5a}"
        ".ceiling{fill:#999}.handmade{fill:#c77}.peer{fill:#69c}rect.bg{fill:#fff}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="820" height="{top + 20}" role="img"'
        f' aria-label="rates of each work, ours beside ceilings and peers"><style>{style}</style>'
        f'<rect class="bg" width="820" height="{top + 20}"/>' + "\n".join(rows) + "</svg>\n"
    )


def page_of_settings() -> str:
    """All of ``settings.md``."""
    done = CliRunner().invoke(settings, ["--markdown"], catch_exceptions=False)
    return done.output


def filled(page: str) -> str:
    """The page with its generated parts as they should be."""
    parts = {
        "compared": _MADE["compared"]["table"],
        "faults": faults,
        "findings": findings,
        "metrics": metrics,
        "mutants": mutants,
        "performance": performance,
        "states": _MADE["states"]["matrix"],
    }
    return _PART.sub(lambda part: f"{part[1]}{parts[part[2]]()}{part[3]}", page)


def _number(fault: Fault) -> str:
    value = "" if fault.value is None else f"{fault.value:g}" if fault.value < 1e6 else fault.value
    return " ".join(filter(None, (str(value), fault.unit)))


def _times(fault: Fault) -> str:
    return "" if fault.times is None else "always" if fault.times == 0 else str(fault.times)


def main() -> None:
    (DOCS / "settings.md").write_text(page_of_settings(), encoding="utf-8")
    for name, made in FILES.items():
        (DOCS / name).write_text(made(), encoding="utf-8")
    for name in PAGES:
        page = DOCS / name
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    CHART.write_text(chart(), encoding="utf-8")


if __name__ == "__main__":
    main()
