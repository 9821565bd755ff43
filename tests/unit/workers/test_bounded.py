"""A registry's answer is read up to a limit, also when it unpacks to more than it sent."""

import gzip

import httpx
import pytest

from workers import bounded


def client(content: bytes, **headers: str) -> httpx.Client:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(418, headers=named, content=content))
    )


def test_an_answer_within_the_limit_is_whole() -> None:
    answer = bounded.request(client(b"short", x_kept="yes"), "GET", "http://registry/v2/")
    assert (answer.status_code, answer.content, answer.headers["x-kept"]) == (418, b"short", "yes")


def test_a_compressed_answer_is_unpacked_once() -> None:
    packed = client(gzip.compress(b'{"a": 1}'), content_encoding="gzip")
    assert bounded.request(packed, "GET", "http://registry/v2/").json() == {"a": 1}


@pytest.mark.parametrize("packed", [False, True])
def test_an_endless_answer_is_given_up(*, packed: bool) -> None:
    content = b"0" * (bounded.MOST_BYTES + 1)
    server = client(gzip.compress(content), content_encoding="gzip") if packed else client(content)
    with pytest.raises(httpx.ReadError, match="more than"):
        bounded.request(server, "GET", "http://registry/v2/")
