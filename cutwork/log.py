"""Logs: events with fields, one line each, for people or for machines.

``event("job stored", job=…, seconds=…)`` is the only call. Secrets are never fields: an API key is
named by its id, a callback by its job and attempt, a result link not at all.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from cutwork.settings import Settings

_LOGGER = logging.getLogger("cutwork")
_FIELDS = "cutwork_fields"
_QUIET = {
    # These write URLs, and a callback's or a result's URL is a secret.
    "urllib3": logging.ERROR,
    "amqp": logging.WARNING,
    "kombu": logging.ERROR,
    # Two lines for each message; what became of its jobs has lines of our own.
    "celery.worker.strategy": logging.WARNING,
    "celery.app.trace": logging.WARNING,
}


def event(name: str, *, level: int = logging.INFO, error: bool = False, **fields: Any) -> None:
    """Log what happened; ``error`` adds the traceback of the exception being handled."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, name, exc_info=error, extra={_FIELDS: fields})


def configure(settings: Settings) -> None:
    """Send every logger of this process to standard error, in the chosen form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if settings.log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname).1s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fields = getattr(record, _FIELDS, {})
        told = "".join(f" {name}={_word(value)}" for name, value in fields.items())
        return super().formatMessage(record) + told


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _word(value: Any) -> str:
    text = str(value)
    plain = text.isprintable() and text and not set(text) & set(' "=')
    # Escaped beyond ASCII too if need be: U+2028 ends a line for some, U+202E turns it around.
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
