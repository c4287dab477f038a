"""The loop of a component that looks, does what there is to do, and says when to look again."""

import logging
import signal
import threading
from collections.abc import Callable

from cutwork import log

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0


def run(
    name: str,
    run_once: Callable[[], float],
    stop: threading.Event,
    rest: Callable[[float], object] | None = None,
) -> None:
    """Call ``run_once`` until ``stop`` is set, waiting as many seconds as it returns.

    ``rest`` waits in its own way, and may come back earlier; after a failure ``stop`` is waited on.

    Whatever it raises is logged, and it is called again a little later each time: a database or a
    broker that is away for a while must not end the process.
    """
    failures = 0
    while not stop.is_set():
        wait = rest or stop.wait
        try:
            pause, failures = run_once(), 0
        except Exception as error:  # noqa: BLE001 - the outermost loop: it has to go on
            wait = stop.wait
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**failures)
            failures = min(failures + 1, 10)
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
            log.event(f"{name} failed", level=logging.WARNING, fault=fault, again_in=pause)
        wait(pause)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The signal may come while this thread holds the event's lock, to begin or end a wait.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    return stop
