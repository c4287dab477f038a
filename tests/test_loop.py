"""A loop that goes on after whatever happens, and stops when it is told to."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from cutwork import loop


class Watch(threading.Event):
    """An event whose time flies: it notes how long it was to be waited for, and does not wait."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._rounds = rounds

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        if len(self.waits) == self._rounds:
            self.set()
        return self.is_set()


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def turns(*results: float | Exception) -> Callable[[], float]:
    """A step that returns, or raises, one after the other."""
    left = list(results)

    def run_once() -> float:
        result = left.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    return run_once


def test_the_step_says_how_long_to_wait() -> None:
    watch = Watch(3)

    loop.run("reconciler", turns(0.1, 2.0, 0.0), watch)

    assert watch.waits == [0.1, 2.0, 0.0]


def test_after_a_failure_it_goes_on_a_little_later_each_time() -> None:
    watch = Watch(14)
    failures = [ConnectionError("no database")] * 12

    loop.run("reconciler", turns(*failures, 0.1, ValueError("again")), watch)

    assert watch.waits[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert watch.waits[11:] == [10.0, 0.1, 0.5]


def test_a_failure_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    loop.run("reconciler", turns(ConnectionError("no database\nSQL: SELECT 1")), Watch(1))

    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "reconciler failed")
    fields = {"fault": "ConnectionError: no database", "again_in": 0.5}
    assert vars(record)["cutwork_fields"] == fields


def test_it_does_not_begin_when_it_is_over_already() -> None:
    stop = threading.Event()
    stop.set()

    loop.run("reconciler", turns(), stop)


def test_it_stops_at_once_however_long_it_meant_to_wait() -> None:
    stop, began = threading.Event(), threading.Event()

    def run_once() -> float:
        began.set()
        return 3600.0

    thread = threading.Thread(target=loop.run, args=("reconciler", run_once, stop))
    thread.start()
    assert began.wait(5)
    stop.set()
    thread.join(5)

    assert not thread.is_alive()


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_order_to_end_is_not_swallowed(end: type[BaseException]) -> None:
    def run_once() -> float:
        raise end

    with pytest.raises(end):
        loop.run("reconciler", run_once, threading.Event())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    stop = loop.stop_on_signals()
    assert not stop.is_set()

    signal.raise_signal(number)

    assert stop.wait(5)


def test_a_signal_that_comes_when_a_wait_begins_stops_nobody_for_ever() -> None:
    stop = loop.stop_on_signals()

    with stop._cond:  # as its wait() does
        signal.raise_signal(signal.SIGTERM)

    assert stop.wait(5)


def test_a_signal_ends_a_wait() -> None:
    stop = loop.stop_on_signals()
    rounds: list[int] = []

    def run_once() -> float:
        rounds.append(1)
        signal.raise_signal(signal.SIGTERM)
        return 3600.0

    loop.run("reconciler", run_once, stop)

    assert rounds == [1]
