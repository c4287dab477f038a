"""The example apps as their READMEs start them, beside a `cutwork up`, over real HTTP."""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from sqlalchemy import create_engine, func, select

from cutwork import schema
from cutwork.settings import Settings
from cutwork.states import State
from tests.house import picture
from tests.services.ports import free_port
from tests.services.processes import Process, Processes
from tests.services.registry import Services
from tests.services.waiting import run_until

ROOT = Path(__file__).parents[2]
PHOTOGRAPH = ROOT / "cutwork" / "cli" / "photographs" / "grace_hopper.jpg"
NAMES = ("fastapi", "flask", "django")


@dataclass
class Street:
    """A directory where `cutwork up` runs, and the shops that were opened in it."""

    directory: Path
    processes: Processes
    env: dict[str, str]

    def open(self, name: str) -> "Shop":
        """Run the last command of the README, on a port that is free."""
        port = free_port()
        line = (
            commands(name)[-1].replace("8080", str(port)).replace("examples/", f"{ROOT}/examples/")
        )
        process = self.processes.start(
            "sh", "-c", line, name=name, cwd=self.directory, env=self.env
        )
        return Shop(f"http://127.0.0.1:{port}", process)

    def jobs(self, owner: str) -> int:
        """How many jobs of an owner there are."""
        engine = create_engine(Settings.load({"CUTWORK_HOME": self.home, **self.env}).database)
        query = select(func.count()).where(schema.job.c.owner == owner)
        with engine.connect() as tx:
            count = tx.execute(query).scalar_one()
        engine.dispose()
        return count

    @property
    def home(self) -> str:
        return str(self.directory / ".cutwork")


class Shop:
    """A browser at one of the apps."""

    def __init__(self, url: str, process: Process) -> None:
        self.url, self.process = url, process
        self._browser = requests.Session()

    def ready(self) -> bool:
        if not self.process.running:
            raise AssertionError(self.process.tail())
        try:
            return self._browser.get(self.url, timeout=5).ok
        except requests.ConnectionError:
            return False

    def order(self, customer: str, data: bytes | None) -> requests.Response:
        """Fill in the form and send it; gives the page that it leads to."""
        form = self._browser.get(self.url, timeout=10).text
        hidden = re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', form)
        return self._browser.post(
            f"{self.url}/orders",
            data={**dict(hidden), "customer": customer, "article": "A <b>bold</b> shoe"},
            files={"picture" if data else "other": ("photo.jpg", data or b"no picture")},
            timeout=30,
        )

    def get(self, url: str, **options: Any) -> requests.Response:
        return self._browser.get(url, timeout=30, **options)

    def over(self, order: str) -> dict[str, Any]:
        """What the page's script hears when it asks and the job is over."""

        def look() -> dict[str, Any]:
            status = self.get(f"{order}/status").json()
            return status if status["over"] else {}

        return run_until(look, 60, "the job is over")

    def close(self) -> None:
        self._browser.close()


def commands(name: str) -> list[str]:
    readme = (ROOT / "examples" / name / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^    (.+)$", readme, re.MULTILINE)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def street(
    request: pytest.FixtureRequest, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Street]:
    """One `cutwork up` for all apps, with the sandbox as the provider."""
    url = services.empty(request.param)
    env = {} if request.param == "sqlite" else {"CUTWORK_DATABASE_URL": url}
    directory = tmp_path_factory.mktemp(request.param)
    processes = Processes(directory)
    up = processes.start("cutwork", "up", "--bind", "127.0.0.1:0", cwd=directory, env=env)
    up.wait_for_log("ready (", 120)
    yield Street(directory, processes, env)
    processes.close()


@pytest.fixture(scope="module")
def shops(street: Street) -> Iterator[Callable[[str], Shop]]:
    """All three, which start at the same time."""
    opened = {name: street.open(name) for name in NAMES}

    def shop(name: str) -> Shop:
        run_until(opened[name].ready, 60, f"{name} answers")
        return opened[name]

    yield shop
    for one in opened.values():
        one.close()


each_app = pytest.mark.parametrize("name", NAMES)


@each_app
def test_an_upload_becomes_a_cut_out_that_the_page_shows(
    shops: Callable[[str], Shop], name: str
) -> None:
    shop = shops(name)

    page = shop.order("grace", PHOTOGRAPH.read_bytes())
    assert page.history[0].status_code in (302, 303)
    assert "A &lt;b&gt;bold&lt;/b&gt; shoe" in page.text
    assert shop.over(page.url) == {"state": "succeeded", "over": True, "error": None}

    shown = shop.get(page.url).text
    (source,) = re.findall(r'<img src="(.+?)"', shown)
    found = shop.get(f"{shop.url}{source}")
    assert found.headers["Content-Type"] == "image/png"
    cut = Image.open(io.BytesIO(found.content))
    assert (cut.mode, cut.size) == ("RGBA", (512, 600))
    assert cut.getchannel("A").getextrema() == (0, 255)


@each_app
def test_a_request_that_fails_after_the_enqueue_leaves_no_job(
    shops: Callable[[str], Shop], street: Street, name: str
) -> None:
    shop, customer = shops(name), f"{name}-guest"

    orders = [shop.order(customer, picture()) for _ in range(3)]

    assert [one.status_code for one in orders] == [200, 200, 403]
    assert street.jobs(customer) == 2


@each_app
def test_what_the_provider_would_refuse_is_told_to_the_user(
    shops: Callable[[str], Shop], street: Street, name: str
) -> None:
    refused = shops(name).order(f"{name}-joker", b"This is no picture.")

    assert refused.status_code == 400
    assert "image_file" in refused.text
    assert street.jobs(f"{name}-joker") == 0


@each_app
def test_an_owner_longer_than_may_be_is_told_to_the_user(
    shops: Callable[[str], Shop], name: str
) -> None:
    refused = shops(name).order("x" * 65, picture())

    assert refused.status_code == 400
    assert "owner" in refused.text


@each_app
def test_a_form_without_a_picture_is_the_users_fault(
    shops: Callable[[str], Shop], name: str
) -> None:
    assert shops(name).order(f"{name}-hasty", None).status_code in (400, 422)


@each_app
def test_an_order_that_nobody_made_is_not_found(shops: Callable[[str], Shop], name: str) -> None:
    shop = shops(name)

    assert shop.get(f"{shop.url}/orders/999/status").status_code == 404


def test_the_page_of_fastapi_is_told_by_an_event(shops: Callable[[str], Shop]) -> None:
    shop = shops("fastapi")
    page = shop.order("ada", picture())
    assert f'EventSource("/orders/{page.url.rpartition("/")[2]}/events")' in page.text

    shop.get(f"{page.url}/events", stream=True).close()  # a browser that goes away
    with shop.get(f"{page.url}/events", stream=True) as events:
        assert events.headers["Content-Type"].startswith("text/event-stream")
        said = [line for line in events.iter_lines(decode_unicode=True) if line]

    assert said[-2:] == ["event: over", f"data: {State.SUCCEEDED}"]
    assert "Traceback" not in shop.process.log


def test_each_readme_has_three_commands() -> None:
    for name in NAMES:
        install, up, _ = commands(name)
        assert install.startswith("pip install '.[all]' ")
        assert up == "cutwork up"
