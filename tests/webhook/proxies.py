"""Small real proxies before a webhook, each with a habit of its own; and servers that are none."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote
from wsgiref.simple_server import make_server

from tests.house import Quiet, ThreadingServer

App = Callable[[dict[str, Any], Any], Iterable[bytes]]
Bend = Callable[[str], str]


@contextmanager
def serving(app: App) -> Iterator[str]:
    """The address of a server that runs ``app``."""
    with make_server("127.0.0.1", 0, app, ThreadingServer, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def says(status: str, body: bytes = b"", **headers: str) -> App:
    """A server that answers everything alike."""
    told = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, told)
        return [body]

    return app


def same(text: str) -> str:
    return text


def passing(
    port: int,
    *,
    path: Bend = same,
    query: Bend = same,
    body: Callable[[bytes], bytes] = lambda body: body,
    headers: bool = True,
    only: str = "/",
    methods: tuple[str, ...] = ("GET", "POST", "PUT"),
) -> App:
    """A proxy that passes on what it gets, bent; what does not begin with ``only`` is refused.

    Without ``headers`` it drops those that it does not know.
    """

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raw, method = quote(environ["PATH_INFO"], safe="/-_."), environ["REQUEST_METHOD"]
        if not raw.startswith(only) or method not in methods:
            start_response("403 Forbidden", [])
            return [b"no"]
        asked = query(environ["QUERY_STRING"])
        content = body(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        sent = {"Content-Type": environ.get("CONTENT_TYPE", "")} if content else {}
        if headers and (probe := environ.get("HTTP_X_CUTWORK_PROBE")):
            sent["X-Cutwork-Probe"] = probe
        upstream = HTTPConnection("127.0.0.1", port, timeout=10)
        upstream.request(method, path(raw) + (f"?{asked}" if asked else ""), content or None, sent)
        reply = upstream.getresponse()
        answer = reply.read()
        upstream.close()
        kept = ("content-type", "allow")
        told = [(name, value) for name, value in reply.getheaders() if name.lower() in kept]
        start_response(f"{reply.status} {reply.reason}", told)
        return [answer]

    return app
