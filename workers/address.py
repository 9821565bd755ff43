"""Which addresses a repository's host may have, and the one that git is pinned to.

A name that resolves to the worker's own network would let whoever names a
repository read what is behind the firewall. The address that was checked is the
one that git is told to use: a second lookup could answer differently.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from farm.errors import AttemptError
from farm.reasons import Reason

_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "64:ff9b::/96",  # NAT64 and 6to4 wrap any IPv4 address, and Python calls them global
        "64:ff9b:1::/48",
        "2002::/16",
        "168.63.129.16/32",  # a cloud's host, though global by its number
        "192.0.0.0/24",
    )
)


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet at large."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    # `is_global` and not `not is_private`: 100.64/10 is neither.
    if not ip.is_global or ip.is_multicast:
        return False
    return not any(ip.version == network.version and ip in network for network in _SPECIAL)


@dataclass(frozen=True)
class Pin:
    """A host's checked address, in the form of git's `http.curloptResolve`."""

    host: str
    port: int
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        listed = ",".join(f"[{a}]" if ":" in a else a for a in self.addresses)
        return f"{self.host}:{self.port}:{listed}"


def check_host(repository: str) -> Pin | None:
    """Resolve and check a clone URL's host; None where the host is an address itself.

    Raises AttemptError: `repository_unavailable` if there is no such host,
    `configuration_invalid` if any of its addresses is not public.
    """
    url = urlsplit(repository)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise AttemptError(
            Reason.REPOSITORY_UNAVAILABLE, f"there is no address for the git server {host}"
        ) from exc
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not all(is_public(address) for address in addresses):
        raise AttemptError(
            Reason.CONFIGURATION_INVALID,
            f"the git server {host} has a private address, which this worker may not call",
        )
    return None if host in addresses else Pin(host, port, addresses)
