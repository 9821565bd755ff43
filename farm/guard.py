"""The address guard: where a request may send the farm's workers.

A clone URL or a registry in a request is an address that our machines will call, so
every address that its host resolves to must be a global one. Hosts that an admin
registered may be private; FARM_INSECURE_OK=1 also allows http and loopback. Cases:
docs/security.md (IPv4 in IPv6, NAT64, 6to4, cloud metadata). A name that does not
resolve here is let through: the worker that fetches looks again.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from farm.errors import Invalid

_NEVER = tuple(
    ip_network(network)
    for network in (
        "::/96",  # IPv4-compatible, NAT64 and 6to4 wrap any IPv4 address
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "168.63.129.16/32",  # a cloud's host, though global by its number
        "192.0.0.0/24",
    )
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
    """Whether an address belongs to the internet at large, and wraps no other."""
    inner = address
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        inner = address.ipv4_mapped
    # `is_global` and not `not is_private`: 100.64/10 is neither.
    if not inner.is_global or inner.is_multicast:
        return False
    return not any(inner.version == net.version and inner in net for net in _NEVER)


def _addresses(host: str) -> list[IPv4Address | IPv6Address]:
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return [IPv4Address("127.0.0.1")]  # RFC 6761, also where this resolver does not know it
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ip_address(str(entry[4][0]).split("%")[0]) for entry in found]
