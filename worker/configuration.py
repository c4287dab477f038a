"""Celery's settings, from ours. Each that is not Celery's default has its reason here."""

from typing import Any

from cutwork import broker
from cutwork.settings import Settings

from . import files

# A POST may take submit_timeout, and its outcome must be written after it.
_DRAIN_MARGIN = 10.0
LANES = ("submit", "check", "store", "notify")


def queue_name(lane: str) -> str:
    return f"cutwork.{lane}"


def configuration(settings: Settings) -> dict[str, Any]:
    """What ``Celery.conf`` is updated with."""
    if broker.kind(settings) == "filesystem":
        files.use()
    return {
        "broker_url": settings.broker,
        "broker_transport_options": broker.transport_options(settings),
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
    if broker.kind(settings) == "amqp":
        return {"confirm_timeout": 5, "expiration": settings.permit_ttl}
    return {}
