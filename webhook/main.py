"""Starts the webhook under granian, the server that we recommend."""

from importlib import import_module

from cutwork import log, serving
from cutwork.settings import current

from .secrets import ensure_secrets

_TARGET = "cutwork.webhook.app:application"


def serve(bind: str, *, workers: int = 1, threads: int = 64) -> None:
    """Serve callbacks on ``HOST:PORT`` until told to stop.

    Raises:
        InvalidSetting: the address is malformed or taken, a secret is missing, or granian or the
            database's driver is not installed.
    """
    settings = current()
    ensure_secrets(settings)
    if workers > 1:
        # Processes that are forked from one that has loaded it all share most of it.
        import_module(_TARGET.partition(":")[0])
    serving.ensure_database(settings.database, apart=workers == 1)
    server = serving.server(_TARGET, bind, "webhook", workers=workers, threads=threads)
    log.configure(settings)
    log.event("webhook starts", address=bind, workers=workers, threads=threads)
    server.serve()
