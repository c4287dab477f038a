"""A result link is followed within limits, and its signature stays a secret."""

import datetime
import gzip
import io
import ipaddress
import logging
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from cutwork import fetching, wire
from cutwork.errors import FetchFailed, StorageError
from cutwork.fetching import Fetched, fetch
from cutwork.settings import Settings
from tests.services.waiting import run_until

SECRET = "Signature=hunter2%2Fa%2Bb&Expires=1"

Talk = Callable[[socket.socket], None]
Serve = Callable[..., str]


def picture(form: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(out, form)
    return out.getvalue()


PNG = picture()
LARGE = picture(size=(800, 600))


class Server:
    """A raw server on loopback: ``talk`` has each connection to itself, after the request."""

    def __init__(
        self,
        talk: Talk,
        context: ssl.SSLContext | None,
        *,
        read: bool,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: list[bytes] = []
        self._talk, self._context, self._read = talk, context, read
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self.stopped = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        self.stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(20)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self._context and self._read:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                if self._read:
                    self.requests.append(self._request(connection))
                self._talk(connection)

    def _request(self, connection: socket.socket) -> bytes:
        request = b""
        while b"\r\n\r\n" not in request and (piece := connection.recv(4096)):
            request += piece
        return request


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(stack: ExitStack) -> Callable[..., Server]:
    def start(talk: Talk, context: ssl.SSLContext | None = None, *, read: bool = True) -> Server:
        server = Server(talk, context, read=read)
        stack.callback(server.stop)
        return server

    return start


def head(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


def sized(body: bytes, status: str = "200 OK", *headers: str) -> Talk:
    return says(head(status, f"Content-Length: {len(body)}", *headers) + body)


def says(data: bytes) -> Talk:
    return lambda connection: connection.sendall(data)


def trickles(before: bytes, byte: bytes = b"x") -> Talk:
    """Send a byte every 20 ms for ever, so that no single read ever times out."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(before)
        pause = threading.Event()
        end = time.monotonic() + 15
        while time.monotonic() < end:
            connection.sendall(byte)
            pause.wait(0.02)

    return talk


def hangs(before: bytes = b"") -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(before)
        connection.recv(1)

    return talk


def resets(before: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(before)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return talk


def sandbox(port: int, **options: str) -> Settings:
    return Settings.of(**{"api_url": f"http://127.0.0.1:{port}", "result_timeout": "5", **options})


def quick(settings: Settings) -> Settings:
    return replace(settings, result_timeout=0.5)


def link(port: int, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{port}/tasks/output/a-image.png?{SECRET}"


def everything_said(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += f"{error} {error!r} {error.args} {vars(error)} {getattr(error, '__notes__', '')}\n"
        error = error.__cause__ or error.__context__
    return said


def failure(url: str, settings: Settings, into: Path) -> FetchFailed:
    """The failure of a fetch, which leaves no file and tells nothing of the query."""
    with pytest.raises(FetchFailed) as caught:
        fetch(url, settings=settings, into=into)
    assert list(into.iterdir()) == []
    assert "hunter2" not in everything_said(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


@pytest.mark.parametrize(("form", "name"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_a_result_comes_with_its_facts(
    form: str, name: str, start: Callable[..., Server], tmp_path: Path
) -> None:
    data = picture(form)
    server = start(sized(data, "200 OK", "Content-Type: text/plain"))

    got = fetch(link(server.port), settings=sandbox(server.port), into=tmp_path)

    assert got == Fetched(data, name, 40, 30)


def test_a_large_result_is_in_a_file_that_goes_away_with_it(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(sized(LARGE))

    def opened() -> int:
        names = []
        for one in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the one by which they are listed
                names.append(one.readlink())
        return sum(tmp_path in one.parents for one in names)

    got = fetch(link(server.port), settings=sandbox(server.port), into=tmp_path)

    assert len(LARGE) > fetching.IN_MEMORY
    assert got.data[:] == LARGE
    assert (list(tmp_path.iterdir()), opened()) == ([], 1)
    del got
    assert opened() == 0


def test_the_signature_arrives_as_it_was_given(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(sized(PNG))
    query = "Signature=a%2fb+c%7E~&&x=%zz;'\"[]|^"

    fetch(
        f"http://127.0.0.1:{server.port}?{query}#part", settings=sandbox(server.port), into=tmp_path
    )

    line, *headers = server.requests[0].decode().split("\r\n")
    assert line == f"GET /?{query} HTTP/1.1"
    assert "Accept-Encoding: identity" in headers
    assert f"Host: 127.0.0.1:{server.port}" in headers


def test_the_signature_is_in_no_log_line(
    start: Callable[..., Server], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(sized(PNG))

    with caplog.at_level(logging.DEBUG):
        fetch(link(server.port), settings=sandbox(server.port), into=tmp_path)

    assert "/tasks/output/a-image.png" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_body_in_chunks_and_one_that_ends_with_the_connection_are_taken(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    chunked = b"".join(
        b"%x\r\n%s\r\n" % (len(PNG[at : at + 700]), PNG[at : at + 700])
        for at in range(0, len(PNG), 700)
    )
    for answer in (
        head("200 OK", "Transfer-Encoding: chunked") + chunked + b"0\r\n\r\n",
        head("200 OK") + PNG,
        b"HTTP/1.0 200 OK\r\n\r\n" + PNG,
    ):
        server = start(says(answer))
        got = fetch(link(server.port), settings=sandbox(server.port), into=tmp_path)
        assert got.data == PNG


@pytest.mark.parametrize(
    ("talk", "code"),
    [
        (sized(b"gone", "403 Forbidden"), "link_dead"),
        (sized(b"gone", "404 Not Found"), "link_dead"),
        (sized(b"gone", "410 Gone"), "link_dead"),
        (sized(PNG, "302 Found", "Location: http://127.0.0.1/?hunter2"), "host_refused"),
        (sized(PNG, "301 Moved", "Location: \xff\xfe://["), "host_refused"),
        (says(head("302 Found", "Location: /", "Content-Length: 99999999999")), "host_refused"),
        (sized(PNG, "206 Partial Content"), "unreachable"),
        (says(head("204 No Content")), "unreachable"),
        (sized(b"no", "400 Bad Request"), "unreachable"),
        (sized(b"no", "429 Too Many Requests"), "unreachable"),
        (sized(b"no", "500 Internal Server Error"), "unreachable"),
        (sized(b"<html>", "520 Unknown"), "unreachable"),
        (says(b""), "unreachable"),
        (says(b"this is no HTTP\r\n\r\n"), "unreachable"),
        (resets(b""), "unreachable"),
        (says(head("200 OK", "Content-Length: 1, 2") + PNG), "unreachable"),
        (says(head("200 OK", "X: " + "y" * 70_000)), "unreachable"),
        (sized(b"<html>Bad Gateway</html>"), "wrong_type"),
        (sized(picture("GIF"), "200 OK", "Content-Type: image/png"), "wrong_type"),
        (sized(picture("BMP")), "wrong_type"),
        (sized(gzip.compress(PNG), "200 OK", "Content-Encoding: gzip"), "wrong_type"),
        (sized(b""), "truncated"),
        (sized(PNG[:-20]), "truncated"),
        (says(head("200 OK", f"Content-Length: {len(PNG)}") + PNG[:-20]), "truncated"),
        (says(head("200 OK", f"Content-Length: {len(PNG)}")), "truncated"),
        (says(head("200 OK") + PNG[:-20]), "truncated"),
        (says(head("200 OK", "Content-Length: all") + PNG[:-20]), "truncated"),
        (says(head("200 OK", "Transfer-Encoding: chunked") + b"ff\r\n" + PNG[:200]), "truncated"),
        (says(head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\n" + PNG), "truncated"),
        (resets(head("200 OK", f"Content-Length: {len(PNG)}") + PNG[:200]), "truncated"),
    ],
)
def test_what_goes_wrong_has_a_code(
    talk: Talk, code: str, start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(talk)

    error = failure(link(server.port), sandbox(server.port), tmp_path)

    assert error.code == code
    assert error.permanent is (code in ("host_refused", "link_dead", "too_large"))
    assert error.uri == f"http://127.0.0.1:{server.port}/tasks/output/a-image.png"
    assert len(server.requests) == 1


def test_a_dead_port_and_a_dead_name_are_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(link(port), sandbox(port), tmp_path).code == "unreachable"

    settings = Settings.of(result_hosts="nowhere.invalid")
    error = failure(f"https://nowhere.invalid/a.png?{SECRET}", settings, tmp_path)
    assert (error.code, error.permanent) == ("unreachable", False)


@pytest.mark.parametrize("announced", [True, False])
def test_a_result_over_the_cap_is_not_downloaded(
    announced: bool, start: Callable[..., Server], tmp_path: Path
) -> None:
    length = f"Content-Length: {10**12}" if announced else "X-Length: unknown"
    server = start(trickles(head("200 OK", length) + PNG[:100], b"x" * 65536))

    error = failure(link(server.port), sandbox(server.port, result_max_bytes="300000"), tmp_path)

    assert (error.code, error.permanent) == ("too_large", True)
    assert "more than 300000 bytes" in str(error)


def test_a_result_of_exactly_the_cap_is_taken(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start(sized(PNG))

    for spare, taken in ((0, True), (-1, False)):
        settings = sandbox(server.port, result_max_bytes=str(len(PNG) + spare))
        if taken:
            assert fetch(link(server.port), settings=settings, into=tmp_path).data == PNG
        else:
            with pytest.raises(FetchFailed, match="more than"):
                fetch(link(server.port), settings=settings, into=tmp_path)


@pytest.mark.parametrize(
    "talk",
    [
        hangs(),
        hangs(head("200 OK", f"Content-Length: {len(PNG)}") + PNG[:50]),
        trickles(b"HTTP/1.1 200 OK\r\nX: "),
        trickles(head("200 OK", f"Content-Length: {len(PNG) * 1000}") + PNG[:50]),
        trickles(head("200 OK") + PNG[:50]),
        trickles(head("200 OK", "Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
        trickles(head("200 OK", "Transfer-Encoding: chunked"), b"0"),
    ],
)
def test_a_server_that_sends_slowly_runs_out_of_time(
    talk: Talk, start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(talk)
    began = time.monotonic()

    error = failure(link(server.port), quick(sandbox(server.port)), tmp_path)

    assert (error.code, error.permanent) == ("too_slow", False)
    assert time.monotonic() - began < 3


def test_downloads_that_follow_each_other_share_a_connection(
    start: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_twice(connection: socket.socket) -> None:
        for _ in range(2):
            sized(PNG)(connection)
            connection.recv(65536)

    monkeypatch.setattr(wire, "_SETTLED", 0.0)  # it may be lent again at once
    server = start(answer_twice)
    fetching._kept(None, sandbox(server.port).result_networks).close()
    for _ in range(2):
        fetch(link(server.port), settings=sandbox(server.port), into=tmp_path)

    assert len(server.requests) == 1  # one for each connection: the second is the answer's to read
    fetching._kept(None, sandbox(server.port).result_networks).close()


def test_no_thread_or_socket_is_left_behind(start: Callable[..., Server], tmp_path: Path) -> None:
    def open_files() -> list[Path]:
        return list(Path("/proc/self/fd").iterdir())

    server = start(sized(PNG))
    files, before = len(open_files()), {*threading.enumerate()}

    for _ in range(20):
        fetch(link(server.port), settings=sandbox(server.port), into=tmp_path)

    assert not {*threading.enumerate()} - before - {*server._threads}
    # What is kept for the next second is not left behind.
    fetching._kept(None, sandbox(server.port).result_networks).close()
    run_until(lambda: len(open_files()) <= files, 60, "sockets stay open")


@pytest.fixture
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutwork.wire.DEFAULT_CA_BUNDLE_PATH", str(certificate))


def https_only(port: int, **options: str) -> Settings:
    return Settings.of(result_hosts=f"127.0.0.1:{port}", **options)


@pytest.mark.usefixtures("trusted")
def test_a_result_comes_over_tls(
    start: Callable[..., Server], context: ssl.SSLContext, tmp_path: Path
) -> None:
    server = start(sized(PNG), context)

    got = fetch(link(server.port, "https"), settings=https_only(server.port), into=tmp_path)

    assert got.data == PNG


@pytest.mark.usefixtures("trusted")
def test_the_roots_are_read_once_for_all_downloads(
    start: Callable[..., Server], context: ssl.SSLContext, tmp_path: Path
) -> None:
    server = start(sized(PNG), context)
    for _ in range(3):
        fetch(link(server.port, "https"), settings=https_only(server.port), into=tmp_path)

    assert wire.trust.cache_info().misses == 1


def test_a_certificate_that_nobody_signed_is_refused(
    start: Callable[..., Server], context: ssl.SSLContext, tmp_path: Path
) -> None:
    server = start(sized(PNG), context)

    error = failure(link(server.port, "https"), https_only(server.port), tmp_path)

    assert (error.code, error.permanent) == ("unreachable", False)
    assert "SSLError" in str(error)
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("stage", ["handshake", "headers", "body"])
def test_time_runs_out_over_tls_too(
    stage: str, start: Callable[..., Server], context: ssl.SSLContext, tmp_path: Path
) -> None:
    before = head("200 OK", "Content-Length: 99999") if stage == "body" else b""
    if stage == "handshake":
        server = start(trickles(b"\x16\x03\x03\x40\x00"), context, read=False)
    else:
        server = start(trickles(before), context)
    began = time.monotonic()

    error = failure(
        link(server.port, "https"), quick(https_only(server.port, connect_timeout="60")), tmp_path
    )

    assert error.code == "too_slow"
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/a.png",
        "https://cdn.example:8443/a.png",
        "https://cdn.example./a.png",
        "https://sub.cdn.example/a.png",
        "https://cdn.example.evil.example/a.png",
        "https://evil.example#cdn.example",
        "https://evil.example?cdn.example",
        "https://evil.example\\@cdn.example/",
        "https://cdn.example\\.evil.example/",
        "https://evil.example/@cdn.example/",
        "https://user@cdn.example/a.png",
        "https://cdn.example@evil.example/a.png",
        "https://cdn.example:443@evil.example/a.png",
        "https://[::ffff:127.0.0.1]/a.png",
        "https://cdn.example%2eevil.example/",
        "http://cdn.example/a.png",
        "http://cdn.example:80/a.png",
        "http://other.example/a.png",
        "ftp://cdn.example/a.png",
        "file:///etc/passwd",
        "//cdn.example/a.png",
        "cdn.example/a.png",
        "https://cdn.example:0/",
        "https://cdn.example:99999/",
        "https://cdn.example/\r\nHost: evil.example",
        "https://cdn.example /a.png",
        "https://cdn.exämple/a.png",
        "https://",
        "",
    ],
)
def test_a_link_to_somewhere_else_is_refused(url: str, tmp_path: Path) -> None:
    settings = Settings.of(result_hosts="cdn.example,other.example:8080")

    error = failure(url + f"?{SECRET}", settings, tmp_path)

    assert (error.code, error.permanent) == ("host_refused", True)


def reached(url: str, settings: Settings, into: Path) -> bool:
    """Whether a connection was tried; names under .invalid have no address."""
    return failure(url, settings, into).code != "host_refused"


@pytest.mark.parametrize(
    ("listed", "url", "allowed"),
    [
        ("cdn.invalid", "https://cdn.invalid/a", True),
        ("cdn.invalid", "https://CDN.invalid:443/a", True),
        ("cdn.invalid:443", "https://cdn.invalid/a", True),
        ("cdn.invalid:8443", "https://cdn.invalid:8443/a", True),
        ("cdn.invalid:8443", "https://cdn.invalid/a", False),
        ("cdn.invalid:80", "http://cdn.invalid/a", True),
        ("cdn.invalid:80", "http://cdn.invalid:80/a", True),
        ("cdn.invalid:80", "https://cdn.invalid/a", False),
        ("cdn.invalid:8080", "http://cdn.invalid:8080/a", True),
        ("cdn.invalid", "http://cdn.invalid/a", False),
        ("other.invalid", "https://api.invalid/a", True),
        ("other.invalid", "http://api.invalid/a", False),
    ],
)
def test_a_host_is_compared_with_its_port(
    listed: str, url: str, allowed: bool, tmp_path: Path
) -> None:
    settings = Settings.of(result_hosts=listed, api_url="https://api.invalid")

    assert reached(url, settings, tmp_path) is allowed


def test_a_sandbox_on_http_allows_http_to_listed_hosts(tmp_path: Path) -> None:
    settings = Settings.of(result_hosts="cdn.invalid", api_url="http://api.invalid")

    assert reached("http://cdn.invalid/a", settings, tmp_path)
    assert reached("http://api.invalid:80/a", settings, tmp_path)
    assert not reached("http://cdn.invalid:8080/a", settings, tmp_path)
    assert not reached("http://evil.invalid/a", settings, tmp_path)


def test_the_refusal_of_a_host_says_what_to_add(tmp_path: Path) -> None:
    settings = Settings.of()

    for url, entry in (
        ("https://cdn.example/a", "add cdn.example to CUTWORK_RESULT_HOSTS"),
        ("https://cdn.example:99/a", "add cdn.example:99 to CUTWORK_RESULT_HOSTS"),
        ("http://cdn.example/a", "add cdn.example:80 to CUTWORK_RESULT_HOSTS"),
        ("https://[::1]/a", "add [::1] to CUTWORK_RESULT_HOSTS"),
    ):
        assert entry in str(failure(url, settings, tmp_path))


def test_proxies_of_the_environment_are_not_asked(
    start: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = start(sized(b"proxied")), start(sized(PNG))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NETRC", str(netrc))

    got = fetch(link(server.port), settings=sandbox(server.port), into=tmp_path)

    assert got.data == PNG
    assert proxy.requests == []
    assert b"Authorization" not in server.requests[0]


@pytest.mark.parametrize("room", [1000, len(LARGE) - 1])
def test_a_full_disk_is_no_fault_of_the_link(
    room: int, start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(sized(LARGE))
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from cutwork import errors, fetching, settings\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "usual = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), usual[1]))\n"
        "chosen = settings.Settings.of(api_url=sys.argv[1])\n"
        "try: fetching.fetch(sys.argv[1] + '/a', settings=chosen, into=Path(sys.argv[2]))\n"
        "except errors.CutworkError as error: print(type(error).__name__, error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, usual)\n"
    )
    address = f"http://127.0.0.1:{server.port}"
    command = [sys.executable, "-c", program, address, str(tmp_path), str(room)]

    said = subprocess.check_output(command, timeout=60, text=True)

    assert said.startswith("StorageError storage file:///")
    assert "File too large" in said
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_missing_is_a_storage_error(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(sized(LARGE))

    with pytest.raises(StorageError, match="No such file") as caught:
        fetch(link(server.port), settings=sandbox(server.port), into=tmp_path / "missing")

    assert not isinstance(caught.value, FetchFailed)
