"""Answers from registries, read up to a limit: a tag may name any server as its registry."""

from __future__ import annotations

from typing import Any

import httpx

MOST_BYTES = 4 * 1024 * 1024
"""Registries allow manifests of 4 MiB; nothing that we ask for is larger."""


def request(client: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
    """The answer to a request; raises httpx.ReadError for one that goes on past the limit.

    Bytes are counted as they are unpacked, so that a compressed bomb ends early too.
    """
    with client.stream(method, url, **options) as answer:
        content = b""
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > MOST_BYTES:
                raise httpx.ReadError(f"the answer has more than {MOST_BYTES} bytes")
        headers = [
            (name, value)
            for name, value in answer.headers.multi_items()
            if name.lower() not in ("content-encoding", "transfer-encoding")
        ]
        return httpx.Response(
            answer.status_code, headers=headers, content=content, request=answer.request
        )
