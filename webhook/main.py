"""Starts the webhook under granian, the server that we recommend."""

import socket
from typing import Any

from cutwork import database, log
from cutwork.errors import InvalidSetting
from cutwork.settings import current

from .app import ensure_secrets

_HEADERS_WITHIN = 10_000  # milliseconds
_HEADERS_AT_MOST = 65_536
# After SIGTERM, requests that are being served are served to the end; one that stalls is not.
_STOP_WITHIN = 5
# Its lines go where ours go. At its start it warns of more threads than cores; ours wait for
# commits, and the more of them wait together, the fewer commits there are.
_LOGGING = {"loggers": {"_granian": {"handlers": [], "propagate": True}}}


def serve(bind: str, *, workers: int = 1, threads: int = 64) -> None:
    """Serve callbacks on ``HOST:PORT`` until told to stop.

    Raises:
        InvalidSetting: the address is malformed or taken, a secret is missing, or granian or the
            database's driver is not installed.
    """
    settings = current()
    ensure_secrets(settings)
    database.engine(settings.database).dispose()
    granian = _granian()
    host, port = _bindable(bind)
    log.configure(settings)
    log.event("webhook starts", address=bind, workers=workers, threads=threads)
    granian.Granian(
        "cutwork.webhook.app:application",
        address=host,
        port=port,
        interface=granian.constants.Interfaces.WSGI,
        workers=workers,
        blocking_threads=threads,
        http=granian.constants.HTTPModes.http1,
        http1_settings=granian.http.HTTP1Settings(
            header_read_timeout=_HEADERS_WITHIN, max_buffer_size=_HEADERS_AT_MOST
        ),
        websockets=False,
        workers_kill_timeout=_STOP_WITHIN,
        log_level=granian.log.LogLevels.error,
        log_dictconfig=_LOGGING,
        log_access=False,  # its lines would hold the token; ours do not
    ).serve()


def address(bind: str) -> tuple[str, int]:
    """``HOST:PORT`` in two parts."""
    host, colon, port = bind.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise InvalidSetting("--bind", bind, "must be HOST:PORT, such as 127.0.0.1:8000")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - what an empty host means


def _bindable(bind: str) -> tuple[str, int]:
    """The IP address and port, tried: granian takes no names, and dies loudly of a taken port."""
    host, port = address(bind)
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(where)
    except OSError as error:
        fault = error.strerror
    else:
        return str(where[0]), port
    raise InvalidSetting("--bind", bind, f"cannot be listened on ({fault})", "choose another")


def _granian() -> Any:
    try:
        import granian
        import granian.constants
        import granian.http
        import granian.log
    except ModuleNotFoundError:
        pass
    else:
        return granian
    raise InvalidSetting(
        "webhook",
        "granian",
        "needs a server that is not installed",
        "pip install 'cutwork[webhook]', or run cutwork.webhook.app:application elsewhere",
    )
