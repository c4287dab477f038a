"""The two processes of this role, as the command line starts them."""

from typing import Any

from cutwork import database, log, loop
from cutwork.settings import current

from .app import app
from .configuration import LANES, publish_options, queue_name
from .janitor import Janitor
from .publishing import Publisher
from .reconciler import Reconciler
from .sleep import Sleep


def serve_jobs(pool: str = "threads", lanes: tuple[str, ...] = LANES, hostname: str = "") -> None:
    """Run a Celery worker in this process until it is told to stop."""
    # Here, because a reconciler needs no HTTP client and no pictures, and is smaller without.
    from .tools import Tools

    Tools.of(current()).engine.dispose()  # what cannot work is refused here, not job by job
    queues = ",".join(queue_name(lane) for lane in lanes)
    arguments: list[Any] = [
        "--quiet",
        "worker",
        f"--pool={pool}",
        f"--queues={queues}",
        "--loglevel=INFO",
    ]
    arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    if hostname:
        arguments += [f"--hostname={hostname}"]
    app.worker_main(arguments)


def reconcile() -> None:
    """Run the alarm clock in this process until it is told to stop."""
    settings = current()
    log.configure(settings)
    stop = loop.stop_on_signals()
    engine = database.engine(settings.database, pool_size=2)
    publisher = Publisher(app, publish_options(settings))
    reconciler = Reconciler(engine, settings, publisher)
    log.event("reconciler started", keys=",".join(settings.keys) or "none")
    sleep = Sleep(engine, stop, lambda: reconciler.idle)
    janitor = Janitor(engine, settings)
    janitor.start()
    loop.run("reconciler", reconciler.run_once, stop, sleep.rest)
    janitor.close()
    sleep.close()
    reconciler.close()
    log.event("reconciler stopped")
