"""A link leads to a public address or nowhere, however it is spelt and whatever a resolver says."""

import datetime
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cutwork.addresses import Guard, Refused, blocked
from cutwork.fetching import fetch
from cutwork.settings import Settings
from tests.test_fetching import PNG, SECRET, Server, failure, sized

FORBIDDEN = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1
127.0.0.53 127.255.255.254 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1
172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1
198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 254.1.2.3
255.255.255.255
:: ::1 ::7f00:1 ::10.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:169.254.169.254
::ffff:8.8.8.8 ::ffff:0:127.0.0.1 0:0:0:0:0:ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b::169.254.169.254
64:ff9b::8.8.8.8 64:ff9b:1::a00:1 64:ff9b:1:fffe::10.0.0.1 100::1 100::ffff 2001::1
2001:0:7f00:1:: 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:a9fe:a9fe::
2002:808:808::1 3fff::1 3fff:fff::1 5f00::1 fc00::1 fd00:ec2::254 fdff:ffff::1 fe80::1 fe80::1%eth0
febf::1 fec0::1 feff::1 ff01::1 ff02::1 ff0e::1 4000::1 8000::1 1000::1
"""

PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
168.63.129.15 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255
192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255
2001:200::1 2001:4860:4860::8888 2003::1 2400:cb00::1 2606:4700:4700::1111 2a00:1450::1 2c0f::1
3ffe::1
"""

# What getaddrinfo takes for an address, and ipaddress does not.
SPELLINGS = """
0 0x0 127.1 127.0.1 2130706433 0x7f000001 0x7F.0.0.1 0x7f.1 017700000001 0177.0.0.1 0177.0x0.0.1
00000177.0.0.1 2852039166 0xa9fea9fe 0xa9.0xfe.0xa9.0xfe 0251.0376.0251.0376 169.254.43518
167772161 0xa000001 012.1 3232235521 0xc0a80001 0300.0250.1 192.168.1 4294967295
"""


@pytest.mark.parametrize("address", FORBIDDEN.split())
def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    assert blocked(ip_address(address))
    with pytest.raises(Refused) as refusal:
        Guard().admit("cdn.example", [address])

    assert refusal.value.host == "cdn.example"
    assert ip_address(refusal.value.address) == ip_address(address.partition("%")[0])


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_name_that_leads_to_the_internet_is_admitted(address: str) -> None:
    assert blocked(ip_address(address)) == ""
    Guard().admit("cdn.example", [address])


@pytest.mark.parametrize("spelling", SPELLINGS.split())
def test_a_number_that_is_an_address_to_the_resolver_alone_is_refused(
    spelling: str, tmp_path: Path
) -> None:
    # Even the operator's own list makes no address of it: it may mean two things.
    settings = Settings.of(result_hosts=spelling)

    error = failure(f"https://{spelling}/a.png?{SECRET}", settings, tmp_path)

    assert (error.code, error.permanent) == ("host_refused", True)
    assert "CUTWORK_RESULT_NETWORKS" in error.remedy


@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_bad_address_among_good_ones_is_enough(at: int) -> None:
    found = ["8.8.8.8", "2606:4700:4700::1111"]
    found.insert(at, "169.254.169.254")

    with pytest.raises(Refused, match="link-local, with clouds' metadata in it"):
        Guard().admit("cdn.example", found)


@pytest.mark.parametrize(
    ("host", "found", "admitted"),
    [
        ("127.0.0.1", ["127.0.0.1"], True),
        ("::1", ["::1"], True),
        ("0:0:0:0:0:0:0:1", ["::1"], True),
        ("10.1.2.3", ["10.1.2.3"], True),
        ("10.1.2.3", ["10.1.2.4"], False),
        ("127.0.0.1", ["127.0.0.1", "10.0.0.1"], False),
        ("localhost", ["::1", "127.0.0.1"], True),
        ("LOCALHOST", ["127.0.0.1"], True),
        ("localhost", ["10.0.0.1"], False),
        ("localhost", ["0.1.2.3"], False),
        ("localhost.", ["127.0.0.1"], False),
        ("localhost.evil.example", ["127.0.0.1"], False),
        ("127.0.0.1.nip.io", ["127.0.0.1"], False),
    ],
)
def test_what_the_operator_wrote_as_an_address_leads_to_just_that(
    host: str, found: list[str], admitted: bool
) -> None:
    try:
        Guard().admit(host, found)
    except Refused:
        assert not admitted
    else:
        assert admitted


def test_a_network_of_the_operators_own_is_admitted_and_its_neighbour_is_not() -> None:
    guard = Guard(Settings.of(result_networks="10.20.0.0/16, fd00:1::/32").result_networks)

    guard.admit("mirror.internal", ["10.20.255.255", "fd00:1::7", "8.8.8.8"])
    for other in ("10.21.0.0", "fd00:2::7", "127.0.0.1", "::ffff:10.20.0.1"):
        with pytest.raises(Refused):
            guard.admit("mirror.internal", [other])


class Resolver:
    """Stands before the real one: ``answers[n]`` are the addresses of the n-th lookup of a name."""

    def __init__(self, real: Any, name: str, *answers: Sequence[str]) -> None:
        self.asked = 0
        self._real, self._name, self._answers = real, name, answers

    def __call__(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != self._name:
            return self._real(host, port, *args, **kwargs)
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [found for one in answer for found in self._real(one, port, *args, **kwargs)]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Resolver]:
    def put(name: str, *answers: Sequence[str]) -> Resolver:
        resolver = Resolver(socket.getaddrinfo, name, *answers)
        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        return resolver

    return put


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def names(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trusted TLS context of cdn.example, and the names that clients have asked it for."""
    path = tmp_path_factory.mktemp("tls") / "cdn.pem"
    path.write_bytes(_certificate("cdn.example"))
    monkeypatch.setattr("cutwork.wire.DEFAULT_CA_BUNDLE_PATH", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    asked: list[str] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)  # type: ignore[assignment]
    return context, asked


def _certificate(host: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


def test_the_address_that_was_looked_at_is_the_one_connected_to(
    resolve: Callable[..., Resolver], stack: ExitStack, tmp_path: Path
) -> None:
    good = Server(sized(PNG), None, read=True, host="127.0.0.2")
    stack.callback(good.stop)
    inside = Server(sized(PNG), None, read=True, port=good.port)
    stack.callback(inside.stop)
    resolver = resolve("cdn.example", ["127.0.0.2"], ["127.0.0.1"])
    settings = Settings.of(result_hosts=f"cdn.example:{good.port}", result_networks="127.0.0.2/32")
    url = f"http://cdn.example:{good.port}/a.png?{SECRET}"

    fetch(url, settings=settings, into=tmp_path)

    assert resolver.asked == 1
    assert len(good.requests) == 1
    assert f"Host: cdn.example:{good.port}\r\n".encode() in good.requests[0]

    error = failure(url, settings, tmp_path)

    assert error.code == "host_refused"
    assert "cdn.example has the address 127.0.0.1 (loopback)" in str(error)
    assert "such as 127.0.0.1/32, into CUTWORK_RESULT_NETWORKS" in error.remedy
    assert resolver.asked == 2
    assert (len(good.requests), inside.requests) == (1, [])


def test_of_a_mixed_answer_not_even_the_good_address_is_connected_to(
    resolve: Callable[..., Resolver], stack: ExitStack, tmp_path: Path
) -> None:
    server = Server(sized(PNG), None, read=True, host="127.0.0.2")
    stack.callback(server.stop)
    resolve("cdn.example", ["127.0.0.2", "10.0.0.1"])
    settings = Settings.of(
        result_hosts=f"cdn.example:{server.port}", result_networks="127.0.0.2/32"
    )

    error = failure(f"http://cdn.example:{server.port}/a?{SECRET}", settings, tmp_path)

    assert error.code == "host_refused"
    assert server.requests == []


def test_over_tls_the_name_is_asked_for_and_its_certificate_checked(
    resolve: Callable[..., Resolver], names: Any, stack: ExitStack, tmp_path: Path
) -> None:
    context, asked = names
    server = Server(sized(PNG), context, read=True)
    stack.callback(server.stop)
    for name in ("cdn.example", "other.example"):
        resolve(name, ["127.0.0.1"])
    settings = Settings.of(
        result_hosts=f"cdn.example:{server.port},other.example:{server.port}",
        result_networks="127.0.0.1/32",
    )

    fetch(f"https://cdn.example:{server.port}/a", settings=settings, into=tmp_path)
    error = failure(f"https://other.example:{server.port}/a", settings, tmp_path)

    assert asked == ["cdn.example", "other.example"]
    assert error.code == "unreachable"
    assert "SSLError" in str(error)
    assert len(server.requests) == 1
