"""Lays out what the site is made of: ``python docs/stage.py build/pages``.

The pages of ``docs/`` keep their places. What they link to elsewhere in the repository comes along
below ``files/``, and what that links to, so that every link works on the site as it does here.
"""

import os
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_OURS = (".css", ".js", ".md", ".png", ".svg", ".yaml")


class Stage:
    """``folder`` is emptied, and filled by ``lay``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._todo = [path for path in sorted(DOCS.rglob("*")) if path.suffix in _OURS]
        self._laid: set[Path] = set()

    def lay(self) -> None:
        """Copy everything that is linked to, pages with their links as they are there."""
        shutil.rmtree(self._folder, ignore_errors=True)
        while self._todo:
            path = self._todo.pop()
            if path not in self._laid:
                self._laid.add(path)
                self._copy(path)

    def _copy(self, path: Path) -> None:
        place = self._folder / placed(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            place.write_text(self._led(path), encoding="utf-8")
        else:
            shutil.copy(path, place)

    def _led(self, page: Path) -> str:
        """The page with links that lead, from its new place, to new places."""
        pieces = _CODE.split(page.read_text(encoding="utf-8"))
        for number in range(0, len(pieces), 2):
            pieces[number] = _LINK.sub(
                lambda link: f"{link[1]}{self._link(page, link[2])}{link[3]}", pieces[number]
            )
        return "".join(pieces)

    def _link(self, page: Path, link: str) -> str:
        path, mark, fragment = link.partition("#")
        if urlsplit(link).scheme or not path:
            return link
        target = Path(os.path.normpath(page.parent / path))
        if target.is_dir():
            target /= "README.md"
        self._todo.append(target)
        here = placed(page).parent
        return f"{Path(os.path.relpath(placed(target), here)).as_posix()}{mark}{fragment}"


def placed(path: Path) -> Path:
    """Where a file of the repository is among the pages."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS)
    return "files" / path.relative_to(ROOT)


if __name__ == "__main__":
    Stage(Path(sys.argv[1])).lay()
