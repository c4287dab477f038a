"""Celery's settings, from ours. Each that is not Celery's default has its reason here."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cutwork.errors import InvalidSetting
from cutwork.settings import Settings

from . import files

# A POST may take submit_timeout, and its outcome must be written after it.
_DRAIN_MARGIN = 10.0
LANES = ("submit", "check", "store", "notify")


def queue_name(lane: str) -> str:
    return f"cutwork.{lane}"


def configuration(settings: Settings) -> dict[str, Any]:
    """What ``Celery.conf`` is updated with."""
    return {
        "broker_url": settings.broker,
        "broker_transport_options": _transport(settings),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # the database may wait longer than any count
        # A queue that is deleted between its declaration and its consumer closes the channel only.
        "broker_channel_error_retry": True,
        "broker_heartbeat": 30,  # a silently dropped connection is noticed
        # Messages are hints. They carry ids, nobody reads results, and a copy is a counted no-op.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,  # would loop on a job that kills its worker
        "worker_prefetch_multiplier": 1,
        "task_queues": {queue_name(lane): {"durable": True} for lane in LANES},
        "task_default_queue": queue_name("submit"),
        "task_routes": {f"cutwork.{lane}": {"queue": queue_name(lane)} for lane in LANES},
        "task_publish_retry": False,  # the job is due again: SQL is the retry
        "worker_soft_shutdown_timeout": settings.submit_timeout + _DRAIN_MARGIN,
        "worker_concurrency": settings.concurrency,
        # Health is judged by progress in SQL, not by gossip over the broker.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


def publish_options(settings: Settings) -> dict[str, Any]:
    """What bounds one publish, and the life of its message where the broker can end it."""
    scheme = urlsplit(settings.broker).scheme.partition("+")[0]
    if scheme in ("amqp", "amqps", "pyamqp"):
        return {"confirm_timeout": 5, "expiration": settings.permit_ttl}
    return {}


def _transport(settings: Settings) -> dict[str, Any]:
    scheme = urlsplit(settings.broker).scheme.partition("+")[0]
    match scheme:
        case "amqp" | "amqps" | "pyamqp":
            # Without confirms a message on a dead socket vanishes without an error.
            return {"confirm_publish": True, "connect_timeout": 5, "read_timeout": 30}
        case "redis" | "rediss":
            return {
                "visibility_timeout": 3600,
                "socket_timeout": 30,
                "socket_connect_timeout": 5,
                "socket_keepalive": True,
                "health_check_interval": 10,
            }
        case "filesystem":
            files.use()
            return _folders(settings.home.absolute() / "broker")
        case "memory":
            return {"polling_interval": 0.05}
    raise InvalidSetting(
        "CUTWORK_BROKER_URL", scheme, "must be an amqp://, redis:// or filesystem:// URL"
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
