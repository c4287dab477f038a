"""A person with a browser: the Chromium that is installed, and what it complained about."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.console.client import TOKEN
from tests.services.chromium import FLAGS
from tests.services.waiting import run_until

_SEEN = """[...document.images].filter(
  (one) => one.loading !== "lazy" || one.getBoundingClientRect().top < innerHeight)"""
WIDE, NARROW = (1280, 860), (375, 740)
_WATCH = """
window.refused = [];
document.addEventListener("securitypolicyviolation", (event) => window.refused.push(
  `${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Seen:
    """A page, and every complaint about it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        reply = self.page.goto(self.url + path)
        assert reply is not None
        assert reply.status == 200, (path, reply.status)

    def log_in(self) -> None:
        self.go("/login")
        self.page.get_by_label("Token").fill(TOKEN)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(f"{self.url}/")

    def broken(self) -> list[str]:
        """Wait for the pictures that can be seen; the addresses of those that could not be had."""
        # Not Playwright's own waiting: it evaluates text in the page, which may not do that.
        run_until(lambda: self.page.evaluate(f"{_SEEN}.every((one) => one.complete)"))
        broken: list[str] = self.page.evaluate(
            f"{_SEEN}.filter((one) => !one.naturalWidth).map((one) => one.src)"
        )
        return broken

    def refused(self) -> list[str]:
        """What the page's own policy did not let it do."""
        found: list[str] = self.page.evaluate("window.refused || []")
        return found


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """It runs while the block does."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def looking(
    browser: Browser, url: str, size: tuple[int, int] = WIDE, **options: Any
) -> Iterator[Seen]:
    """A page of a profile of its own; complaints fail the test that looks."""
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, **options)
    page = context.new_page()
    seen = Seen(page, url)
    page.set_default_timeout(10_000)
    if options.get("java_script_enabled", True):
        context.add_init_script(_WATCH)
    note = seen.complaints.append
    page.on("console", lambda one: note(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: note(str(error)))
    yield seen
    told = seen.refused() if options.get("java_script_enabled", True) else []
    context.close()
    assert seen.complaints + told == []
