"""Which addresses a name from outside may lead to: a block list of our own.

``ipaddress.is_global`` is not one: it says yes to multicast, to 6to4 and to NAT64, which carry any
IPv4 address inside, and to a cloud's own services at addresses that look public.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

_IPV4 = {
    "0.0.0.0/8": "this host",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier NAT, with a cloud's metadata in it",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "Azure's platform",
    "169.254.0.0/16": "link-local, with clouds' metadata in it",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "protocol assignments",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "AMT",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "255.255.255.255/32": "broadcast",
    "240.0.0.0/4": "reserved",
}
# The first that fits names the reason, so the narrow ones stand before the wide ones.
_IPV6 = {
    "::/128": "unspecified",
    "::1/128": "loopback",
    "::ffff:0:0/96": "an IPv4 address in disguise",
    "::/96": "an IPv4 address in disguise",
    "64:ff9b::/96": "NAT64",
    "64:ff9b:1::/48": "NAT64",
    "100::/64": "discard",
    "2001::/32": "Teredo",
    "2001::/23": "protocol assignments",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
    "5f00::/16": "segment routing",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
}
_BLOCKED = [(ip_network(text), reason) for text, reason in {**_IPV4, **_IPV6}.items()]
_UNICAST = IPv6Network("2000::/3")
_LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]


class Refused(Exception):
    """A name leads to where no link may lead; no connection was made."""

    def __init__(self, host: str, address: str, reason: str) -> None:
        self.host, self.address, self.reason = host, address, reason
        super().__init__(f"{host} has the address {address} ({reason})")

    @property
    def network(self) -> str:
        """The smallest network that the address is in: itself."""
        return str(ip_network(self.address))


@dataclass(frozen=True, slots=True)
class Guard:
    """Where links may lead: the public internet, and ``networks`` (CIDR) besides.

    A host that is written as an address, or as ``localhost``, leads to just that, if it is
    ``listed``: links are compared with the operator's own list of hosts before they come here.
    """

    networks: tuple[str, ...] = ()
    listed: bool = True

    def admit(self, host: str, found: Sequence[str]) -> None:
        """Look at every address that ``host`` has; one bad one is enough.

        Raises:
            Refused: a connection to ``host`` must not be tried.
        """
        own = [ip_network(text) for text in self.networks]
        for text in found:
            address = _address(text)
            reason = blocked(address)
            meant = self.listed and _is_meant(host, address)
            if reason and not meant and not _within(address, own):
                raise Refused(host, str(address), reason)


def blocked(address: IPv4Address | IPv6Address) -> str:
    """Why no name from outside may lead there; an empty text if it may."""
    for network, reason in _BLOCKED:
        if address in network:
            return reason
    return "not public" if address.version == 6 and address not in _UNICAST else ""


def _address(text: str) -> IPv4Address | IPv6Address:
    # The resolver may add a scope: fe80::1%eth0.
    return ip_address(text.partition("%")[0])


def _is_meant(host: str, address: IPv4Address | IPv6Address) -> bool:
    if host.lower() == "localhost":
        return _within(address, _LOOPBACK)
    try:
        return ip_address(host) == address
    except ValueError:
        return False


def _within(address: IPv4Address | IPv6Address, networks: Iterable[object]) -> bool:
    return any(address in network for network in networks)  # type: ignore[operator]
