"""Stands before the sandbox, and repeats what it was told: keys, callback addresses, sources.

Each kind of ``REPEATS`` befalls one submit; a key that is not in ``tokens`` is refused by its full
name; every first question about a task is answered with the key. All else is the sandbox's.
"""

import json
import re
import threading
from collections import Counter
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import quote, urlsplit
from uuid import uuid4

import requests

REPEATS = ("rejected", "failed", "called", "broken", "html", "down")
FIELD = r'name="%s"\r\n\r\n(.*?)\r\n'


class Parrot:
    """``repeated`` counts what was said, ``callbacks`` holds every callback address it was sent.

    ``provider`` is the sandbox's URL, set when it is known.
    """

    def __init__(self, tokens: set[str], source: bytes, link_query: str) -> None:
        self.provider, self.tokens = "", tokens
        self.source, self.link_query = source, link_query
        self.repeated: Counter[str] = Counter()
        self.callbacks: set[str] = set()
        self.sources: set[str] = set()
        self._lock = threading.Lock()
        self._left = list(REPEATS)
        self._asked: set[str] = set()
        parrot = self

        class Handler(_Handler):
            owner = parrot

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "Parrot":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_repeat(self) -> str:
        with self._lock:
            return self._left.pop(0) if self._left else ""

    def first_question(self, path: str) -> bool:
        with self._lock:
            new = path not in self._asked
            self._asked.add(path)
            return new

    def note(self, kind: str) -> None:
        with self._lock:
            self.repeated[kind] += 1


class _Handler(BaseHTTPRequestHandler):
    owner: Parrot

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        parrot, path = self.owner, self.path
        if path.startswith("/source"):
            parrot.sources.add(path)
            self._answer(200, parrot.source, "image/png")
        elif path.startswith("/task/") and parrot.first_question(path):
            parrot.note("question")
            self._say(
                500, f"cannot find {path} for Bearer {self._key}, {quote(self._key, safe='')}"
            )
        else:
            self._forward(b"")

    def do_POST(self) -> None:
        parrot, body = self.owner, self.rfile.read(int(self.headers["Content-Length"]))
        self._callback = _field(body, "callback_url")
        if self._callback:
            parrot.callbacks.add(self._callback)
        told = self._repeat(body)
        if self._key not in parrot.tokens:
            parrot.note("key")
            self._say(401, f"Incorrect API key provided: {self._key}. {told}")
            return
        kind = parrot.next_repeat()
        if kind:
            parrot.note(kind)
        match kind:
            case "rejected":
                self._say(400, f"no such form: {told}")
            case "failed":
                self._json(200, _report(str(uuid4()), told))
            case "called":
                self._call_back(told)
            case "broken":
                self._answer(200, b'{"status": 200, "data": {"task_id": ' + told.encode())
            case "html":
                self._answer(502, f"<h1>Bad gateway</h1> {told}".encode(), "text/html")
            case "down":
                self._say(500, f"internal error at {told}")
            case _:
                self._forward(body)

    @property
    def _key(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _repeat(self, body: bytes) -> str:
        """What it was told, the longest last: a reader cuts off the end."""
        link = f"{self.owner.url}/files/x.png?signature={self.owner.link_query}"
        return f"{self._key} {link} {_field(body, 'image_url')} {self._callback}"

    def _call_back(self, told: str) -> None:
        task_id = str(uuid4())
        report = _report(task_id, told)

        def call() -> None:
            requests.post(self._callback, json=report, timeout=10).close()

        self._json(200, {"status": 200, "message": "success", "data": {"task_id": task_id}})
        threading.Thread(target=call).start()

    def _forward(self, body: bytes) -> None:
        connection = HTTPConnection(urlsplit(self.owner.provider).netloc, timeout=30)
        try:
            connection.request(self.command, self.path, body or None, dict(self.headers))
            reply = connection.getresponse()
            content = reply.read()
        except (OSError, HTTPException):
            self.close_connection = True  # as the sandbox did
            return
        finally:
            connection.close()
        self._answer(reply.status, content, reply.headers.get("Content-Type", ""))

    def _say(self, status: int, message: str) -> None:
        self._json(status, {"status": status, "message": message})

    def _json(self, status: int, body: object) -> None:
        self._answer(status, json.dumps(body).encode())

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _report(task_id: str, told: str) -> dict[str, object]:
    data = {"task_id": task_id, "state": -9, "progress": 0, "state_detail": "Failed"}
    return {"status": 200, "message": "success", "data": {**data, "err_info": told}}


def _field(body: bytes, name: str) -> str:
    found = re.search((FIELD % name).encode(), body)
    return found[1].decode() if found else ""
