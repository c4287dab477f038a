"""RabbitMQ: a virtual host of our own on a server that is there, or a server of our own."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import amqp

from tests.services.databases import fresh_name
from tests.services.outcome import Missing, Unusable
from tests.services.ports import HOST, free_port, is_open
from tests.services.private import PrivateServer, find_program
from tests.services.rabbitmq_admin import Admin, ManagementApi, Rabbitmqctl, Refused
from tests.services.waiting import run_until

PORT = 5672
LOCAL = f"amqp://guest:guest@{HOST}:{PORT}//"
OWN_SCRIPTS = "/usr/lib/rabbitmq/bin"
# What reaching for a server can raise; amqp.AMQPError covers refused logins.
UNREACHABLE = (OSError, amqp.AMQPError)


class RabbitMQ:
    """A virtual host of a random name, deleted at the end."""

    def __init__(self, url: str, admin: Admin, private: "PrivateRabbitMQ | None" = None) -> None:
        self._admin, self._private = admin, private
        self._name = fresh_name()
        self._url = urlunsplit(urlsplit(url)._replace(path=f"/{self._name}"))
        with closing(connect(url)) as connection:
            self.label = f"RabbitMQ {connection.server_properties['version']}"
        admin.create(self._name, unquote(urlsplit(url).username or "guest"))

    def empty(self) -> str:
        delete_queues(self._url, self._admin.queues(self._name))
        return self._url

    def close(self) -> None:
        self._admin.delete(self._name)
        if self._private:
            self._private.close()


class PrivateRabbitMQ(PrivateServer):
    """A RabbitMQ of our own, with an epmd of its own, so that nothing stays behind."""

    name = "RabbitMQ"
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__()
        self._names_port, self._node_port = free_port(), free_port()
        self._names: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> Missing | None:
        absent = [name for name in ("rabbitmq-server", "epmd") if not _program(name)]
        return Missing(f"no {absent[0]} installed") if absent else None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}//"

    @property
    def admin(self) -> Admin:
        return Rabbitmqctl(self.control)

    def control(self, *words: str) -> str:
        """Run rabbitmqctl on this server; its standard output."""
        return self.run(_program("rabbitmqctl"), *words)

    def prepare(self) -> None:
        """RabbitMQ makes its files itself."""

    def start(self) -> None:
        if self._names is None:
            self._names = subprocess.Popen(
                [_program("epmd"), "-port", str(self._names_port), "-address", HOST],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **self._setting(),
            )
            run_until(lambda: is_open(self._names_port), message="epmd serves")
        super().start()

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._names:
                self._names.kill()
                self._names.wait()

    def environment(self) -> Mapping[str, str]:
        return {
            "ERL_EPMD_PORT": str(self._names_port),
            "RABBITMQ_NODENAME": "cutwork@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
        }

    def command(self) -> Sequence[str | Path]:
        return [_program("rabbitmq-server")]

    def answers(self) -> bool:
        try:
            connect(self.url).close()
        except UNREACHABLE:
            return False
        return True

    def wipe(self) -> None:
        delete_queues(self.url, self.admin.queues("/"))


def find(explicit: str) -> RabbitMQ | Missing:
    """The server of CUTWORK_TEST_RABBITMQ_URL, the one on the standard port, or a private one."""
    if explicit:
        return _explicit(explicit)
    fault = "no server"
    if is_open(PORT):
        try:
            return _shared(LOCAL)
        except (*UNREACHABLE, Refused) as error:
            fault = f"no server that lets the tests in ({error})"
    absent = PrivateRabbitMQ.missing()
    if absent:
        return Missing(f"{fault} at {HOST}:{PORT}, {absent.reason}")
    private = PrivateRabbitMQ()
    private.start()
    return RabbitMQ(private.url, private.admin, private)


def connect(url: str) -> Any:
    """An open AMQP connection."""
    parts = urlsplit(url)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port or PORT}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        ssl=parts.scheme == "amqps",
        connect_timeout=3,
        read_timeout=10,
    )
    connection.connect()
    return connection


def delete_queues(url: str, names: Sequence[str]) -> None:
    """Delete queues with all that is in them."""
    if not names:
        return
    with closing(connect(url)) as connection:
        channel = connection.channel()
        for name in names:
            channel.queue_delete(name)


def _shared(url: str) -> RabbitMQ:
    """A virtual host on a server of somebody else's, by whichever door is open."""
    faults = []
    for door in _doors(url):
        try:
            return RabbitMQ(url, door())
        except Refused as refused:
            faults.append(str(refused))
    raise Refused("; ".join(faults))


def _doors(url: str) -> Iterator[Callable[[], Admin]]:
    yield lambda: ManagementApi.beside(url)
    if urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1"):
        yield lambda: Rabbitmqctl(_system_control)


def _system_control(*words: str) -> str:
    program = find_program("rabbitmqctl", f"{OWN_SCRIPTS}/rabbitmqctl")
    if not program:
        raise Refused("no rabbitmqctl installed")
    done = subprocess.run(
        [program, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
    )
    if done.returncode:
        raise Refused(f"rabbitmqctl {words[-1]}: {done.stderr.decode(errors='replace')[:200]}")
    return done.stdout.decode()


def _explicit(text: str) -> RabbitMQ:
    try:
        return _shared(text)
    except (*UNREACHABLE, Refused) as error:
        raise Unusable(f"CUTWORK_TEST_RABBITMQ_URL cannot be used: {error}") from None


def _program(name: str) -> str:
    """RabbitMQ's own scripts first: those that a distribution puts on PATH change the user."""
    own = Path(OWN_SCRIPTS) / name
    return str(own) if own.exists() and os.access(own, os.X_OK) else find_program(name)
