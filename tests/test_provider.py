"""What is known after a request: real sockets that behave in every way but the right one."""

import datetime
import ipaddress
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cutwork import wire
from cutwork.errors import InvalidInput
from cutwork.provider import (
    Accepted,
    Answer,
    Done,
    KeyRefused,
    Missing,
    NotSent,
    Outcome,
    Provider,
    Rejected,
    Throttled,
    Unavailable,
    Uncertain,
)
from cutwork.reply import MAX_REPLY
from cutwork.report import Report, Verdict
from cutwork.settings import Settings

KEY = "sk-Secret-0123456789"
TOKEN = "Callback_token-" * 4
CALLBACK = f"https://hooks.example/callbacks/{TOKEN}"
IMAGE = "https://results.example/out.png?Signature=abc"
PICTURE = b"\x89PNG\r\n\x1a\n" + b"pixels" * 10
LIMIT, SLACK = 0.25, 2.0

Talk = Callable[[socket.socket], None]


class Server:
    """A TCP server that does what a test says to each connection, and counts them."""

    def __init__(self, talk: Talk, tls: ssl.SSLContext | None = None) -> None:
        self.talk, self.tls, self.connections, self.requests = talk, tls, 0, list[bytes]()
        self.listener = socket.socket()
        # A small window, so that an upload which nobody reads comes to a stop.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            if self.over.is_set():
                connection.close()
                return
            self.connections += 1
            self.threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self.threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with ExitStack() as stack:
            stack.enter_context(suppress(OSError))
            stack.enter_context(connection)
            connection.settimeout(10)
            if self.tls:
                connection = stack.enter_context(self.tls.wrap_socket(connection, server_side=True))
            self.talk(connection)

    def close(self) -> None:
        self.over.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self.threads:
            thread.join(10)
        self.listener.close()


def receive(connection: socket.socket) -> bytes:
    """One whole request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or b"\r\n\r\n"
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    while length and len(body) < int(length[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def response(status: int, body: object = b"", **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


Serve = Callable[..., tuple[Server, Provider]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(talk | reply bytes, tls=None, **settings)``: a server, and a client that knows it."""
    with ExitStack() as stack:

        def start(
            script: Talk | bytes, tls: ssl.SSLContext | None = None, **changes: Any
        ) -> tuple[Server, Provider]:
            def answer(connection: socket.socket) -> None:
                assert isinstance(script, bytes)
                while request := receive(connection).strip():
                    server.requests.append(request)
                    connection.sendall(script)

            server = Server(answer if isinstance(script, bytes) else script, tls)
            stack.callback(server.close)
            scheme = "https" if tls else "http"
            changes = {
                "submit_timeout": 5.0,
                "query_timeout": 5.0,
                "connect_timeout": 2.0,
            } | changes
            settings = Settings(api_url=f"{scheme}://127.0.0.1:{server.port}", **changes)
            provider = Provider(settings)
            stack.callback(provider.close)
            return server, provider

        yield start


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "loopback.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server's side of TLS, with a certificate that the client is told to trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def submit(provider: Provider, picture: bytes = PICTURE, **changes: Any) -> Outcome:
    asked: dict[str, Any] = {"key": KEY, "callback_url": CALLBACK, "image_url": None} | changes
    image = None if asked["image_url"] else ("shoe.png", picture)
    return provider.submit({"output_type": "2", "type": "object"}, image=image, **asked)


def query(provider: Provider, task_id: str = "t-1", **changes: Any) -> Answer:
    return provider.query(task_id, **({"key": KEY} | changes))


# What goes out


def test_a_submit_is_the_documented_form(serve: Serve) -> None:
    server, provider = serve(response(200, {"status": 200, "data": {"task_id": "t-1"}}))

    submit(provider)

    (request,) = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /task/pic/segmentation HTTP/1.1\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert re.fullmatch(r"cutwork/\d+\.\d+\S*", headers["User-Agent"])
    boundary = headers["Content-Type"].removeprefix("multipart/form-data; boundary=").encode()
    parts = [part.strip(b"\r\n") for part in body.split(b"--" + boundary)[1:-1]]
    assert sorted(parts) == sorted(
        [
            b'Content-Disposition: form-data; name="output_type"\r\n\r\n2',
            b'Content-Disposition: form-data; name="type"\r\n\r\nobject',
            b'Content-Disposition: form-data; name="sync"\r\n\r\n0',
            b'Content-Disposition: form-data; name="callback_url"\r\n\r\n' + CALLBACK.encode(),
            b'Content-Disposition: form-data; name="image_file"; filename="shoe.png"\r\n'
            b"Content-Type: image/png\r\n\r\n" + PICTURE,
        ]
    )


def test_an_address_is_a_field_of_the_form_and_no_callback_is_asked_for_without_a_url(
    serve: Serve,
) -> None:
    server, provider = serve(response(200, {"data": {"task_id": "t-1"}}), api_auth="x-api-key")

    submit(provider, image_url="https://shop.example/é.png", callback_url=None)

    (request,) = server.requests
    assert f"X-API-KEY: {KEY}\r\n".encode() in request
    assert 'name="image_url"\r\n\r\nhttps://shop.example/é.png\r\n'.encode() in request
    assert b"multipart/form-data; boundary=" in request
    assert b"callback_url" not in request
    assert b"image_file" not in request
    assert b"Authorization" not in request


def test_the_environment_has_no_say(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server, provider = serve(response(200, {"data": {"task_id": "t-1"}}))

    assert isinstance(submit(provider), Accepted)
    assert f"Authorization: Bearer {KEY}".encode() in server.requests[0]


def test_credentials_in_the_address_do_not_displace_the_key(serve: Serve) -> None:
    server, _ = serve(response(200, {"data": {"task_id": "t-1"}}))
    there = Settings(api_url=f"http://user:password@127.0.0.1:{server.port}")

    submit(Provider(there))

    assert f"Authorization: Bearer {KEY}".encode() in server.requests[0]


@pytest.mark.parametrize("image_url", [None, "https://shop.example/shoe.png"])
def test_exactly_one_source_must_be_given(image_url: str | None) -> None:
    image = ("shoe.png", PICTURE) if image_url else None

    with pytest.raises(InvalidInput, match="image must be given"):
        Provider(Settings()).submit(
            {}, key=KEY, image=image, image_url=image_url, callback_url=None
        )


def test_a_query_asks_for_the_task_whatever_its_name(serve: Serve) -> None:
    server, provider = serve(response(404, {"status": 404}), query_path="/v1/{task_id}/state")

    assert query(provider, "a/../b?c#d é%") == Missing()
    assert server.requests[0].startswith(
        b"GET /v1/a%2F..%2Fb%3Fc%23d%20%C3%A9%25/state HTTP/1.1\r\n"
    )


@pytest.mark.parametrize("task_id", ["", ".", ".."])
def test_a_name_that_is_another_address_is_not_asked_for(serve: Serve, task_id: str) -> None:
    server, provider = serve(response(200, {"state": 1}))

    assert query(provider, task_id) == Missing()
    assert server.connections == 0


@pytest.mark.parametrize("key", ["sk-new\nline", "sk-é", " sk", "sk\x00", "sk\r\nX-Evil: 1"])
def test_a_key_that_no_header_can_carry_is_refused_here(serve: Serve, key: str) -> None:
    server, provider = serve(response(200))

    for outcome in (submit(provider, key=key), query(provider, key=key)):
        assert isinstance(outcome, KeyRefused)
        assert key not in outcome.message
    assert server.connections == 0


# What the answer means

DONE = {"task_id": "t-1", "state": 1, "image": IMAGE}
DONE_REPORT = Report(Verdict.DONE, state=1, task_id="t-1", image=IMAGE)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (
            200,
            {"status": 200, "message": "success", "data": {"task_id": "t-1"}},
            Accepted("t-1", Report(Verdict.PENDING, task_id="t-1")),
        ),
        (
            201,
            {"task_id": "t-1", "state": 0},
            Accepted("t-1", Report(Verdict.PENDING, state=0, task_id="t-1")),
        ),
        (
            200,
            {"status": 200, "data": {"task_id": "t-1", "state": 1, "image": ""}},
            Accepted("t-1", Report(Verdict.PENDING, state=1, task_id="t-1")),
        ),
        (
            200,
            {"status": 500, "data": {"task_id": "t-1"}},
            Accepted("t-1", Report(Verdict.PENDING, task_id="t-1")),
        ),
        (200, {"status": 200, "data": DONE}, Done(DONE_REPORT)),
        (
            200,
            {"status": 200, "data": {"state": 1, "image": IMAGE}},
            Done(replace(DONE_REPORT, task_id=None)),
        ),
        (
            200,
            {"status": 200, "data": {"task_id": "t-1", "state": -7}},
            Done(Report(Verdict.FAILED, state=-7, task_id="t-1")),
        ),
        (200, {"status": 200, "data": {"state": -7}}, Done(Report(Verdict.FAILED, state=-7))),
    ],
)
def test_a_reply_that_names_the_task_or_its_end_is_taken(
    serve: Serve, status: int, body: object, outcome: Outcome
) -> None:
    _, provider = serve(response(status, body))

    assert submit(provider) == outcome


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, {"status": 400, "message": "bad type"}, Rejected("rejected_400", "bad type", 400)),
        (400, {"error": {"message": "no"}}, Rejected("rejected_400", "no", 400)),
        (422, {"error": "no"}, Rejected("rejected_422", "no", 422)),
        (415, b"", Rejected("rejected_415", "an empty reply", 415)),
        (
            413,
            b"<html><h1>413 Too Large</h1></html>",
            Rejected("rejected_413", "413 Too Large", 413),
        ),
        (404, {"code": "NotFound", "message": "?"}, Rejected("rejected_404", "?", 404)),
        (200, {"status": 400, "message": "bad"}, Rejected("rejected_400", "bad", 200)),
        (
            200,
            {"code": "413", "message": "big", "data": None},
            Rejected("rejected_413", "big", 200),
        ),
        (500, {"error": {"message": "no", "code": 400}}, Rejected("rejected_400", "no", 500)),
        (401, {"status": 401, "message": "no key"}, KeyRefused("no key", 401)),
        (402, {"message": "no credit"}, KeyRefused("no credit", 402)),
        (403, b"insufficient_user_quota", KeyRefused("insufficient_user_quota", 403)),
        (400, {"message": "x", "code": "insufficient_user_quota"}, KeyRefused("x", 400)),
        (200, {"status": 401, "message": "no key"}, KeyRefused("no key", 200)),
        (200, {"error": {"message": "x", "code": "invalid_api_key"}}, KeyRefused("x", 200)),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, KeyRefused("pay", 429)),
        (429, {"status": 429, "message": "slow down"}, Throttled(None)),
        (429, b"<html>", Throttled(None)),
        (200, {"status": 429}, Throttled(None)),
        (200, {"code": 429, "data": None}, Throttled(None)),
        (200, {"error": {"code": "429"}}, Throttled(None)),
        (500, {"error": {"code": "rate_limit_exceeded", "message": "x"}}, Throttled(None)),
        (400, {"code": "Throttling.RateQuota", "message": "x"}, Throttled(None)),
    ],
)
def test_a_documented_refusal_is_a_refusal(
    serve: Serve, status: int, body: object, outcome: Outcome
) -> None:
    _, provider = serve(response(status, body))

    assert submit(provider) == outcome


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, {"error": {"message": "image is required"}}, "HTTP 500: image is required"),
        (500, {"status": 500, "message": "oops"}, "HTTP 500: oops"),
        (502, b"<html><h1>Bad\nGateway</h1></html>", "HTTP 502: Bad Gateway"),
        (503, {"message": "down"}, "HTTP 503: down"),
        (520, b"error code: 520", "HTTP 520: error code: 520"),
        (200, {"status": 500, "message": "oops"}, "HTTP 200, 500 inside: oops"),
        (200, {"status": 500, "data": {"state": -1}}, "HTTP 200, 500 inside: "),
        (400, {"status": 500, "message": "oops"}, "HTTP 400, 500 inside: oops"),
        (200, {"status": 200, "message": "success", "data": {}}, "HTTP 200: success"),
        (200, {"status": 200, "data": {"state": 0}}, "HTTP 200: "),
        (200, {"state": 1}, "HTTP 200: "),
        (200, b"<html>Welcome</html>", "HTTP 200: Welcome"),
        (200, b"", "HTTP 200: an empty reply"),
        (200, b'{"task_id": "t-1", "task_id": "t-2"}', "HTTP 200: "),
        (200, b'{"task_id": "t-1"', "HTTP 200: "),
        (200, b"[" * 100_000, "HTTP 200: "),
        (204, b"", "HTTP 204: an empty reply"),
        (302, b"", "HTTP 302: an empty reply"),
        (307, b"", "HTTP 307: an empty reply"),
        (408, b"", "HTTP 408: an empty reply"),
        (409, b"", "HTTP 409: an empty reply"),
        (400, {"status": 400, "data": {"task_id": "t-1"}}, "HTTP 400: "),
        (500, {"status": 200, "data": DONE}, "HTTP 500: "),
    ],
)
def test_whatever_else_comes_back_leaves_the_submit_uncertain(
    serve: Serve, status: int, body: object, reason: str
) -> None:
    server, provider = serve(response(status, body, Location="/elsewhere"))
    outcome = submit(provider)

    assert isinstance(outcome, Uncertain)
    assert outcome.http_status == status
    assert outcome.reason.startswith(reason)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, {"status": 200, "data": DONE}, DONE_REPORT),
        (200, {"status": 200, "data": DONE | {"task_id": ""}}, replace(DONE_REPORT, task_id=None)),
        (200, {"data": {"state": 4}}, Report(Verdict.PENDING, state=4)),
        (200, {"data": {"state": -7, "task_id": "t-1"}}, Report(Verdict.FAILED, -7, "t-1")),
        (404, {"status": 404, "message": "no such task"}, Missing()),
        (200, {"status": 404, "message": "no such task"}, Missing()),
        (429, b"", Throttled(None)),
        (200, {"code": 429}, Throttled(None)),
        (401, {"message": "who?"}, KeyRefused("who?", 401)),
        (402, {"message": "pay"}, KeyRefused("pay", 402)),
        (
            200,
            {"data": DONE | {"task_id": "t-2"}},
            Unavailable("the provider answered about another task"),
        ),
        (404, b"<h1>nginx</h1>", Unavailable("HTTP 404: nginx")),
        (400, {"message": "bad"}, Unavailable("HTTP 400: bad")),
        (500, {"message": "oops"}, Unavailable("HTTP 500: oops")),
        (500, {"status": 200, "message": "oops", "data": DONE}, Unavailable("HTTP 500: oops")),
        (200, {"status": 500, "message": "oops"}, Unavailable("HTTP 200, 500 inside: oops")),
        (200, b"<html>hello", Unavailable("HTTP 200: hello")),
        (302, b"", Unavailable("HTTP 302: an empty reply")),
    ],
)
def test_a_query_is_answered(serve: Serve, status: int, body: object, answer: Answer) -> None:
    _, provider = serve(response(status, body))

    assert query(provider) == answer


def test_what_was_asked_for_decides_whether_it_is_done(serve: Serve) -> None:
    _, provider = serve(response(200, {"status": 200, "data": DONE}))

    report = query(provider, wanted=["image", "mask"])
    assert isinstance(report, Report)
    assert report.incomplete
    assert isinstance(submit(provider, wanted=["image", "mask"]), Accepted)
    assert isinstance(submit(provider, wanted=["image"]), Done)


NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 30 ", 30.0),
        ("99999999", 6 * 3600.0),
        ("9" * 18, 6 * 3600.0),
        (format_datetime(NOW + datetime.timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - datetime.timedelta(days=1), usegmt=True), 0.0),
        (format_datetime(NOW + datetime.timedelta(days=900), usegmt=True), 6 * 3600.0),
        ("Thursday, 01-Jan-26 00:00:30 GMT", 30.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_understood_and_bounded(
    serve: Serve, status: int, header: str, seconds: float
) -> None:
    date = format_datetime(NOW, usegmt=True)
    _, provider = serve(response(status, b"", Retry_After=header, Date=date))

    assert submit(provider) == Throttled(seconds)
    assert query(provider) == Throttled(seconds)


@pytest.mark.parametrize(
    "header",
    [
        "", "soon", "-5", "1e3", "inf", "nan", "7, 8", "9" * 400, "Thu, 99 Foo 2026 00:00:00 GMT",
        "Thu, 01 Jan 2026 00:00:00 +99999999999", "Fri, 31 Dec 9999 23:59:59 -2359",
    ],
)  # fmt: skip
def test_a_retry_after_that_says_nothing_is_ignored(serve: Serve, header: str) -> None:
    _, provider = serve(response(429, b"", Retry_After=header))

    assert submit(provider) == Throttled(None)


def test_without_the_servers_date_our_clock_is_used(serve: Serve) -> None:
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    _, provider = serve(response(429, b"", Retry_After=format_datetime(then, usegmt=True)))

    outcome = submit(provider)
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after is not None
    assert 90 <= outcome.retry_after <= 100


ECHO = f"Bearer {KEY} {CALLBACK} {TOKEN} {KEY.upper()} {CALLBACK.replace('/', '%2F')}\x1b[31m"


@pytest.mark.parametrize("status", [200, 400, 401, 418, 500])
@pytest.mark.parametrize(
    "body",
    [
        {"message": ECHO},
        {"error": {"message": f"{'no! ' * 70}{ECHO}"}},
        {"data": {"state": -1, "task_id": "t-1", "err_info": ECHO}},
        f"<p>{ECHO}</p>".encode(),
    ],
)
def test_no_outcome_repeats_a_secret(serve: Serve, status: int, body: object) -> None:
    _, provider = serve(response(status, body))

    for outcome in (submit(provider), query(provider)):
        said = f"{outcome!r} {outcome.report.detail if isinstance(outcome, Done) else ''}".lower()
        assert KEY.lower() not in said
        assert TOKEN.lower() not in said
        assert "\\x1b" not in said


@pytest.mark.parametrize("key", ["sk/with+odd=chars/0123", 'sk"quoted"0123'])
def test_a_key_is_recognised_however_json_and_addresses_spell_it(serve: Serve, key: str) -> None:
    escaped = json.dumps({"you sent": [key, quote(key, safe="")]}).replace("/", r"\/")
    _, provider = serve(response(500, escaped.encode()))

    outcome = submit(provider, key=key)
    assert isinstance(outcome, Uncertain)
    assert "0123" not in outcome.reason


def test_no_log_line_repeats_a_secret(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    _, provider = serve(response(500, {"message": ECHO}))

    submit(provider)
    query(provider)

    assert "urllib3" in caplog.text
    assert KEY not in caplog.text
    assert TOKEN not in caplog.text


# What is known when no answer came


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"http://127.0.0.1:{closed_port()}", "ConnectionRefusedError: Connection refused"),
        (f"https://127.0.0.1:{closed_port()}", "ConnectionRefusedError: Connection refused"),
        # A zone that no machine has: the resolver fails without asking the network.
        ("http://[fe80::1%25nowhere]", "gaierror: "),
        (f"http://{'a' * 64}.example", "UnicodeError: "),
        ("http://a..b", "UnicodeError: "),
    ],
    ids=["refused", "refused by TLS", "no such zone", "label too long", "empty label"],
)
def test_nothing_is_sent_without_a_connection(url: str, reason: str) -> None:
    provider = Provider(Settings(api_url=url))
    outcome = submit(provider)

    assert isinstance(outcome, NotSent)
    assert outcome.reason.startswith(reason)
    assert query(provider) == Unavailable(outcome.reason)


def test_nothing_is_sent_when_the_connection_is_not_taken_up() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fill the queue that nobody empties
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        started = time.monotonic()
        outcome = submit(Provider(Settings(api_url=url, connect_timeout=0.1)))
        assert outcome == NotSent("TimeoutError: timed out")
        assert submit(Provider(Settings(api_url=url, submit_timeout=0.1))) == outcome
        assert time.monotonic() - started < 0.2 + SLACK


def test_nothing_is_sent_when_the_time_is_over_before_it_could_be(serve: Serve) -> None:
    server, provider = serve(response(200, {"data": {"task_id": "t-1"}}), submit_timeout=1e-6)

    assert submit(provider) == NotSent("TimeoutError: the time for this request is over")
    assert server.connections == 0


def hang_up(connection: socket.socket) -> None:
    connection.recv(1)


def leave(_: socket.socket) -> None:
    pass


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def wait(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize(
    "talk", [leave, hang_up, reset, wait, lambda peer: peer.sendall(b"HTTP/1.1 200 OK")]
)
def test_nothing_is_sent_when_tls_does_not_come_about(serve: Serve, talk: Talk) -> None:
    server, _ = serve(talk)
    there = Provider(Settings(api_url=f"https://127.0.0.1:{server.port}", connect_timeout=0.2))

    started = time.monotonic()
    outcome = submit(there)

    assert isinstance(outcome, NotSent)
    assert time.monotonic() - started < 0.2 + SLACK
    assert server.connections == 1


def test_nothing_is_sent_to_a_server_that_cannot_prove_its_name(
    serve: Serve, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, known = serve(response(200, {"data": {"task_id": "t-1"}}), tls)
    by_name = Provider(Settings(api_url=f"https://localhost:{server.port}"))
    monkeypatch.delenv("SSL_CERT_FILE")
    wire.trust.cache_clear()
    stranger = Provider(Settings(api_url=f"https://127.0.0.1:{server.port}"))

    assert isinstance(submit(known), Accepted)
    assert submit(stranger) == NotSent("TLS: self-signed certificate")
    mismatch = submit(by_name)
    assert isinstance(mismatch, NotSent)
    assert "localhost" in mismatch.reason
    assert len(server.requests) == 1


def after_the_request(script: Talk) -> Talk:
    def talk(connection: socket.socket) -> None:
        receive(connection)
        script(connection)

    return talk


def trickle(data: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            with suppress(TimeoutError):
                connection.settimeout(0.03)
                connection.recv(1)

    return talk


def unlimited(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


def unlimited_chunks(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def unlimited_redirect(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


@pytest.mark.parametrize(
    ("script", "http_status"),
    [
        (leave, None),
        (reset, None),
        (lambda peer: peer.sendall(b"HTTP/1.1 20"), None),
        (lambda peer: peer.sendall(b"SSH-2.0-OpenSSH\r\n"), None),
        (lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200), None),
        (lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000), None),
        (lambda peer: peer.sendall(response(200, b"x" * 10)[:-1]), 200),
        (lambda peer: peer.sendall(response(200, b"no gzip", Content_Encoding="gzip")), 200),
        (
            lambda peer: peer.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
            ),
            200,
        ),
        (unlimited, 200),
        (unlimited_chunks, 200),
        (unlimited_redirect, 302),
    ],
)
def test_once_something_was_sent_a_broken_answer_is_uncertain(
    serve: Serve, script: Talk, http_status: int | None
) -> None:
    server, provider = serve(after_the_request(script))
    outcome = submit(provider)

    assert isinstance(outcome, Uncertain)
    assert outcome.http_status == http_status
    assert isinstance(query(provider), Unavailable)
    assert server.connections == 2


def test_a_reply_of_the_greatest_length_is_read(serve: Serve) -> None:
    body = json.dumps({"task_id": "t-1"}).encode().ljust(MAX_REPLY)
    _, provider = serve(response(200, body))

    assert isinstance(submit(provider), Accepted)


def test_a_clear_refusal_stands_even_if_its_page_is_cut_off(serve: Serve) -> None:
    _, provider = serve(after_the_request(lambda peer: peer.sendall(response(413, b"xx")[:-1])))

    outcome = submit(provider)
    assert isinstance(outcome, Rejected)
    assert outcome.code == "rejected_413"


@pytest.mark.parametrize(
    "script",
    [
        wait,
        trickle(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 100),
        trickle(b"HTTP/1.1 100 Continue\r\n\r\n" * 10),
        trickle(response(200, b" " * 100)),
        trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 20),
    ],
    ids=["silence", "headers", "continue", "body", "chunks"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_time_limit_is_total(
    serve: Serve, scheme: str, script: Talk, tls: ssl.SSLContext
) -> None:
    server, provider = serve(
        after_the_request(script),
        tls if scheme == "https" else None,
        submit_timeout=LIMIT,
        query_timeout=LIMIT,
    )

    started = time.monotonic()
    outcome = submit(provider)
    elapsed = time.monotonic() - started

    assert isinstance(outcome, Uncertain)
    assert LIMIT <= elapsed < LIMIT + SLACK
    assert server.connections == 1


def test_the_time_limit_of_a_query_is_total(serve: Serve) -> None:
    slow = trickle(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 100)
    _, provider = serve(after_the_request(slow), query_timeout=LIMIT)

    started = time.monotonic()
    assert isinstance(query(provider), Unavailable)
    assert time.monotonic() - started < LIMIT + SLACK


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_time_limit_holds_for_an_upload_that_nobody_reads(
    serve: Serve, scheme: str, tls: ssl.SSLContext
) -> None:
    over = threading.Event()

    def ignore(_: socket.socket) -> None:
        over.wait(10)

    server, provider = serve(ignore, tls if scheme == "https" else None, submit_timeout=LIMIT)

    started = time.monotonic()
    outcome = submit(provider, b"x" * 10_000_000)
    elapsed = time.monotonic() - started
    over.set()

    assert isinstance(outcome, Uncertain)
    assert LIMIT <= elapsed < LIMIT + SLACK
    assert server.connections == 1


def test_a_refusal_in_the_middle_of_an_upload_is_heard(serve: Serve) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(response(413, {"status": 413, "message": "too large"}))
        connection.shutdown(socket.SHUT_WR)
        wait(connection)

    _, provider = serve(refuse)

    assert submit(provider, b"x" * 10_000_000) == Rejected("rejected_413", "too large", 413)


def raw(connection: socket.socket) -> socket.socket:
    """The TCP connection below TLS."""
    return socket.socket(fileno=connection.detach())


def plain_text_inside(connection: socket.socket) -> None:
    with raw(connection) as below:
        below.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


def forged_record(connection: socket.socket) -> None:
    with raw(connection) as below:
        below.sendall(b"\x17\x03\x03\x00\x20" + b"?" * 32)


def reset_below(connection: socket.socket) -> None:
    with raw(connection) as below:
        reset(below)


def half_reply(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    forged_record(connection)


@pytest.mark.parametrize(
    "break_off", [plain_text_inside, forged_record, reset_below, leave, half_reply]
)
def test_a_post_is_never_sent_again_after_a_tls_error_in_the_reply(
    serve: Serve, tls: ssl.SSLContext, break_off: Talk
) -> None:
    server, provider = serve(after_the_request(break_off), tls)

    assert isinstance(submit(provider), Uncertain)
    assert server.connections == 1


@pytest.mark.parametrize("scheme", ["HTTPS", " https"])
def test_however_the_scheme_is_spelt_what_was_sent_is_noted(
    serve: Serve, tls: ssl.SSLContext, scheme: str
) -> None:
    server, _ = serve(after_the_request(leave), tls)
    there = Provider(Settings(api_url=f"{scheme}://127.0.0.1:{server.port}"))

    assert isinstance(submit(there), Uncertain)
    assert server.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 413, 429, 503])
def test_a_post_is_never_sent_again_because_of_a_status(serve: Serve, status: int) -> None:
    server, provider = serve(response(status, b"", Location="/elsewhere", Retry_After="0"))

    submit(provider)

    assert len(server.requests) == server.connections == 1


@pytest.mark.parametrize(
    ("picture", "sends"), [(PICTURE, 1), (PICTURE * 20_000, 2)], ids=["small", "large"]
)
def test_a_small_form_goes_with_its_head_and_a_large_one_after_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, picture: bytes, sends: int
) -> None:
    sent: list[bytes] = []
    sendall = wire._Socket.sendall

    def note(self: wire._Socket, data: bytes) -> None:
        sent.append(data)
        sendall(self, data)

    monkeypatch.setattr(wire._Socket, "sendall", note)
    server, provider = serve(response(200, {"status": 200, "data": {"task_id": "t-1"}}))

    assert isinstance(submit(provider, picture), Accepted)
    assert len(sent) == sends
    assert b"".join(sent) == server.requests[0] + b"\r\n"


# Connections


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection may be lent again at once."""
    monkeypatch.setattr("cutwork.wire._SETTLED", 0.0)


@pytest.mark.usefixtures("settled")
def test_what_follows_within_a_second_shares_a_connection(serve: Serve) -> None:
    server, provider = serve(response(200, {"status": 200, "data": {"task_id": "t-1"}}))

    for _ in range(3):
        assert isinstance(submit(provider), Accepted)
        assert isinstance(query(provider), Report)
    assert server.connections == 1


@pytest.mark.usefixtures("settled")
def test_a_submit_takes_no_connection_that_idled_for_long(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutwork.wire.SURELY_ALIVE", 0.0)
    server, provider = serve(response(200, {"status": 200, "data": {"task_id": "t-1"}}))

    for _ in range(3):
        assert isinstance(query(provider), Report)
    assert server.connections == 1
    for _ in range(3):
        assert isinstance(submit(provider), Accepted)
    assert server.connections == 4


@pytest.mark.usefixtures("settled")
def test_a_submit_on_a_connection_that_was_closed_meanwhile_is_sent_on_another(
    serve: Serve,
) -> None:
    said_goodbye = threading.Event()

    def answer_once(connection: socket.socket) -> None:
        receive(connection)
        connection.sendall(response(200, {"status": 200, "data": {"task_id": "t-1"}}))
        connection.close()
        said_goodbye.set()

    server, provider = serve(answer_once)
    for _ in range(3):
        assert isinstance(submit(provider), Accepted)
        assert said_goodbye.wait(5)
        said_goodbye.clear()
    assert server.connections == 3


@pytest.mark.usefixtures("settled")
def test_a_kept_connection_that_breaks_under_a_submit_leaves_it_uncertain(serve: Serve) -> None:
    def answer_once(connection: socket.socket) -> None:
        receive(connection)
        connection.sendall(response(200, {"status": 200, "data": {"task_id": "t-1"}}))
        receive(connection)

    server, provider = serve(answer_once)
    assert isinstance(submit(provider), Accepted)
    assert isinstance(submit(provider), Uncertain)
    assert server.connections == 1


def test_a_connection_is_not_lent_right_after_a_reply(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutwork.wire._SETTLED", 60.0)
    server, provider = serve(response(200, {"status": 200, "data": {"task_id": "t-1"}}))

    for _ in range(3):
        assert isinstance(submit(provider), Accepted)
    assert server.connections == 3


@pytest.mark.usefixtures("settled")
def test_the_connection_that_was_used_last_is_lent_first() -> None:
    kept = wire.Kept(None)
    with kept.borrow() as last, kept.borrow() as first:
        assert last is not first
    for _ in range(3):
        with kept.borrow() as lent:
            assert lent is last
    with kept.borrow(), kept.borrow() as lent:
        assert lent is first


@pytest.mark.usefixtures("settled")
def test_a_connection_that_nobody_wanted_for_long_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[wire.Adapter] = []
    kept = wire.Kept(None)
    with kept.borrow() as last, kept.borrow() as first:
        pass
    monkeypatch.setattr(wire.Adapter, "close", lambda adapter: closed.append(adapter))
    monkeypatch.setattr("cutwork.wire._FORGOTTEN", 0.0)

    with kept.borrow() as lent:
        assert lent not in (first, last)
    assert closed == [first, last]


def test_a_server_that_closes_without_a_word_loses_no_submit(serve: Serve) -> None:
    def answer_once(connection: socket.socket) -> None:
        receive(connection)
        connection.sendall(response(200, {"status": 200, "data": {"task_id": "t-1"}}))

    server, provider = serve(answer_once)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: submit(provider), range(100)))

    assert {type(outcome) for outcome in outcomes} == {Accepted}
    assert server.connections == 100


def test_a_kept_connection_that_died_is_replaced(serve: Serve) -> None:
    said_goodbye = threading.Event()

    def answer_once(connection: socket.socket) -> None:
        receive(connection)
        connection.sendall(response(200, {"data": {"state": 4}}))
        connection.close()
        said_goodbye.set()

    server, provider = serve(answer_once)
    for _ in range(3):
        assert isinstance(query(provider), Report)
        assert said_goodbye.wait(5)
        said_goodbye.clear()
    assert server.connections == 3


def test_threads_share_one_client(serve: Serve) -> None:
    def echo(connection: socket.socket) -> None:
        while request := receive(connection).strip():
            name = request.split(b" ")[1].rpartition(b"/")[2].decode()
            connection.sendall(response(200, {"data": {"state": 4, "task_id": name}}))

    _, provider = serve(echo)
    names = [f"t-{number}" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda name: query(provider, name), names))

    assert [report.task_id for report in reports if isinstance(report, Report)] == names


FORKED = """
import os, sys
from cutwork import wire
from cutwork.provider import Provider
from cutwork.settings import Settings

provider = Provider(Settings(api_url=sys.argv[1]))
ask = lambda: os.write(1, b"state %d\\n" % provider.query("t-1", key="k" * 20).state)
ask()
wire._SETTLED = 0.0  # the connection may be lent again at once
child = os.fork()
ask()
if child:
    os.waitpid(child, 0)
    ask()
"""


def test_a_forked_process_does_not_speak_on_its_parents_connection(serve: Serve) -> None:
    server, _ = serve(response(200, {"data": {"state": 4, "task_id": "t-1"}}))
    program = [sys.executable, "-W", "error", "-c", FORKED, f"http://127.0.0.1:{server.port}"]
    ran = subprocess.run(program, capture_output=True, text=True, check=True, timeout=30)

    assert ran.stdout == "state 4\n" * 4
    assert ran.stderr == ""
    assert server.connections == 2
