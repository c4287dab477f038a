"""What the latest round of benchmarks says of others, for ``docs/comparison.md``."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "full.json"
_ROLES = ("ours", "hand-made", "peer")


def table() -> str:
    """Rates of each work that others do as well, ours first."""
    works = json.loads(RESULTS.read_text(encoding="utf-8"))["works"]
    head = "| work | who | a second | of ours |\n|---|---|---|---|"
    return "\n".join([head, *(row for work in works for row in _rows(work)), ""])


def _rows(work: dict[str, Any]) -> list[str]:
    ways = [one for one in work["ways"] if one["role"] in _ROLES and "rate" in one["figures"]]
    others = [one for one in ways if one["role"] != "ours"]
    ours = [one for one in ways if one["role"] == "ours"]
    if not others or not ours:
        return []
    best = max(one["figures"]["rate"] for one in ours)
    return [
        f"| {work['work'] if number == 0 else ''} | {one['name']} |"
        f" {one['figures']['rate']:,.0f} | {one['figures']['rate'] / best:.2f} |"
        for number, one in enumerate([*ours, *others])
    ]
