"""The console in a real Chromium, as people use it: by mouse, by keyboard, without a script."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from cutwork import jobs
from cutwork.cli.sample import samples
from cutwork.states import State
from tests.console import browser as browsing
from tests.console.browser import NARROW, WIDE, Seen
from tests.console.place import Place, inhabited
from tests.console.screenshots import IMAGES, SCHEMES, SHOTS, TAKEN_OF, looks
from tests.services.processes import Processes
from tests.services.registry import Services
from tests.services.waiting import run_until

AXE = (Path(__file__).parent / "axe.min.js").read_text(encoding="utf-8")
_WIDER = """[...document.querySelectorAll("#found .scroll, #rows tbody :is(td, th), dd, li")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)"""
_HEIGHTS = """[...document.querySelectorAll("tbody tr")]
  .map((one) => one.getBoundingClientRect().height)"""

Look = Callable[..., Seen]


@pytest.fixture(scope="module")
def browser(services: Services) -> Iterator[Browser]:
    with browsing.chromium(services.empty("chromium")) as started:
        yield started


@pytest.fixture(scope="module")
def place(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    services.empty("chromium")  # without one nobody would look
    folder = tmp_path_factory.mktemp("place")
    processes = Processes(folder)
    try:
        with inhabited(services.empty("sqlite"), folder, processes) as made:
            yield made
    finally:
        processes.close()


@pytest.fixture
def look(browser: Browser, place: Place) -> Iterator[Look]:
    """``look()`` is a page of somebody who is logged in; nothing may have been complained about."""
    opened: list[Any] = []

    def make(size: tuple[int, int] = WIDE, *, enter: bool = True, **options: Any) -> Seen:
        opened.append(browsing.looking(browser, place.url, size, **options))
        seen: Seen = opened[-1].__enter__()
        if enter:
            seen.log_in()
        return seen

    yield make
    for one in opened:
        one.__exit__(None, None, None)


def test_the_token_is_typed_in_and_a_wrong_one_is_refused(look: Look) -> None:
    seen = look(enter=False)
    seen.go("/login")
    page = seen.page
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not the token.")
    seen.complaints.clear()  # the browser notes each 403

    seen.log_in()

    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_link_with_the_token_lets_in_and_leaves_no_trace(look: Look) -> None:
    seen = look(enter=False)
    seen.go(f"/jobs?token={browsing.TOKEN}")

    assert seen.page.url == f"{seen.url}/jobs"


def test_a_filter_is_applied_without_a_new_page_and_stands_in_the_address(look: Look) -> None:
    seen = look()
    seen.go("/jobs")
    seen.page.evaluate("window.same = true")

    seen.page.get_by_label("State").select_option("failed")

    expect(seen.page.locator("tbody tr")).to_have_count(3)
    assert seen.page.url.endswith("state=failed&key=&owner=&meta=&error=&after=&before=&id=")
    assert seen.page.evaluate("window.same") is True
    assert seen.broken() == []
    seen.page.reload()
    expect(seen.page.locator("tbody tr")).to_have_count(3)


def test_the_slider_moves_by_key_and_by_pointer(look: Look, place: Place) -> None:
    seen = look()
    seen.go(f"/jobs/{place.job}")
    assert seen.broken() == []
    after = seen.page.locator(".side.after")
    slider = seen.page.get_by_role("slider")
    middle = after.evaluate("one => getComputedStyle(one).clipPath")

    slider.focus()
    seen.page.keyboard.press("End")

    end = after.evaluate("one => getComputedStyle(one).clipPath")
    assert (middle, end) == ("inset(0px 0px 0px 50%)", "inset(0px 0px 0px 100%)")
    box = seen.page.locator(".sides").bounding_box()
    assert box is not None
    seen.page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert slider.input_value() in ("24", "25", "26")


def test_the_slider_follows_a_finger(look: Look, place: Place) -> None:
    seen = look(NARROW, has_touch=True)
    seen.go(f"/jobs/{place.job}")
    assert seen.broken() == []
    box = seen.page.locator(".sides").bounding_box()
    assert box is not None
    finger = seen.page.context.new_cdp_session(seen.page)

    def touch(kind: str, *shares: float) -> None:
        points = [{"x": box["x"] + one * box["width"], "y": box["y"] + 50} for one in shares]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.2)
    for percent in range(25, 85, 5):
        touch("touchMove", percent / 100)
    touch("touchEnd")

    assert seen.page.get_by_role("slider").input_value() in ("79", "80", "81")


def test_a_failed_job_is_sent_again_and_a_scheduled_one_is_cancelled(
    look: Look, place: Place
) -> None:
    seen = look()
    failed, queued = place.of(State.FAILED), place.of(State.QUEUED)
    seen.go(f"/jobs/{failed.id}")
    seen.page.get_by_role("button", name="Retry, and pay again").click()
    expect(seen.page.get_by_role("status").first).to_contain_text("1 paid for again")
    assert place.house.job(failed.id).state is State.QUEUED

    seen.go(f"/jobs/{queued.id}")
    seen.page.get_by_role("button", name="Cancel").click()

    expect(seen.page.get_by_role("status").first).to_contain_text("1 cancelled")
    assert place.house.job(queued.id).state is State.CANCELLED
    place.house.settle(failed.id, seconds=30)


def test_many_are_decided_after_a_question(look: Look) -> None:
    seen = look()
    seen.go("/troubles")
    card = seen.page.locator(".cause", has_text="uncertain")
    card.get_by_role("button", name="Cancel all…").click()
    expect(seen.page.get_by_role("heading", name="Cancel 2 jobs?")).to_be_visible()

    seen.page.get_by_role("button", name="Cancel 2").click()

    expect(seen.page.locator(".cause", has_text="uncertain")).to_have_count(0)


def test_a_key_is_paused_and_resumed(look: Look) -> None:
    page = look().page
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator(".gate")).to_have_text("paused")
    page.get_by_role("button", name="Resume all").click()
    expect(page.locator(".gate")).to_have_text("open")


def test_the_page_keeps_itself_up_to_date_unless_it_is_told_not_to(
    look: Look, place: Place
) -> None:
    seen = look()
    page = seen.page
    page.clock.install()
    seen.go("/")
    count = page.locator("#count-cancelled .number")
    before = int(count.inner_text())
    later = [place.house.enqueue() for _ in range(2)]

    cancel(place, later[0])
    page.clock.run_for(6000)
    expect(count).to_have_text(str(before + 1))
    page.get_by_role("switch", name="Live").uncheck()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    cancel(place, later[1])
    page.clock.run_for(30_000)

    assert asked == []
    expect(count).to_have_text(str(before + 1))


def test_the_troubles_keep_themselves_up_to_date(look: Look, place: Place) -> None:
    seen = look()
    seen.page.clock.install()
    failed = place.of(State.FAILED)
    seen.go("/troubles")
    assert seen.broken() == []
    shown = seen.page.locator(f'.cause a[href="/jobs/{failed.id}"]')
    expect(shown).to_have_count(1)

    with place.house.engine.begin() as tx:
        jobs.retry(tx, failed.id, settings=place.house.settings)
    cancel(place, failed.id)
    seen.page.clock.run_for(6000)

    expect(shown).to_have_count(0)


@pytest.mark.parametrize("name", ["overview", "troubles", "queued"])
def test_a_refresh_takes_the_focus_from_nobody(look: Look, place: Place, name: str) -> None:
    seen = look()
    page = seen.page
    page.clock.install()
    queued = place.house.enqueue(image_file=samples()[0].data, owner="atelier")
    seen.go({"overview": "/", "troubles": "/troubles"}.get(name, f"/jobs/{queued}"))
    assert seen.broken() == []
    stops = page.locator("[hx-trigger^=refresh] :is(a, [tabindex='0'])")
    assert stops.count() >= 2
    for number in range(stops.count()):
        focus = "one => { one.focus(); one.id && (window.stop = one.id); one.old = true }"
        stops.nth(number).evaluate(focus)
        with page.expect_response(lambda reply: reply.request.headers.get("hx-request") == "true"):
            page.clock.run_for(5000)
        run_until(lambda: is_new(page), 10, "a refresh")
        expect(page.locator(":focus")).to_have_id(page.evaluate("window.stop"))
    cancel(place, queued)


def is_new(page: Page) -> bool:
    """Whether what had the focus was replaced; the page's own clock has to go on for that."""
    page.clock.run_for(100)
    return bool(page.evaluate("!document.getElementById(window.stop).old"))


def cancel(place: Place, job_id: Any) -> None:
    with place.house.engine.begin() as tx:
        jobs.cancel(tx, job_id)


def test_everything_works_without_a_script(look: Look, place: Place) -> None:
    seen = look(java_script_enabled=False)
    page = seen.page
    page.get_by_role("link", name="Jobs").click()
    page.get_by_label("Idempotency key").fill("order-4109")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody th a").click()

    before, after = page.locator(".side.before img"), page.locator(".side.after img")
    left, right = before.bounding_box(), after.bounding_box()
    assert left is not None
    assert right is not None
    assert left["x"] + left["width"] < right["x"]
    expect(page.get_by_role("slider")).to_have_count(0)
    expect(page.get_by_role("switch")).to_have_count(0)
    later = place.house.enqueue()
    seen.go(f"/jobs/{later}")
    page.get_by_role("button", name="Cancel").click()
    assert place.house.job(later).state is State.CANCELLED


def test_the_keyboard_reaches_the_content_first(look: Look) -> None:
    seen = look()
    seen.go("/jobs")
    seen.page.keyboard.press("Tab")
    expect(seen.page.locator(":focus")).to_have_text("Skip to the content")
    outline = seen.page.locator(":focus").evaluate("one => getComputedStyle(one).outlineStyle")
    assert outline == "solid"
    seen.page.keyboard.press("Enter")

    assert seen.page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("width", [NARROW[0], 320])
@pytest.mark.parametrize("name", SHOTS)
def test_a_narrow_screen_shows_all_without_scrolling_aside(
    look: Look, place: Place, name: str, width: int
) -> None:
    seen = look((width, NARROW[1]))
    seen.go(SHOTS[name](place))
    assert seen.broken() == []

    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    # Other tables may be wider than the screen; the list of the jobs, and a line of text, may not.
    assert seen.page.evaluate(_WIDER) == []
    assert all(height < 300 for height in seen.page.evaluate(_HEIGHTS))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_page_is_fit_for_everybody_in_light_and_dark(
    look: Look, place: Place, scheme: str
) -> None:
    seen = look(color_scheme=scheme)
    for name in SHOTS:
        seen.go(SHOTS[name](place))
        seen.page.evaluate(AXE)
        told = seen.page.evaluate("axe.run().then((all) => all.violations)")
        assert [(one["id"], one["nodes"][0]["html"]) for one in told] == [], name
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(246, 247, 248)", "dark": "rgb(20, 24, 28)"}[scheme]


@pytest.mark.parametrize("name", SHOTS)
def test_the_docs_pictures_are_of_the_pages_as_they_are(
    look: Look, place: Place, name: str
) -> None:
    seen = look()
    seen.go(SHOTS[name](place))

    assert seen.broken() == []
    expect(seen.page.get_by_role("heading", level=1)).to_be_visible()
    for scheme in SCHEMES:
        with Image.open(IMAGES / f"console-{name}-{scheme}.png") as picture:
            assert picture.size == WIDE
            taken_of = picture.info.get(TAKEN_OF)
        assert taken_of == looks(), "python -m tests.console.screenshots takes them anew"


def test_the_console_wrote_no_token(place: Place) -> None:
    assert "console starts" in place.process.log
    assert "request method=GET" in place.process.log
    assert browsing.TOKEN not in place.process.log
    assert "Traceback" not in place.process.log
