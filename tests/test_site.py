"""The site is built whole, holds together, and asks nothing of another host."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.site import Page, is_foreign, pages, styled, target

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds, in another place, so that the checkout gets no files."""
    top = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", top)
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndocs:")[2]
    commands = re.findall(r"^\t\$\(BIN\)/(.+)$", recipe.partition("\n\n")[0], re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        program, *words = command.replace("docs/stage.py", str(DOCS / "stage.py")).split()
        run = [Path(sys.executable).with_name(program), *words]
        done = subprocess.run(run, cwd=top, capture_output=True, check=False, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "rror" not in said, said  # it was seen to say so, and to end with 0
    return top / "build" / "site"


@pytest.fixture(scope="module")
def built(site: Path) -> Mapping[Path, Page]:
    """The page for what is not there is left out: a server shows it at any depth."""
    return {path: page for path, page in pages(site).items() if path.name != "404.html"}


def test_every_page_of_the_docs_is_a_page_of_the_site(
    site: Path, built: Mapping[Path, Page]
) -> None:
    wanted = {site / page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert len(wanted) > 25
    renamed = {path.with_name("index.html") if path.stem == "README" else path for path in wanted}

    assert renamed <= set(built)


def test_every_page_is_in_the_navigation(site: Path, built: Mapping[Path, Page]) -> None:
    named = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    found = {page.name for page in DOCS.glob("*.md")} | {"decisions/README.md"}

    assert named == found
    home = built[site / "index.html"]
    reached = {target(home, link)[0] for link in home.links if not is_foreign(link)}
    pages_ = {site / one.replace("README.md", "index.md").replace(".md", ".html") for one in named}
    assert {path.resolve() for path in pages_} <= reached


def test_every_link_within_the_site_leads_to_a_file_and_a_place(
    built: Mapping[Path, Page],
) -> None:
    places = {path.resolve(): page.places for path, page in built.items()}
    broken, followed = [], 0
    for page in built.values():
        for link in page.links:
            if is_foreign(link):
                continue
            path, place = target(page, link)
            followed += 1
            if not path.exists() or (place and place not in places.get(path, {place})):
                broken.append(f"{page.path.name}: {link}")

    assert not broken
    assert followed > 1000


def test_nothing_is_loaded_from_another_host(site: Path, built: Mapping[Path, Page]) -> None:
    loads = [(page.path.name, url) for page in built.values() for url in page.loads]
    for sheet in site.rglob("*.css"):
        loads += [(sheet.name, url) for url in styled(sheet.read_text(encoding="utf-8"))]

    assert len(loads) > 100
    assert [one for one in loads if is_foreign(one[1])] == []


def test_everything_that_is_loaded_is_there(built: Mapping[Path, Page]) -> None:
    absent = [
        f"{page.path.name}: {url}"
        for page in built.values()
        for url in page.loads
        if not url.startswith("data:") and not target(page, url)[0].exists()
    ]

    assert absent == []


def test_no_page_has_what_a_script_from_elsewhere_would_draw(built: Mapping[Path, Page]) -> None:
    sources = "".join(page.path.read_text(encoding="utf-8") for page in built.values())

    assert 'class="mermaid"' not in sources
    assert 'class="arithmatex"' not in sources


def test_every_picture_says_what_it_shows(built: Mapping[Path, Page]) -> None:
    pictures = [told for page in built.values() for told in page.pictures]

    assert len(pictures) >= 5
    assert all(len(told.get("alt", "")) > 10 for told in pictures)


def test_the_search_works_without_a_server(site: Path) -> None:
    (index,) = [path for path in site.rglob("search*.js") if "reconciler" in path.read_text()]

    assert "CUTWORK_UNCERTAIN_GRACE" in index.read_text(encoding="utf-8")
