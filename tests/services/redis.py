"""Redis: a numbered database that was empty, marked as ours, or a server of our own."""

import json
import os
import signal
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import redis

from tests.services.outcome import Missing, Unusable
from tests.services.ports import HOST, is_open
from tests.services.private import PrivateServer, find_program

PORT = 6379
OWNER = "cutwork:test:owner"
CANDIDATES = range(15, 0, -1)  # never 0, where everybody's things are


class Redis:
    """One numbered database; nothing outside it is touched."""

    def __init__(self, url: str, private: "PrivateRedis | None" = None) -> None:
        self._private = private
        self._url, self._client = _claim(url)
        self.label = f"Redis {self._client.info('server')['redis_version']}"

    def empty(self) -> str:
        with self._client.pipeline(transaction=True) as commands:
            commands.flushdb()
            commands.set(OWNER, _owner())
            commands.execute()
        return self._url

    def close(self) -> None:
        self._client.flushdb()
        self._client.close()
        if self._private:
            self._private.close()


class PrivateRedis(PrivateServer):
    """A Redis of our own, that keeps its data over a restart."""

    name = "Redis"
    stop_signal = signal.SIGTERM

    @classmethod
    def missing(cls) -> Missing | None:
        return None if _program() else Missing("no redis-server installed")

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def prepare(self) -> None:
        """Redis makes its files itself."""

    def command(self) -> Sequence[str | Path]:
        return [
            _program(), "--bind", HOST, "--port", str(self.port), "--dir", self.directory,
            "--appendonly", "yes", "--save", "",
        ]  # fmt: skip

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.RedisError:
                return False

    def wipe(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


def find(explicit: str) -> Redis | Missing:
    """The server of CUTWORK_TEST_REDIS_URL, the one on the standard port, or a private one."""
    if explicit:
        try:
            return Redis(explicit)
        except (redis.exceptions.RedisError, LookupError, ValueError) as error:
            raise Unusable(f"CUTWORK_TEST_REDIS_URL cannot be used: {error}") from None
    try:
        return Redis(f"redis://{HOST}:{PORT}")
    except (redis.exceptions.RedisError, LookupError):
        pass
    absent = PrivateRedis.missing()
    if absent:
        what = "a server that lets the tests in" if is_open(PORT) else "server"
        return Missing(f"no {what} at {HOST}:{PORT}, {absent.reason}")
    private = PrivateRedis()
    private.start()
    return Redis(private.url, private)


def _claim(url: str) -> tuple[str, "redis.Redis"]:
    """The URL's own database if it names one, else the highest that is free; marked as ours."""
    for number in _numbers(url):
        numbered = urlunsplit(urlsplit(url)._replace(path=f"/{number}"))
        client = redis.Redis.from_url(numbered, socket_connect_timeout=3)
        with suppress(redis.exceptions.ResponseError):  # the server has fewer databases
            if _take(client):
                return numbered, client
        client.close()
    raise LookupError("every database it may use holds keys that are not of a test run")


def _numbers(url: str) -> Iterable[int]:
    path = urlsplit(url).path.strip("/")
    return [int(path)] if path else CANDIDATES


def _take(client: Any) -> bool:
    """Mark an empty database, or one that a dead test run left behind."""
    if client.set(OWNER, _owner(), nx=True):
        if client.dbsize() == 1:
            return True
        client.delete(OWNER)
        return False
    return _abandoned(client.get(OWNER)) and bool(client.set(OWNER, _owner()))


def _owner() -> str:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid()})


def _abandoned(mark: bytes | None) -> bool:
    owner = json.loads(mark or b"{}")
    return owner.get("host") == socket.gethostname() and not psutil.pid_exists(owner["pid"])


def _program() -> str:
    return find_program("redis-server", "/usr/sbin/redis-server", "/opt/homebrew/bin/redis-server")
