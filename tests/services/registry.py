"""The servers of one test session: found when first asked for, closed at the end."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import pytest

from tests.services import chromium, mariadb, postgresql, rabbitmq, redis, sqlite
from tests.services.outcome import Missing, Service, Unusable
from tests.services.private import PrivateServer, find_program

Finder = Callable[[str], Service | Missing]

FINDERS: Mapping[str, Finder] = {
    "sqlite": sqlite.find,
    "postgresql": postgresql.find,
    "mariadb": mariadb.find,
    "redis": redis.find,
    "rabbitmq": rabbitmq.find,
    "chromium": chromium.find,
}
PRIVATE: Mapping[str, type[PrivateServer]] = {
    "postgresql": postgresql.PrivatePostgreSQL,
    "mariadb": mariadb.PrivateMariaDB,
    "redis": redis.PrivateRedis,
    "rabbitmq": rabbitmq.PrivateRabbitMQ,
}
NAMES = {
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "mariadb": "MariaDB",
    "redis": "Redis",
    "rabbitmq": "RabbitMQ",
    "chromium": "Chromium",
}


class Services:
    """Hands out servers; where there is none the test is skipped, or fails if ``strict``."""

    def __init__(self, environ: Mapping[str, str], finders: Mapping[str, Finder] = FINDERS) -> None:
        self._environ, self._finders = environ, finders
        self._strict = environ.get("CI", "").lower() in ("1", "true", "yes")
        self._found: dict[str, Service | Missing] = {}
        self._private: dict[str, PrivateServer] = {}
        self._skipped: Counter[str] = Counter()
        self._labels: set[str] = set()

    def empty(self, kind: str) -> str:
        """The URL of an empty database or broker of this kind."""
        if kind == "filesystem":
            return "filesystem://"
        if kind not in self._found:
            self._found[kind] = self._find(kind)
        found = self._found[kind]
        if isinstance(found, Missing):
            self._give_up(f"{NAMES[kind]} ({found.reason})")
        return found.empty()

    def private(self, kind: str) -> PrivateServer:
        """A running, empty server that the test may stop, kill and restart."""
        absent = PRIVATE[kind].missing()
        if absent:
            self._give_up(f"a private {NAMES[kind]} ({absent.reason})")
        server = self._private.get(kind) or PRIVATE[kind]()
        self._private[kind] = server
        server.start()
        server.wipe()
        return server

    def program(self, name: str, *patterns: str) -> str:
        """The path of a program that a test starts itself, wherever it is found."""
        found = find_program(name, *patterns)
        if not found:
            self._give_up(f"{name} (not installed)")
        return found

    def close(self) -> None:
        """Remove and stop everything, even if one of the servers is in trouble."""
        faults: list[Exception] = []
        services = [found for found in self._found.values() if not isinstance(found, Missing)]
        everything: list[PrivateServer | Service] = [*self._private.values(), *services]
        for item in everything:
            try:
                item.close()
            except Exception as fault:  # noqa: BLE001  the others must be closed all the same
                faults.append(fault)
        if faults:
            raise ExceptionGroup("servers of the tests could not be cleaned up", faults)

    @property
    def reasons(self) -> set[str]:
        """Why tests were skipped for want of a server, as their reports say it."""
        return {f"Skipped: no {what}" for what in self._skipped}

    def facts(self) -> dict[str, Any]:
        """What was found and what was missed, for another process to adopt."""
        found = {one.label for one in self._found.values() if not isinstance(one, Missing)}
        return {"labels": sorted(found | self._labels), "skipped": dict(self._skipped)}

    def adopt(self, facts: dict[str, Any]) -> None:
        """Add what a parallel worker found and missed."""
        self._labels.update(facts["labels"])
        self._skipped.update(facts["skipped"])

    def report(self) -> list[str]:
        """The last lines of the run."""
        labels = self.facts()["labels"]
        tested = [f"tested with: {', '.join(labels)}"] if labels else []
        return tested + [
            f"NOT TESTED: {what}: {count} test{'s'[: count > 1]} skipped"
            for what, count in sorted(self._skipped.items())
        ]

    def _find(self, kind: str) -> Service | Missing:
        variable = f"CUTWORK_TEST_{kind.upper()}_URL"
        try:
            return self._finders[kind](self._environ.get(variable, ""))
        except Unusable as fault:
            pytest.exit(f"{fault}: correct or unset it", returncode=pytest.ExitCode.USAGE_ERROR)

    def _give_up(self, what: str) -> NoReturn:
        if self._strict:
            pytest.fail(f"CI must test everything, and there is no {what}", pytrace=False)
        self._skipped[what] += 1
        pytest.skip(f"no {what}")
