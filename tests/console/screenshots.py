"""The pictures of the docs: ``python -m tests.console.screenshots`` takes them anew."""

import tempfile
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.console.browser import Seen, chromium, looking
from tests.console.place import Place, inhabited
from tests.services import chromium as program
from tests.services import sqlite
from tests.services.outcome import Missing
from tests.services.processes import Processes

_ROOT = Path(__file__).parents[2]
IMAGES = _ROOT / "docs" / "images"
_LOOKS = ("templates/*.html", "static/console.*")
TAKEN_OF = "Comment"
SCHEMES = ("light", "dark")
# Name → address of each page that the docs show.
SHOTS: dict[str, Callable[[Place], str]] = {
    "overview": lambda _: "/",
    "jobs": lambda _: "/jobs",
    "job": lambda place: f"/jobs/{place.job}",
    "troubles": lambda _: "/troubles",
}


def looks() -> str:
    """Another word when the pages are written or coloured in another way."""
    console = _ROOT / "console"
    files = sorted(path for one in _LOOKS for path in console.glob(one))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def shoot(seen: Seen, path: str) -> bytes:
    """The page as it is when all its pictures are there."""
    seen.go(path)
    assert seen.broken() == []
    return seen.page.screenshot()


def take(place: Place, browser: object, folder: Path) -> None:
    """Every shot, in the light and in the dark, each with a word for what it was taken of."""
    told = PngInfo()
    told.add_text(TAKEN_OF, looks())
    for scheme in SCHEMES:
        with looking(browser, place.url, color_scheme=scheme) as seen:  # type: ignore[arg-type]
            seen.log_in()
            for name, path in SHOTS.items():
                picture = Image.open(BytesIO(shoot(seen, path(place)))).convert("RGB")
                small = picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
                file = folder / f"console-{name}-{scheme}.png"
                small.save(file, optimize=True, pnginfo=told)


def main() -> None:
    found = program.find("")
    if isinstance(found, Missing):
        raise SystemExit(found.reason)
    databases = sqlite.find()
    with tempfile.TemporaryDirectory() as name:
        processes = Processes(Path(name))
        try:
            with (
                inhabited(databases.empty(), Path(name), processes) as place,
                chromium(found.empty()) as browser,
            ):
                take(place, browser, IMAGES)
        finally:
            processes.close()
            databases.close()


if __name__ == "__main__":
    main()
