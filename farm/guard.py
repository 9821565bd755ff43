"""The address guard: where a request may send the farm's workers.

A clone URL or a registry in a request is an address that our machines will call, so
every address that its host resolves to must be a global one. Hosts that an admin
registered may be private; FARM_INSECURE_OK=1 also allows http and loopback. Cases:
docs/security.md (IPv4 in IPv6, NAT64, 6to4, cloud metadata). A name that does not
resolve here is let through: the worker that fetches looks again.
"""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from farm.errors import Invalid

_NAT64 = IPv6Network("64:ff9b::/96")
_NEVER = (
    IPv6Network("64:ff9b:1::/48"),  # NAT64 inside one network; Python calls it global
    IPv6Network("::/96"),  # IPv4-compatible, given up long ago; Python calls it global
)
_METADATA = frozenset(
    {
        IPv4Address("169.254.169.254"),
        IPv4Address("168.63.129.16"),
        IPv4Address("192.0.0.192"),
    }
)


def check_host(host: str, *, field: str, insecure_ok: bool) -> None:
    """Raise Invalid `address_refused` when a host's address is not one to call."""
    for address in _addresses(host):
        if address.is_loopback and insecure_ok:
            continue
        if not is_global(address):
            raise Invalid.field(
                field,
                "its host is not a public address; an admin can register it"
                " (farm project add, farm registry login)",
                code="address_refused",
            )


def is_global(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the internet at large, also when wrapped in another."""
    inner = _unwrapped(address)
    if inner in _METADATA or inner.is_multicast or any(inner in net for net in _NEVER):
        return False
    return inner.is_global


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _addresses(host: str) -> list[IPv4Address | IPv6Address]:
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return [IPv4Address("127.0.0.1")]  # RFC 6761, also where this resolver does not know it
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [_unwrapped(ipaddress.ip_address(str(entry[4][0]).split("%")[0])) for entry in found]
