"""A control plane behind httpx that answers as a test says, and what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from workers.control import Control
from workers.identity import Identity

Answer = Callable[[httpx.Request], httpx.Response]


def problem(status: int, code: str, **extra: object) -> httpx.Response:
    """As the farm itself refuses."""
    kind = {"Content-Type": "application/problem+json"}
    return httpx.Response(status, headers=kind, json={"code": code, "status": status, **extra})


def page(status: int) -> httpx.Response:
    """As a proxy before the farm answers."""
    return httpx.Response(status, html="<title>nginx</title>")


@contextmanager
def control_of(folder: Path, answer: Answer) -> Iterator[Control]:
    """A worker's client of a farm that answers so."""
    path = folder / "identity.json"
    Identity("one", "own-token", "0" * 32, "https://farm.example").write(path)
    control = Control(httpx.Client(transport=httpx.MockTransport(answer)), path)
    yield control
    control.close()
