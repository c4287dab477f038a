"""A built site, as a browser would follow it: pages, places in them, links, and what they load."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
_LINKED = {"stylesheet", "icon", "preload", "modulepreload", "manifest", "preconnect", "prefetch"}
_STYLED = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


@dataclass
class Page:
    """One HTML file: its places, where it links to, and what a browser fetches to show it."""

    path: Path
    places: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    words: str = ""
    pictures: list[dict[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if place := told.get("id"):
            self._page.places.add(place)
        if tag == "a" and "href" in told:
            self._page.links.append(told["href"])
        if tag == "link" and set(told.get("rel", "").split()) & _LINKED:
            self._page.loads.append(told["href"])
        if tag == "img":
            self._page.pictures.append(told)
        if (where := _LOADS.get(tag)) and told.get(where):
            self._page.loads.append(told[where])
        self._page.loads += styled(told.get("style", ""))

    def handle_data(self, data: str) -> None:
        self._words.append(data)
        self._page.words = ""

    def close(self) -> None:
        super().close()
        self._page.words = " ".join(self._words)


def pages(folder: Path) -> dict[Path, Page]:
    """Every page of the site, by its file."""
    found = {}
    for path in sorted(folder.rglob("*.html")):
        page = Page(path)
        reader = _Reader(page)
        reader.feed(path.read_text(encoding="utf-8"))
        reader.close()
        found[path] = page
    return found


def styled(text: str) -> list[str]:
    """What a style sheet fetches."""
    urls = (one or other for one, other in _STYLED.findall(text))
    return [url for url in urls if not url.startswith(("data:", "#"))]


def is_foreign(url: str) -> bool:
    return bool(urlsplit(url).netloc) or urlsplit(url).scheme in ("http", "https")


def target(page: Page, link: str) -> tuple[Path, str]:
    """The file and the place within it that a link of this page leads to."""
    parts = urlsplit(link)
    path = page.path.parent / unquote(parts.path) if parts.path else page.path
    return path.resolve(), unquote(parts.fragment)
