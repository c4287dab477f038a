"""docker/nginx.conf under a real nginx, before a real webhook: what it lets through and tells."""

import pwd
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cutwork.settings import Settings
from tests.deployment.compose import DOCKER, ROOT
from tests.services.ports import HOST, free_port
from tests.services.processes import Process, Processes
from tests.services.registry import Services
from tests.services.waiting import run_until
from tests.webhook.desk import DONE, Desk
from tests.webhook.servers import Served, read, start

CONFIGURATION = (DOCKER / "nginx.conf").read_text(encoding="utf-8")
# What one line of the access log may say; a path is not among it.
LINE = re.compile(
    r"callback from=127\.0\.0\.1 at=\S+ method=[\w-]* status=\d{3}"
    r" bytes=\d+ s=[\d.]+ webhook=[\d, -]+"
)


@dataclass
class Proxy:
    """nginx with the file of the repository, in which only places are exchanged."""

    process: Process
    port: int
    health_port: int
    tls_port: int


def certificate(folder: Path) -> None:
    """A certificate for 127.0.0.1 by nobody but itself, under the names of the secrets."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "tls-certificate").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "tls-key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def start_proxy(services: Services, processes: Processes, folder: Path, webhook: str) -> Proxy:
    """``webhook`` is host:port; 2 s stand for the file's 10, so that no test takes as long."""
    program = services.program("nginx", "/usr/sbin/nginx")
    port, health_port, tls_port = free_port(), free_port(), free_port()
    certificate(folder)
    tls = (DOCKER / "tls.conf").read_text(encoding="utf-8")
    tls = tls.replace("8443", f"{HOST}:{tls_port}").replace("/run/secrets", str(folder))
    (folder / "tls").mkdir()
    (folder / "tls" / "tls.conf").write_text(tls, encoding="utf-8")
    text = CONFIGURATION
    for there, here in {
        "/tmp/": f"{folder}/",  # noqa: S108
        "listen 8080;": f"listen {HOST}:{port};",
        "127.0.0.1:8081": f"{HOST}:{health_port}",
        "webhook:8000": webhook,
        "/etc/nginx/tls/": f"{folder}/tls/",
        "_timeout 10s;": "_timeout 2s;",
    }.items():
        assert there in text
        text = text.replace(there, here)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    user = pwd.getpwuid((ROOT / "docker").stat().st_uid).pw_name
    process = processes.start(
        program, "-p", folder, "-c", folder / "nginx.conf", "-g", f"daemon off; user {user};",
        name="nginx",
    )  # fmt: skip
    made = Proxy(process, port, health_port, tls_port)
    run_until(lambda: _is_well(made), 10.0, "nginx serves")
    return made


def _is_well(proxy: Proxy) -> bool:
    assert proxy.process.running, proxy.process.tail()
    try:
        return requests.get(f"http://{HOST}:{proxy.health_port}/", timeout=3).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def desk(services: Services) -> Iterator[Desk]:
    made = Desk(services.empty("sqlite"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def own_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    made = Processes(tmp_path_factory.mktemp("programs"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def webhook(own_processes: Processes, desk: Desk) -> Served:
    return start(own_processes, "granian", desk)


@pytest.fixture(scope="module")
def proxy(
    services: Services,
    own_processes: Processes,
    webhook: Served,
    tmp_path_factory: pytest.TempPathFactory,
) -> Proxy:
    folder = tmp_path_factory.mktemp("nginx")
    return start_proxy(services, own_processes, folder, f"{HOST}:{webhook.port}")


@pytest.fixture(scope="module")
def outside(webhook: Served, proxy: Proxy) -> Iterator[Served]:
    """The webhook as the internet sees it; at the end nothing that nginx wrote gives it away."""
    seen = replace(webhook, name="nginx", port=proxy.port, process=proxy.process)
    yield seen
    told = proxy.process.log
    assert "callback from=127.0.0.1" in told
    assert not [token for token in seen.desk.tokens if token in told]
    assert "do-not-log-me" not in told
    assert "/callbacks/" not in told
    strange = [line for line in told.splitlines() if not LINE.fullmatch(line)]
    assert strange == []


def test_a_callback_comes_through_and_is_committed(outside: Served) -> None:
    job_id, token = outside.desk.send()

    assert outside.post(token, DONE).status == 200
    assert outside.desk.job(job_id).state == "storing"


def test_a_callback_in_the_query_comes_through_and_is_not_told(outside: Served) -> None:
    job_id, token = outside.desk.send()
    query = "state=1&task_id=t1&image=https://results.example/a.png?Signature=do-not-log-me"

    assert outside.send("GET", f"/callbacks/{token}?{query}").status == 200
    assert outside.desk.job(job_id).state == "storing"


def test_a_callback_comes_through_tls(outside: Served, proxy: Proxy) -> None:
    job_id, token = outside.desk.send()
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    line = f"GET /callbacks/{token}?state=1&task_id=t2&image=https://r.example/a.png HTTP/1.1"

    with (
        socket.create_connection((HOST, proxy.tls_port), 10) as plain,
        trusting.wrap_socket(plain, server_hostname="hooks.example") as connection,
    ):
        connection.sendall(f"{line}\r\nHost: hooks.example\r\n\r\n".encode())
        answer = read(connection)

    assert answer is not None
    assert answer.status == 200
    assert outside.desk.job(job_id).state == "storing"


def test_a_body_in_chunks_reaches_the_webhook_with_a_length(outside: Served) -> None:
    job_id, token = outside.desk.send()
    form = b"state=1&task_id=task-3&image=https%3A%2F%2Fresults.example%2Fa.png"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(form), form)
    kind = "Content-Type: application/x-www-form-urlencoded"

    answer = outside.raw(
        f"POST /callbacks/{token} HTTP/1.1", [kind, "Transfer-Encoding: chunked"], chunks
    )

    assert answer is not None
    assert answer.status == 200, "a form in chunks is 411 without the proxy"
    assert outside.desk.job(job_id).state == "storing"


def test_a_forged_token_is_404(outside: Served) -> None:
    assert outside.post("A" * 60, DONE).status == 404


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/callbacks", "/hooks/callbacks/{token}", "/{token}"]
)
def test_nothing_else_is_reached(outside: Served, webhook: Served, path: str) -> None:
    _, token = outside.desk.send()
    before = webhook.process.log.count("\n")

    assert outside.send("GET", path.format(token=token)).status == 404
    assert webhook.process.log.count("\n") == before, "the webhook was asked"


def test_a_large_body_is_refused_at_the_door(outside: Served, webhook: Served) -> None:
    _, token = outside.desk.send()
    before = webhook.process.log.count("\n")

    refused = outside.raw(
        f"POST /callbacks/{token} HTTP/1.1", ["Content-Length: 65537"], b"x" * 65_537
    )

    assert refused is not None
    assert refused.status == 413
    assert webhook.process.log.count("\n") == before, "the webhook was asked"


def test_the_largest_body_that_the_webhook_takes_comes_through(outside: Served) -> None:
    _, token = outside.desk.send()
    largest = b'{"state": 2}' + b" " * (Settings().callback_max_body - 12)

    assert outside.send("POST", f"/callbacks/{token}", largest).status == 200


def test_a_length_and_chunks_together_are_refused(outside: Served) -> None:
    _, token = outside.desk.send()

    both = ["Content-Length: 4", "Transfer-Encoding: chunked"]
    refused = outside.raw(f"POST /callbacks/{token} HTTP/1.1", both, b"0\r\n\r\n")

    assert refused is not None
    assert refused.status == 400


@pytest.mark.parametrize("line", ["GET /callbacks/{token} NONSENSE/9", "\x00 /callbacks/{token}"])
def test_what_is_no_http_is_refused_and_not_told(outside: Served, line: str) -> None:
    _, token = outside.desk.send()

    refused = outside.raw(line.format(token=token), [])

    assert refused is None or refused.status in (400, 505)


def test_who_stalls_within_a_body_is_hung_up_on(outside: Served) -> None:
    _, token = outside.desk.send()

    hung_up = outside.raw(f"POST /callbacks/{token} HTTP/1.1", ["Content-Length: 20"], b'{"sta')

    assert hung_up is None or hung_up.status == 408


def test_a_webhook_that_is_away_is_503_with_retry_after(
    services: Services, processes: Processes, tmp_path: Path, desk: Desk
) -> None:
    nobody = start_proxy(services, processes, tmp_path, f"{HOST}:{free_port()}")
    _, token = desk.send()

    answer = requests.post(f"http://{HOST}:{nobody.port}/callbacks/{token}", json=DONE, timeout=10)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert token not in nobody.process.log
    nobody.process.signal(signal.SIGQUIT)
    assert nobody.process.wait() == 0


def test_its_limits_are_those_of_the_docs_and_of_the_settings() -> None:
    (documented,) = re.findall(
        r"^```nginx\n(.*?)^```", (ROOT / "docs" / "webhook.md").read_text("utf-8"), re.S | re.M
    )
    limits = re.findall(r"^ +((?:client|proxy)_\w+ [\w.]+;)", documented, re.MULTILINE)

    assert len(limits) >= 4
    for limit in limits:
        assert limit in CONFIGURATION
    assert Settings().callback_max_body == 64 * 1024
