"""A registry that works, in memory, behind httpx: manifests by digest, tags, a token server."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from farm.protocol import RegistryCredential
from workers.registry import Registries

HOST = "registry.example"
LOGIN = RegistryCredential(host=HOST, username="pusher", password="p4ss-of-pusher")


@dataclass
class FakeRegistry:
    """One repository's worth; a test may break a PUT or watch it."""

    manifests: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Tags whose PUT is forbidden."""
    on_put: Callable[[str], None] = lambda _tag: None

    def add(self, content: bytes) -> str:
        """A manifest; its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.manifests[digest] = content
        return digest

    def registries(self) -> Registries:
        """As an attempt sees it."""
        client = httpx.Client(transport=httpx.MockTransport(self.answer))
        return Registries(client, [], insecure_ok=False)

    def answer(self, request: httpx.Request) -> httpx.Response:
        found = re.fullmatch(r"/v2/team/app/manifests/(.+)", request.url.path)
        assert found, request.url
        name = found[1]
        if request.method == "PUT":
            if name in self.refused:
                return httpx.Response(403)
            self.tags[name] = self.add(request.content)
            self.on_put(name)
            return httpx.Response(201)
        digest = name if name in self.manifests else self.tags.get(name)
        if digest is None:
            return httpx.Response(404)
        headers = {"Docker-Content-Digest": digest}
        return httpx.Response(200, headers=headers, content=self.manifests[digest])
