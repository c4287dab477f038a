"""Virtual hosts of a RabbitMQ, made through rabbitmqctl or through the management API."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

PORT = 15672


class Refused(Exception):
    """This door to the server is shut."""


class Admin(Protocol):
    """What the tests need of an administrator."""

    def create(self, vhost: str, user: str) -> None:
        """Make a virtual host in which ``user`` may do everything."""

    def queues(self, vhost: str) -> Sequence[str]:
        """The names of its queues."""

    def delete(self, vhost: str) -> None:
        """Remove it with all that is in it."""


@dataclass(frozen=True)
class Rabbitmqctl:
    """By the server's own program: ``run`` takes its words and gives what it printed."""

    run: Callable[..., str]

    def create(self, vhost: str, user: str) -> None:
        self.run("add_vhost", vhost)
        self.run("set_permissions", "-p", vhost, user, ".*", ".*", ".*")

    def queues(self, vhost: str) -> Sequence[str]:
        return [
            row["name"]
            for row in json.loads(
                self.run("list_queues", "-p", vhost, "name", "--formatter", "json", "--silent")
            )
        ]

    def delete(self, vhost: str) -> None:
        self.run("delete_vhost", vhost)


@dataclass(frozen=True)
class ManagementApi:
    """By HTTP, where the management plugin is on."""

    host: str
    user: str
    password: str = field(repr=False)

    @classmethod
    def beside(cls, url: str) -> "ManagementApi":
        """The API of the server that this AMQP URL names, with the same account."""
        parts = urlsplit(url)
        return cls(
            parts.hostname or "localhost",
            unquote(parts.username or "guest"),
            unquote(parts.password or "guest"),
        )

    def create(self, vhost: str, user: str) -> None:
        self._call("PUT", f"vhosts/{quote(vhost, safe='')}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._call("PUT", f"permissions/{quote(vhost, safe='')}/{quote(user, safe='')}", everything)

    def queues(self, vhost: str) -> Sequence[str]:
        return [row["name"] for row in self._call("GET", f"queues/{quote(vhost, safe='')}")]

    def delete(self, vhost: str) -> None:
        self._call("DELETE", f"vhosts/{quote(vhost, safe='')}")

    def _call(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        connection = HTTPConnection(self.host, PORT, timeout=5)
        try:
            connection.request(
                method, f"/api/{path}", None if body is None else json.dumps(body), headers
            )
            reply = connection.getresponse()
            text = reply.read()
        except (OSError, HTTPException) as error:
            raise Refused(f"no management API at {self.host}:{PORT} ({error})") from None
        finally:
            connection.close()
        if reply.status >= 300:
            raise Refused(f"the management API answers {reply.status} to {method} {path}")
        return json.loads(text) if text else None
