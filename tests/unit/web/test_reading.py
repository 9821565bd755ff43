"""Reading bodies: rows C17 and C18 of the threat model; nothing that was sent is repeated."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import pytest
from flask import Flask, Response, jsonify
from flask.testing import FlaskClient
from pydantic import BaseModel, ConfigDict, Field

from farm.states import BuildStatus
from web import errors, reading
from web.reading import MAX_BODY


class Item(BaseModel):
    """A body for these tests."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=10)] = ""
    count: Annotated[int, Field(ge=1)] = 1
    values: dict[str, float] = {}
    tree: list[object] = []


@pytest.fixture
def client() -> Iterator[FlaskClient]:
    app = Flask("reading")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1
    errors.install(app)

    @app.post("/api/item")
    def item() -> Response:
        return jsonify(reading.body(Item).model_dump())

    @app.get("/api/query/<text>")
    def query(text: str) -> Response:
        reading.known_parameters("n", "status", "q")
        return jsonify(
            n=reading.whole("n", 7, least=1, most=100),
            status=reading.choices("status", BuildStatus),
            q=reading.short_text("q", most=10),
            id=reading.identifier(text),
        )

    with app.test_client() as found:
        yield found


def send(client: FlaskClient, body: bytes, kind: str = "application/json") -> tuple[int, str]:
    answer = client.post("/api/item", data=body, content_type=kind)
    return answer.status_code, answer.get_json().get("code", "")


def test_a_good_body_is_read(client: FlaskClient) -> None:
    answer = client.post("/api/item", json={"name": "größe", "count": 2})
    assert answer.status_code == 200
    assert answer.get_json()["name"] == "größe"


def deep(levels: int) -> bytes:
    return b'{"tree":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    ("row", "body"),
    [
        ("C17 duplicate keys", b'{"name":"a","name":"b"}'),
        ("C17 duplicate keys, deep", b'{"tree":[{"a":1,"a":2}]}'),
        ("C17 1e400", b'{"values":{"a":1e400}}'),
        ("C17 -1e400", b'{"values":{"a":-1e400}}'),
        ("C17 NaN", b'{"values":{"a":NaN}}'),
        ("C17 Infinity", b'{"values":{"a":Infinity}}'),
        ("C17 depth 21", deep(21)),
        ("C17 depth 10,000", deep(10_000)),
        ("C17 depth 500,000", deep(500_000)),
        ("C17 BOM", b'\xef\xbb\xbf{"name":"a"}'),
        ("C17 UTF-16", '{"name":"a"}'.encode("utf-16")),
        ("C17 latin-1", '{"name":"é"}'.encode("latin-1")),
        ("C17 lone surrogate", b'{"name":"\\ud800"}'),
        ("C17 lone surrogate as a key", b'{"\\udfff":1}'),
        ("C17 trailing garbage", b'{"name":"a"} x'),
        ("C17 two values", b"{}{}"),
        ("C17 empty", b""),
        ("C17 not JSON", b"name=a"),
        ("C17 single quotes", b"{'name':'a'}"),
        ("C17 an endless number", b'{"count":' + b"9" * 10_000 + b"}"),
    ],
)
def test_what_is_not_one_json_value_is_a_400(client: FlaskClient, row: str, body: bytes) -> None:
    assert send(client, body) == (400, "malformed_json"), row


def test_a_body_may_be_nested_as_deep_as_one_needs(client: FlaskClient) -> None:
    assert send(client, deep(18))[0] == 200


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("C18", "text/plain"),
        ("C18", "application/x-www-form-urlencoded"),
        ("C18", "multipart/form-data; boundary=x"),
        ("C18", ""),
        ("C18", "application/jsonp"),
    ],
)
def test_a_body_of_another_kind_is_a_415(client: FlaskClient, row: str, kind: str) -> None:
    assert send(client, b'{"name":"a"}', kind) == (415, "wrong_media_type"), row


def test_json_with_a_charset_is_json(client: FlaskClient) -> None:
    assert send(client, b"{}", "application/json; charset=utf-8")[0] == 200


def test_a_compressed_body_is_a_415_and_never_unpacked(client: FlaskClient) -> None:
    answer = client.post(
        "/api/item",
        data=b"\x1f\x8b",
        content_type="application/json",
        headers={"Content-Encoding": "gzip"},
    )
    assert answer.status_code == 415


def test_a_body_that_says_it_is_too_large_is_a_413(client: FlaskClient) -> None:
    assert send(client, b" " * (MAX_BODY + 1)) == (413, "too_large")
    assert send(client, b"{}" + b" " * (MAX_BODY - 2))[0] == 200


def test_a_body_that_does_not_say_its_length_is_counted(client: FlaskClient) -> None:
    answer = client.post(
        "/api/item",
        content_type="application/json",
        environ_overrides={
            "wsgi.input": Endless(),
            "wsgi.input_terminated": True,
            "CONTENT_LENGTH": "",
        },
    )
    assert answer.status_code == 413


class Endless:
    """A body without an end, as a peer may send it in chunks."""

    def read(self, size: int = -1) -> bytes:
        assert size > 0  # never all of it at once
        return b" " * size

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (b'{"nope":1}', "/nope", "unknown_field"),
        (b'{"name":1}', "/name", "invalid"),
        (b'{"name":"01234567890"}', "/name", "invalid"),
        (b'{"count":0}', "/count", "invalid"),
        (b'{"values":{"a":"x"}}', "/values/a", "invalid"),
        (b"[]", "", "invalid"),
        (b"null", "", "invalid"),
        (b'"text"', "", "invalid"),
        (b"1", "", "invalid"),
    ],
)
def test_what_does_not_fit_is_a_422_that_points_to_it(
    client: FlaskClient, body: bytes, pointer: str, code: str
) -> None:
    answer = client.post("/api/item", data=body, content_type="application/json")
    assert answer.status_code == 422
    (error,) = answer.get_json()["errors"]
    assert (error["pointer"], error["code"]) == (pointer, code)


def test_every_wrong_field_is_named(client: FlaskClient) -> None:
    answer = client.post("/api/item", json={"name": 1, "count": 0, "nope": 1})
    body = answer.get_json()
    assert {error["pointer"] for error in body["errors"]} == {"/name", "/count", "/nope"}
    assert body["detail"].endswith("(and 2 more)")


@pytest.mark.parametrize(
    "body", ['{"count":"CANARY"}', '{"name":["CANARY"]}', '"CANARY"', "CANARY"]
)
def test_no_value_comes_back(client: FlaskClient, body: str) -> None:
    answer = client.post("/api/item", data=body.encode(), content_type="application/json")
    assert answer.status_code in (400, 422)
    assert "CANARY" not in answer.text


def test_a_name_that_is_sent_comes_back_cut(client: FlaskClient) -> None:
    answer = client.post("/api/item", json={"n" * 5000: 1})
    assert len(answer.text) < 1000


def test_query_parameters_are_read(client: FlaskClient) -> None:
    found = client.get("/api/query/12?n=100&status=failed&status=queued&q=a%20b").get_json()
    assert found == {"n": 100, "status": ["failed", "queued"], "q": "a b", "id": 12}
    assert client.get("/api/query/x?status=&q=").get_json() == {
        "n": 7,
        "status": [],
        "q": None,
        "id": 0,
    }


@pytest.mark.parametrize(
    "query",
    [
        "n=0", "n=101", "n=-1", "n=1.0", "n=%201", "n=1e1", "n=", "n=x", "n=٣", "n=²",
        "n=99999999999999999999", "status=passed", "status=FAILED", "q=%00", "q=a%0ab",
        "q=%E2%80%AE", "q=01234567890", "nope=1", "Q=1",
    ],
)  # fmt: skip
def test_a_senseless_query_is_a_422(client: FlaskClient, query: str) -> None:
    assert client.get(f"/api/query/1?{query}").status_code == 422


@pytest.mark.parametrize("text", ["0x1", "-1", "1.0", "１", "²", "9" * 16, "%2e%2e", "1%00"])
def test_what_is_no_id_is_the_id_of_nothing(client: FlaskClient, text: str) -> None:
    assert client.get(f"/api/query/{text}").get_json()["id"] == 0


def test_the_names_of_an_enum_are_shown_when_none_of_them_was_given(client: FlaskClient) -> None:
    assert issubclass(BuildStatus, StrEnum)
    detail = client.get("/api/query/1?status=CANARY").get_json()["detail"]
    assert "queued, running" in detail
    assert "CANARY" not in detail
