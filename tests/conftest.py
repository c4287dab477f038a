"""Fixtures that every test may use: databases, brokers, servers to mistreat, processes."""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cutwork import wire
from tests.services.private import PrivateServer
from tests.services.processes import Processes
from tests.services.registry import Services

DATABASES = ("sqlite", "postgresql", "mariadb")
BROKERS = ("filesystem", "redis", "rabbitmq")

SERVICES = pytest.StashKey[Services]()
SKIPPED = pytest.StashKey[list[pytest.TestReport | pytest.CollectReport]]()
REPEATED = pytest.StashKey[list[pytest.TestReport]]()


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest) -> Iterator[Services]:
    """The servers of this run; most tests want one of the fixtures below instead."""
    found = request.config.stash[SERVICES]
    yield found
    found.close()


@pytest.fixture(autouse=True)
def no_trust_of_another_test() -> Iterator[None]:
    """The roots that a process trusts are read once, and a test may have brought its own."""
    wire.trust.cache_clear()
    yield
    wire.trust.cache_clear()


@pytest.fixture
def empty_database(services: Services) -> Callable[[str], str]:
    """``empty_database("sqlite" | "postgresql" | "mariadb")``: the URL of an empty database.

    SQLite gives another file at every call; the others empty and give the same database.
    """
    return services.empty


@pytest.fixture
def empty_broker(services: Services) -> Callable[[str], str]:
    """``empty_broker("filesystem" | "redis" | "rabbitmq")``: the URL of a broker without a message.

    The filesystem broker lives under ``CUTWORK_HOME``, which is the test's own to choose.
    """
    return services.empty


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> str:
    """An empty database of each kind in turn, as SQLAlchemy writes it."""
    return empty_database(request.param)


@pytest.fixture(params=BROKERS)
def broker_url(request: pytest.FixtureRequest, empty_broker: Callable[[str], str]) -> str:
    """An empty broker of each kind in turn, as kombu writes it."""
    return empty_broker(request.param)


@pytest.fixture
def private_postgresql(services: Services) -> PrivateServer:
    """A PostgreSQL to stop, kill, restart and wipe: running and empty at the start of each test."""
    return services.private("postgresql")


@pytest.fixture
def private_mariadb(services: Services) -> PrivateServer:
    """The same for MariaDB."""
    return services.private("mariadb")


@pytest.fixture
def private_redis(services: Services) -> PrivateServer:
    """The same for Redis."""
    return services.private("redis")


@pytest.fixture
def private_rabbitmq(services: Services) -> PrivateServer:
    """The same for RabbitMQ."""
    return services.private("rabbitmq")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """``processes.start("cutwork", "worker", env={...})``; all are ended with the test."""
    started = Processes(tmp_path)
    yield started
    started.close()


def pytest_configure(config: pytest.Config) -> None:
    prepare(config, Services(os.environ))


def prepare(config: pytest.Config, services: Services) -> None:
    config.stash[SERVICES] = services
    config.stash[SKIPPED], config.stash[REPEATED] = [], []
    config.pluginmanager.register(Unusual(config.stash[SKIPPED], config.stash[REPEATED]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes go first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    started = getattr(item, "funcargs", {}).get("processes")
    if isinstance(started, Processes) and report.failed:
        report.sections.extend(started.report())
    return report


class Unusual:
    """Keeps every skip and every repetition that is reported, also from a parallel worker."""

    def __init__(
        self,
        skipped: list[pytest.TestReport | pytest.CollectReport],
        repeated: list[pytest.TestReport],
    ) -> None:
        self._skipped, self._repeated = skipped, repeated

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(report)
        if report.outcome == "rerun":
            self._repeated.append(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(report)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A parallel worker has ended: what it found is part of what was tested."""
    if told := getattr(node, "workeroutput", {}).get("services"):
        node.config.stash[SERVICES].adopt(told)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """After everything else has had its say: what was tested, and what was not."""
    services = session.config.stash[SERVICES]
    excused = services.reasons
    silent = [skip for skip in session.config.stash[SKIPPED] if _reason(skip) not in excused]
    if silent and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["services"] = services.facts()
    yield
    lines = services.report() + [
        f"SKIPPED FOR NO SERVICE, which no test may be: {skip.nodeid} ({_reason(skip)})"
        for skip in silent
    ]
    lines += [
        f"FAILED ONCE AND RUN AGAIN: {once.nodeid} ({_fault(once)})"
        for once in session.config.stash[REPEATED]
    ]
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        for line in lines:
            reporter.write_line(line)


def _reason(skip: pytest.TestReport | pytest.CollectReport) -> str:
    """What a skipped report gives as its reason: the last of (path, line, reason)."""
    return skip.longrepr[2] if isinstance(skip.longrepr, tuple) else str(skip.longrepr)


def _fault(report: pytest.TestReport) -> str:
    """The error of a failed report, on one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join(str(crash.message if crash else report.longrepr).split())[:300]
