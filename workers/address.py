"""Which addresses a repository's host may have, and the one that git is pinned to.

A name that resolves to the worker's own network would let whoever names a
repository read what is behind the firewall. The address that was checked is the
one that git is told to use: a second lookup could answer differently.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from farm.errors import AttemptError
from farm.guard import is_global
from farm.reasons import Reason


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
    if not all(is_global(ip_address(address.partition("%")[0])) for address in addresses):
        raise AttemptError(
            Reason.CONFIGURATION_INVALID,
            f"the git server {host} has a private address, which this worker may not call",
        )
    return None if host in addresses else Pin(host, port, addresses)


def goes_through_proxy(repository: str, environment: Mapping[str, str]) -> bool:
    """Whether git reaches this clone URL over a proxy, which then resolves the name itself.

    Never for an address: that can be checked without resolving anything.
    """
    url = urlsplit(repository)
    host = url.hostname or ""
    named = [f"{url.scheme}_proxy", "all_proxy"]
    if not any(environment.get(name) or environment.get(name.upper()) for name in named):
        return False
    return not (_is_address(host) or _is_exempt(host, environment))


def _is_exempt(host: str, environment: Mapping[str, str]) -> bool:
    """As curl reads NO_PROXY: names, and all that lies below them."""
    exempt = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    for entry in exempt.lower().replace(",", " ").split():
        name = entry.partition(":")[0].strip(".")
        if name == "*" or f".{host.rstrip('.')}".endswith(f".{name}"):
            return True
    return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
