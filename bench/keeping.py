"""What was measured, kept as JSON: each work with the commit, the machine and the day it is of."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Kept = dict[str, Any]


def read(path: Path) -> list[Kept]:
    """The works that were kept, in the order of the file; none if there is no such file."""
    return list(json.loads(path.read_text(encoding="utf-8"))["works"]) if path.exists() else []


def write(path: Path, works: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"works": list(works)}, indent=1) + "\n", encoding="utf-8")


def renew(old: Iterable[Kept], new: Iterable[Kept]) -> list[Kept]:
    """The old works, those of them that were measured anew in their places, and the others."""
    fresh = {one["work"]: one for one in new}
    return [*(fresh.pop(one["work"], one) for one in old), *fresh.values()]
