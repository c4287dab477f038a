"""Starts the console under granian."""

from cutwork import log, serving
from cutwork.settings import current

from .session import ensure_token

# The processes of the server load the callable by its name, so what it may do is in the name.
_WRITING, _READING = "cutwork.console.app:application", "cutwork.console.app:reading"
# One process: the limit on failed logins is counted in it, and people are few.
_THREADS = 16


def serve(bind: str, *, read_only: bool = False) -> None:
    """Serve the console on ``HOST:PORT`` until told to stop.

    Raises:
        InvalidSetting: the address is malformed or taken, there is no token, or granian or the
            database's driver is not installed.
    """
    settings = current()
    ensure_token(settings)
    serving.ensure_database(settings.database, apart=True)
    read_only = read_only or settings.console_read_only == "yes"
    target = _READING if read_only else _WRITING
    server = serving.server(target, bind, "console", workers=1, threads=_THREADS)
    log.configure(settings)
    log.event("console starts", address=bind, read_only=read_only)
    server.serve()
