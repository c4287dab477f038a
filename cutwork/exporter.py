"""``GET /metrics``: figures from SQL, served once for all processes.

A process of its own, so that it still speaks when the reconciler does not. Several show the same
figures. Unfinished jobs are read at each scrape; all rows are counted in a thread, at most a
hundredth of the time, and a scrape gets the latest count without waiting for the next.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cutwork import census, database, log, loop, metrics
from cutwork.errors import InvalidSetting
from cutwork.metrics import Labels, Values
from cutwork.settings import Settings, current

_COUNT_EVERY = 30.0
_SHARE_OF_TIME = 0.01
# Several Prometheus servers that scrape at one moment are told the same; and so are those that come
# soon after a reading that took long.
_FRESH_FOR = 1.0
_SHARE_OF_READING = 0.05
_SILENCE = 10.0


class Exporter(Collector):
    """``collect()`` for Prometheus' package; ``count()`` is to be called again and again.

    ``clock`` gives seconds, as ``time.monotonic`` does.
    """

    def __init__(
        self, engine: Engine, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine, self._settings, self._clock = engine, settings, clock
        self._reading = threading.Lock()
        self._read: Values = {}
        self._stale_at = float("-inf")
        self._counted: Values = {}
        self._counted_at, self._count_took = 0.0, 0.0
        # Rows may be counted no more (a failed job that is tried again); a counter must not fall.
        self._highest: dict[tuple[str, Labels], float] = {}

    def count(self) -> float:
        """Count all rows; gives the seconds until the next time."""
        started = self._clock()
        with database.read_only(self._engine).connect() as tx:
            found = metrics.counted(census.take(tx))
        self._counted_at = self._clock()
        self._count_took = self._counted_at - started
        self._counted = {name: self._risen(name, values) for name, values in found.items()}
        return max(_COUNT_EVERY, self._count_took / _SHARE_OF_TIME)

    def collect(self) -> Iterator[Any]:
        """Every metric; those that nothing is known of without a value."""
        with self._reading:
            started = self._clock()
            if started >= self._stale_at:
                self._read = self._ask()
                ended = self._clock()
                self._stale_at = ended + max(_FRESH_FOR, (ended - started) / _SHARE_OF_READING)
            read, counted = self._read, self._counted
        if counted:
            counted = counted | {
                "cutwork_census_duration_seconds": {(): self._count_took},
                "cutwork_census_age_seconds": {(): self._clock() - self._counted_at},
            }
        build = metrics.build(self._engine.dialect.name)
        yield from metrics.families(metrics.together(build, read, counted))

    def _ask(self) -> Values:
        started = self._clock()
        try:
            with database.read_only(self._engine).connect() as tx:
                values = metrics.live(tx, self._settings)
        except SQLAlchemyError as error:
            fault = type(error).__name__
            log.event("metrics not read", level=logging.WARNING, fault=fault)
            return {"cutwork_database_up": {(): 0}}
        took = self._clock() - started
        return values | {
            "cutwork_database_up": {(): 1},
            "cutwork_scrape_duration_seconds": {(): took},
        }

    def _risen(self, name: str, values: dict[Labels, float]) -> dict[Labels, float]:
        if not name.endswith("_total"):
            return values
        for labels, value in values.items():
            known = self._highest.get((name, labels), value)
            self._highest[name, labels] = max(known, value)
        return {labels: value for (of, labels), value in self._highest.items() if of == name}


class Server(ThreadingHTTPServer):
    """``GET /metrics`` and ``GET /healthz``, on an address of its own."""

    daemon_threads = True

    def __init__(self, host: str, port: int, exporter: Exporter) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.exporter = exporter
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = _SILENCE
    server_version = "cutwork"
    sys_version = ""
    server: Server

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, kind, encode(self.server.exporter))
            case "/healthz":
                self._answer(200, "text/plain; charset=utf-8", b"OK\n")
            case _:
                self._answer(404, "text/plain; charset=utf-8", b"Not Found\n")

    do_HEAD = do_GET  # noqa: N815 - the name that the library looks for

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """A line for each scrape is of no use to anybody."""


def serve(host: str, port: int, ready: Callable[[], object] = lambda: None) -> None:
    """Serve metrics until told to stop.

    Raises:
        InvalidSetting: the address cannot be listened on.
        DatabaseNotReady: the tables are missing, old or newer.
    """
    settings = current()
    log.configure(settings)
    engine = database.engine(settings.database, pool_size=2, sweeping=True)
    database.ensure_ready(engine)
    exporter = Exporter(engine, settings)
    server = _bound(host, port, exporter)
    stop = loop.stop_on_signals()
    parts = [
        threading.Thread(target=loop.run, args=("count", exporter.count, stop)),
        threading.Thread(target=server.serve_forever, args=(0.1,)),
    ]
    for part in parts:
        part.start()
    log.event("metrics start", address=f"{host}:{server.server_port}")
    ready()
    stop.wait()
    server.shutdown()
    for part in parts:
        part.join()
    server.server_close()
    engine.dispose()
    log.event("metrics stop")


def _bound(host: str, port: int, exporter: Exporter) -> Server:
    try:
        return Server(host, port, exporter)
    except OSError as error:
        rule = f"cannot be listened on ({error.strerror})"
    raise InvalidSetting("--bind", f"{host}:{port}", rule, "choose another address")
