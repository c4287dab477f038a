"""A database with jobs in it, storage with pictures, and a person who looks at them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import Engine

from cutwork import database, gate
from cutwork.console import asking
from cutwork.console.app import Console
from cutwork.console.asking import Asked
from cutwork.migrations.upgrade import upgrade
from tests.conftest import DATABASES
from tests.console.client import TOKEN, Client
from tests.services.registry import Services
from tests.tables import wipe
from tests.world import SETTINGS, World

Enter = Callable[..., Client]


@pytest.fixture(scope="module")
def upgraded(services: Services) -> Iterator[Callable[[str], Engine]]:
    """``upgraded("sqlite")``: an engine whose tables were made once for all tests of a module."""
    engines: dict[str, Engine] = {}

    def give(kind: str) -> Engine:
        if kind not in engines:
            engines[kind] = database.engine(services.empty(kind))
            upgrade(engines[kind])
        wipe(engines[kind])
        return engines[kind]

    yield give
    for engine in engines.values():
        engine.dispose()


@pytest.fixture(params=DATABASES)
def kind(request: pytest.FixtureRequest) -> str:
    """Each database in turn."""
    name: str = request.param
    return name


@pytest.fixture
def world(kind: str, upgraded: Callable[[str], Engine], tmp_path: Path) -> World:
    """Empty, with one key, on each database in turn."""
    engine = upgraded(kind)
    url = engine.url.render_as_string(hide_password=False)
    storage = (tmp_path / "files").as_uri()
    settings = replace(SETTINGS, database_url=url, storage_url=storage, console_token=TOKEN)
    made = World(engine, settings)
    made.do(gate.ensure, settings.keys)
    return made


@pytest.fixture
def stranger(world: World) -> Iterator[Enter]:
    """``stranger(read_only=True)``: somebody at the door."""
    made: list[Client] = []

    def come(*, read_only: bool = False) -> Client:
        made.append(Client(Console(world.settings, read_only=read_only)))
        return made[-1]

    yield come
    for client in made:
        client.close()


@pytest.fixture
def person(stranger: Enter) -> Enter:
    """``person()``: somebody who is logged in."""

    def enter(*, read_only: bool = False) -> Client:
        client = stranger(read_only=read_only)
        assert client.log_in().status == 303
        return client

    return enter


@pytest.fixture
def asked() -> Callable[..., Asked]:
    """``asked(state="held")``: the request of a page with this query."""

    def make(**query: str) -> Asked:
        return asking.read({"REQUEST_METHOD": "GET", "QUERY_STRING": urlencode(query)})

    return make
