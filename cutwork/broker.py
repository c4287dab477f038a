"""The broker as kombu is to speak to it: its kind, and the options of its transport."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cutwork.errors import InvalidSetting
from cutwork.settings import Settings

_KINDS = {"amqp": "amqp", "amqps": "amqp", "pyamqp": "amqp", "redis": "redis", "rediss": "redis"}


def kind(settings: Settings) -> str:
    """``amqp`` or ``redis``, whatever the URL calls it; any other scheme as it is."""
    scheme = urlsplit(settings.broker).scheme.partition("+")[0]
    return _KINDS.get(scheme, scheme)


def transport_options(settings: Settings) -> dict[str, Any]:
    """What kombu's transport is told; makes the folders of the embedded broker.

    Raises:
        InvalidSetting: the URL names no broker that we know.
    """
    match kind(settings):
        case "amqp":
            # Without confirms a message on a dead socket vanishes without an error.
            return {"confirm_publish": True, "connect_timeout": 5, "read_timeout": 30}
        case "redis":
            return {
                "visibility_timeout": 3600,
                "socket_timeout": 30,
                "socket_connect_timeout": 5,
                "socket_keepalive": True,
                "health_check_interval": 10,
            }
        case "filesystem":
            return _folders(settings.home.absolute() / "broker")
        case "memory":
            return {"polling_interval": 0.05}
    raise InvalidSetting(
        "CUTWORK_BROKER_URL", kind(settings), "must be an amqp://, redis:// or filesystem:// URL"
    )


def _folders(home: Path) -> dict[str, Any]:
    folders = {name: home / name for name in ("messages", "control")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(folders["messages"]),
        "data_folder_out": str(folders["messages"]),
        "control_folder": str(folders["control"]),
        "polling_interval": 0.03,
    }
