"""Whether the broker carries messages: one goes to a queue of its own, and comes back.

The queue is deleted with it. RabbitMQ also deletes it when this process dies, for it is exclusive;
Redis and the embedded broker have no queue without a message in it.
"""

import secrets
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from cutwork import broker
from cutwork.errors import InvalidSetting
from cutwork.finding import Finding, finding, first_line
from cutwork.settings import Settings

_PATIENCE = 3.0
_LOOK = 0.01


def send_and_receive(settings: Settings) -> Finding:
    """One finding about the broker; the folders of the embedded one are left as they were."""
    kombu: Any = import_module("kombu")
    made = _missing_folders(settings)
    try:
        options = {**broker.transport_options(settings), "socket_timeout": _PATIENCE}
        address = {"connect_timeout": _PATIENCE, "transport_options": options}
        with kombu.Connection(settings.broker, **address) as connection:
            connection.transport  # noqa: B018 - loads the driver
            return _connect(connection) or _carry(kombu, connection)
    except InvalidSetting as error:
        return finding("broker_url", reason=error.rule)
    except (KeyError, ImportError, AttributeError, ValueError) as error:  # kombu's for a bad URL
        return finding("broker_url", reason=first_line(error))
    finally:
        for folder in made:
            folder.rmdir()


def _missing_folders(settings: Settings) -> list[Path]:
    """What the embedded broker will make, the innermost first."""
    if broker.kind(settings) != "filesystem":
        return []
    home = settings.home.absolute() / "broker"
    return [one for one in (home / "messages", home / "control", home) if not one.exists()]


def _connect(connection: Any) -> Finding | None:
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=_PATIENCE)
        connection.default_channel  # noqa: B018 - Redis is connected to by asking for it
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own, here and below
        return finding("broker_away", reason=first_line(error))
    return None


def _carry(kombu: Any, connection: Any) -> Finding:
    name, word = f"cutwork.doctor.{secrets.token_hex(8)}", secrets.token_hex(16)
    queue = kombu.Queue(name, durable=False, exclusive=True, auto_delete=True)
    try:
        channel = connection.default_channel
        bound, producer = queue(channel), kombu.Producer(channel)
        bound.queue_declare()
        try:
            producer.publish({"word": word}, routing_key=name, confirm_timeout=_PATIENCE)
            found = _receive(bound, word)
        finally:
            bound.purge()
            bound.delete()
    except Exception as error:  # noqa: BLE001
        return finding("broker_refuses", reason=first_line(error))
    return finding("broker_ok") if found else finding("broker_one_way", seconds=_PATIENCE)


def _receive(queue: Any, word: str) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        message = queue.get(no_ack=True)
        if message is not None:
            return bool(message.payload == {"word": word})
        time.sleep(_LOOK)
    return False
