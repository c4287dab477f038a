"""Desks and servers, each made to order; no server may have written a token when it ends."""

from collections.abc import Callable, Iterator

import pytest

from tests.services.processes import Processes
from tests.services.registry import Services
from tests.webhook.desk import Desk
from tests.webhook.servers import SERVERS, Served, start

MakeDesk = Callable[..., Desk]
Serve = Callable[..., Served]


@pytest.fixture
def make_desk(empty_database: Callable[[str], str]) -> Iterator[MakeDesk]:
    """``make_desk("sqlite", callback_trust="confirm")``: an upgraded database and its settings."""
    made: list[Desk] = []

    def make(kind: str = "sqlite", **options: str) -> Desk:
        made.append(Desk(kind if "://" in kind else empty_database(kind), options))
        return made[-1]

    yield make
    for desk in made:
        desk.close()


@pytest.fixture
def serve(processes: Processes) -> Iterator[Serve]:
    """``serve("granian", desk)``: a server of this test alone."""
    made: list[Served] = []

    def make(name: str, desk: Desk, *options: str) -> Served:
        made.append(start(processes, name, desk, *options))
        return made[-1]

    yield make
    for served in made:
        served.assert_discreet()


@pytest.fixture(scope="module")
def desk(services: Services) -> Iterator[Desk]:
    """One SQLite desk for the servers of a module."""
    made = Desk(services.empty("sqlite"))
    yield made
    made.close()


@pytest.fixture(scope="module", params=SERVERS)
def served(
    request: pytest.FixtureRequest, desk: Desk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The module's desk behind each of the servers in turn."""
    processes = Processes(tmp_path_factory.mktemp(request.param))
    try:
        made = start(processes, request.param, desk)
        yield made
        made.assert_discreet()
    finally:
        processes.close()
