"""What those who run a farm store: shown in lists, never with what is secret in it."""

from typing import Any

import pytest

from tests.integration.web.site import HandWorker, Site, as_object, problem

CANARY = "c4nary-hunter2"
PROJECT = {"name": "acme/app", "repository": "https://git.example/acme/app"}

STORED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "/projects",
        PROJECT | {"git_username": "bot", "git_token": CANARY},
        {**PROJECT, "git_username": "bot", "has_git_token": True},
    ),
    (
        "/registries",
        {"host": "registry.example", "username": "bot", "password": CANARY},
        {"host": "registry.example", "username": "bot", "project": None},
    ),
    ("/secrets", {"name": "NPM_TOKEN", "value": CANARY}, {"name": "NPM_TOKEN", "project": None}),
]


@pytest.mark.parametrize(("path", "body", "shown"), STORED)
def test_what_is_stored_is_listed_without_its_secret(
    site: Site, path: str, body: dict[str, Any], shown: dict[str, Any]
) -> None:
    answer = site.post(path, body)
    assert answer.status_code == 201
    assert CANARY not in answer.text
    assert shown.items() <= as_object(answer).items()
    listed = site.get(path)
    assert CANARY not in listed.text
    page = as_object(listed)
    assert set(page) == {"items", "next_cursor"}
    assert page["next_cursor"] is None
    assert shown.items() <= page["items"][0].items()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/projects", PROJECT | {"git_token": ["x", CANARY]}),
        ("/projects", PROJECT | {"name": f"{CANARY} "}),
        ("/projects", PROJECT | {"repository": f"https://u:{CANARY}@git.example/a/b"}),
        ("/projects", PROJECT | {"git_username": f"{CANARY}\n"}),
        ("/registries", {"host": f"https://{CANARY}", "username": "u", "password": "p"}),
        ("/registries", {"host": "r.example", "username": "u", "password": {"x": CANARY}}),
        ("/registries", {"host": "r.example", "username": "u", "password": f"{CANARY}\x00"}),
        ("/secrets", {"name": f"{CANARY} ", "value": "value"}),
        ("/secrets", {"name": "S", "value": CANARY * 10_000}),
        ("/secrets", {"name": "S", "value": [CANARY]}),
        ("/secrets", {"name": "S", "value": "value", "project": CANARY}),
        ("/secrets", {"name": "S", "value": "value", CANARY[:3]: 1, "typo": CANARY}),
        ("/tokens", {"name": "n", "scopes": [CANARY]}),
        ("/tokens", {"name": "n", "scopes": ["read"], "zone": CANARY}),
    ],
)
def test_no_error_repeats_what_was_sent(site: Site, path: str, body: dict[str, Any]) -> None:
    answer = site.post(path, body)
    assert answer.status_code in (404, 422), answer.text
    assert answer.mimetype == "application/problem+json"
    assert CANARY not in answer.text


@pytest.mark.parametrize("value", ["", "a", "abc"])
def test_a_secret_too_short_to_hide_is_refused(site: Site, value: str) -> None:
    body = problem(site.post("/secrets", {"name": "S", "value": value}), 422, "invalid")
    assert body["errors"][0]["pointer"] == "/value"


def test_a_token_is_shown_once(site: Site) -> None:
    answer = site.post("/tokens", {"name": "ci", "scopes": ["build", "build"], "expires_days": 90})
    assert answer.status_code == 201
    token = as_object(answer)["token"]
    assert list(as_object(answer)) == ["token"]
    assert answer.headers["Cache-Control"] == "no-store"
    listed = site.get("/tokens")
    assert token not in listed.text
    row = as_object(listed)["items"][0]
    assert (row["name"], row["scopes"], row["revoked"]) == ("ci", ["build"], False)
    assert row["expires_at"] > row["created_at"]
    assert site.get("/builds", by=token).status_code == 200


@pytest.mark.parametrize("scopes", [[], ["root"], ["worker", "read"], "read", ["read"] * 5])
def test_senseless_scopes_are_refused(site: Site, scopes: object) -> None:
    problem(site.post("/tokens", {"name": "n", "scopes": scopes}), 422, "invalid")


def test_a_name_or_a_repository_is_registered_once(site: Site) -> None:
    answer = site.post("/projects", PROJECT)
    assert answer.headers["Location"] == "/api/v1/projects/acme/app"
    problem(site.post("/projects", PROJECT | {"repository": "https://x.example/a/b"}), 409,
            "project_exists")  # fmt: skip
    again = {"name": "other", "repository": "https://GIT.example/acme/app.git"}
    problem(site.post("/projects", again), 409, "project_exists")


def test_a_secret_stored_again_is_replaced(site: Site) -> None:
    for value in ("first", "second"):
        assert site.post("/secrets", {"name": "S", "value": value}).status_code == 201
    assert len(as_object(site.get("/secrets"))["items"]) == 1


def test_a_project_has_secrets_and_logins_of_its_own(site: Site) -> None:
    site.post("/projects", PROJECT)
    for project in (None, "acme/app"):
        extra = {} if project is None else {"project": project}
        site.post("/secrets", {"name": "S", "value": "value"} | extra)
        site.post("/registries", {"host": "r.example", "username": "u", "password": "p"} | extra)
    for path in ("/secrets", "/registries"):
        owners = {row["project"] for row in as_object(site.get(path))["items"]}
        assert owners == {None, "acme/app"}
    assert site.delete("/secrets/S?project=acme/app").status_code == 204
    assert [row["project"] for row in as_object(site.get("/secrets"))["items"]] == [None]


def test_what_is_removed_is_gone_and_cannot_be_removed_twice(site: Site) -> None:
    site.post("/projects", PROJECT)
    site.post("/secrets", {"name": "S", "value": "value"})
    site.post("/registries", {"host": "localhost:5000", "username": "u", "password": "p"})
    for path, code in (
        ("/secrets/S", "secret_not_found"),
        ("/registries/localhost:5000", "registry_not_found"),
        ("/projects/acme/app", "project_not_found"),
    ):
        assert site.delete(path).status_code == 204
        problem(site.delete(path), 404, code)


def test_a_project_that_is_building_stays(site: Site, worker: HandWorker) -> None:
    build = site.build()
    problem(site.delete("/projects/acme/app"), 409, "project_busy")
    site.post(f"/builds/{build['id']}/cancel")
    again = as_object(site.post(f"/builds/{build['id']}/retry"))
    worker.succeed(again)
    assert site.delete("/projects/acme/app").status_code == 204
    assert as_object(site.get("/builds"))["items"] == []
    assert site.get(f"/builds/{again['id']}").status_code == 404


def test_docker_hub_is_one_registry_under_all_its_names(site: Site) -> None:
    for host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        site.post("/registries", {"host": host, "username": "u", "password": "p"})
    assert [row["host"] for row in as_object(site.get("/registries"))["items"]] == ["docker.io"]


def test_workers_are_listed_with_what_they_said_of_themselves(
    site: Site, worker: HandWorker
) -> None:
    site.build()
    site.place()
    (row,) = as_object(site.get("/workers"))["items"]
    said = {"name": "w1", "zone": "trusted", "slots": 4, "busy": 1, "platforms": ["linux/amd64"],
            "online": True, "draining": False, "engine_ok": True, "version": "0.1"}  # fmt: skip
    assert said.items() <= row.items()
    assert isinstance(row["id"], str)
