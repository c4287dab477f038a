"""HTTP on a socket that may be mistreated: does to a connection what an answer says."""

import logging
import select
import socket
import socketserver
import struct
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from threading import Event, Lock, Thread, current_thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .answers import (
    Answer,
    Flood,
    Redirect,
    Reply,
    Request,
    Reset,
    Silence,
    Trickle,
    Truncated,
)

log = logging.getLogger(__name__)

LINGER_NOT = struct.pack("ii", 1, 0)
IDLE_SECONDS = 65
DRAINED = 64 * 2**20
CHUNK = 64 * 1024


class Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, lets the application answer, does what the answer says."""

    protocol_version = "HTTP/1.1"
    server_version = "cutwork-sandbox"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    server: "Server"

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            log.debug("a client went away")

    def do_any(self) -> None:
        try:
            request = self._request()
        except ValueError:
            self.send_error(400)
            return
        try:
            answer = self.server.application(request)
        except OSError:
            raise
        except Exception:
            log.exception("the sandbox could not answer %s %s", request.method, request.path)
            answer = Reply.json(500, {"status": 500, "message": "internal error"})
        self._unread = request._unread
        self._give(answer)
        self._drain()

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Whatever the method, the application answers: the base class looks for ``do_METHOD``."""
        if name.startswith("do_"):
            return self.do_any
        raise AttributeError(name)

    def version_string(self) -> str:
        return self.server_version

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: a request line may hold a signature."""

    def _request(self) -> Request:
        target = urlsplit(self.path)
        request = Request(
            self.command,
            target.path,
            dict(parse_qsl(target.query, keep_blank_values=True)),
            self.headers,
            self._base_url(),
            self.rfile.read,
        )
        unsaid = self.command == "POST" or "Transfer-Encoding" in self.headers
        if request.length is None and unsaid:
            self.close_connection = True
        request._unread = request.length or 0
        return request

    def _base_url(self) -> str:
        host = self.headers.get("Host", "")
        allowed = all(letter.isalnum() or letter in "-._:[]" for letter in host)
        return f"http://{host}" if host and host.isascii() and allowed else self.server.url

    def _give(self, answer: Answer) -> None:
        match answer:
            case Reply():
                self._send(answer, answer.body)
            case Redirect(location):
                self._send(Reply(302, b"", "text/plain", (("Location", location),)), b"")
            case Reset():
                self._reset()
            case Silence(seconds):
                self._stay_silent(seconds)
            case Truncated(reply):
                self._send(reply, reply.body[: len(reply.body) // 2])
                self.close_connection = True
            case Trickle(reply, seconds):
                self._head(reply, len(reply.body))
                self._trickle(reply.body, seconds)
            case Flood(size, announced):
                self._flood(size, announced)

    def _send(self, reply: Reply, body: bytes) -> None:
        self._head(reply, len(reply.body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, reply: Reply, length: int | None) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers:
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        if self.close_connection and length is not None:
            self.send_header("Connection", "close")
        self.end_headers()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self.close_connection = True
        self._unread = 0

    def _stay_silent(self, seconds: float) -> None:
        self.close_connection = True
        deadline = time.monotonic() + seconds
        gone = select.poll()
        gone.register(self.connection, select.POLLIN)
        while time.monotonic() < deadline and not self.server.stopping.is_set():
            if gone.poll(50) and not self.connection.recv(CHUNK):
                return

    def _trickle(self, body: bytes, seconds: float) -> None:
        pieces = max(1, min(len(body), int(seconds / 0.05)))
        size = -(-len(body) // pieces)
        for start in range(0, len(body), size):
            if self.server.stopping.wait(seconds / pieces):
                return
            self.wfile.write(body[start : start + size])

    def _flood(self, size: int, announced: bool) -> None:
        self.close_connection = True
        self._head(Reply(200, b"", "image/png"), size if announced else None)
        nothing = bytes(CHUNK)
        while size > 0 and not self.server.stopping.is_set():
            self.wfile.write(nothing[:size])
            size -= CHUNK

    def _drain(self) -> None:
        """Read what the client still sends, or it would see a reset instead of the answer."""
        if self._unread > DRAINED:
            self.close_connection = True
            return
        while self._unread > 0:
            got = self.rfile.read(min(CHUNK, self._unread))
            if not got:
                self.close_connection = True
                return
            self._unread -= len(got)


class Server(socketserver.TCPServer):
    """A thread for each connection; ``stop()`` hangs up on all of them."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, application: Callable[[Request], Answer], stopping: Event
    ) -> None:
        self.application, self.stopping = application, stopping
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._connections: dict[Thread, socket.socket] = {}
        self._lock = Lock()
        super().__init__((host, port), Handler)
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - shown, not bound
        at = f"[{shown}]" if ":" in shown else shown
        self.url = f"http://{at}:{self.server_address[1]}"
        self._loop = Thread(target=self._serve, name="sandbox-http", daemon=True)

    def start(self) -> None:
        self._loop.start()

    def stop(self, timeout: float) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            open_now = dict(self._connections)
            for connection in open_now.values():
                _hang_up(connection)
        deadline = time.monotonic() + timeout
        for thread in (self._loop, *open_now):
            thread.join(max(0.0, deadline - time.monotonic()))

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = Thread(target=self._converse, args=(request, client_address), daemon=True)
        with self._lock:
            self._connections[thread] = request
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close; without the polite half-close when the connection is to be reset."""
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(LINGER_NOT)) == LINGER_NOT:
            request.close()
        else:
            super().shutdown_request(request)

    def _serve(self) -> None:
        self.serve_forever(poll_interval=0.05)

    def _converse(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        finally:
            with self._lock:
                self._connections.pop(current_thread(), None)
                self.shutdown_request(request)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("a connection was closed already")
