"""Which network addresses the gateway may connect to: our deny table, and what an operator allows.

`ipaddress.is_global` passes forms of metadata and internal addresses, so the table is spelled out.
Pure. Asked by upstream/dial.py with the address really used, at connect time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from gateway.settings import Network

_DENIED = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host agent, formally a public address
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",  # NAT64 can spell any IPv4 address, the metadata one too
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",  # 6to4, for the same reason
        "3fff::/20",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)

_MOST_DECIDED = 4096


class AddressPolicy:
    """`allowed`: ranges an operator opened. `endpoints`: single (address, port) pairs, likewise."""

    def __init__(
        self, allowed: Iterable[Network] = (), endpoints: Iterable[tuple[str, int]] = ()
    ) -> None:
        self._allowed = tuple(allowed)
        self._endpoints = frozenset(endpoints)
        self._decided: dict[tuple[str, int, bool], bool] = {}

    @classmethod
    def of(cls, allowed: Iterable[Network], base_urls: Mapping[str, str]) -> AddressPolicy:
        """An override that names a literal address allows exactly that address and port."""
        return cls(allowed, [pair for url in base_urls.values() for pair in _endpoints(url)])

    def permits(self, host: str, port: int, *, encrypted: bool) -> bool:
        """May this literal address be connected to? Plain http only where an operator said so."""
        asked = (host, port, encrypted)
        if asked not in self._decided:
            if len(self._decided) >= _MOST_DECIDED:
                self._decided.clear()
            self._decided[asked] = self._decide(host, port, encrypted)
        return self._decided[asked]

    def _decide(self, host: str, port: int, encrypted: bool) -> bool:
        try:
            address = _plain(ip_address(host.partition("%")[0]))
        except ValueError:
            return False  # `127.1` and the like: a name to us, an address to some resolvers
        if (str(address), port) in self._endpoints:
            return True
        if any(address in network for network in self._allowed):
            return True
        return encrypted and not any(address in network for network in _DENIED)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _endpoints(url: str) -> list[tuple[str, int]]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    if host == "localhost":
        return [("127.0.0.1", port), ("::1", port)]
    try:
        return [(str(ip_address(host)), port)]
    except ValueError:
        return []
