"""A WSGI callable under granian, the server that we recommend: for the roles that speak HTTP."""

import socket
import subprocess
import sys
from typing import Any

from cutwork.errors import InvalidSetting

_HEADERS_WITHIN = 10_000  # milliseconds
_HEADERS_AT_MOST = 65_536
# After SIGTERM, requests that are being served are served to the end; one that stalls is not.
_STOP_WITHIN = 5
# Its lines go where ours go. At its start it warns of more threads than cores; ours wait for
# commits, and the more of them wait together, the fewer commits there are.
_LOGGING = {"loggers": {"_granian": {"handlers": [], "propagate": True}}}
_TRIAL = "import sys; from cutwork import database; database.engine(sys.stdin.read()).dispose()"


def server(target: str, bind: str, role: str, *, workers: int, threads: int) -> Any:
    """A server of ``module:callable`` on ``HOST:PORT``; its ``serve()`` returns when it is stopped.

    Raises:
        InvalidSetting: the address is malformed or taken, or granian is not installed.
    """
    granian = _granian(role, target)
    host, port = _bindable(bind)
    return granian.Granian(
        target,
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
        log_access=False,  # its lines would hold the tokens of addresses; ours do not
    )


def ensure_database(url: str, *, apart: bool) -> None:
    """Refuse a database that cannot be spoken to from here, before anything starts.

    ``apart`` tries it in another process. What it loads would stay in this one, which only starts
    the server's processes and waits for them.

    Raises:
        InvalidSetting: the URL is malformed, or its database or driver is not at hand.
    """
    if apart and _is_tried_apart(url):
        return
    from cutwork import database

    database.engine(url).dispose()


def address(bind: str) -> tuple[str, int]:
    """``HOST:PORT`` in two parts."""
    host, colon, port = bind.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise InvalidSetting("--bind", bind, "must be HOST:PORT, such as 127.0.0.1:8000")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - what an empty host means


def _is_tried_apart(url: str) -> bool:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-P", "-c", _TRIAL],
        input=url.encode(),  # not an argument: there is a password in it, and others see those
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0


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


def _granian(role: str, target: str) -> Any:
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
        role,
        "granian",
        "needs a server that is not installed",
        f"pip install 'cutwork[{role}]', or run {target} elsewhere",
    )
