"""Every route of the API and the worker API, by every kind of caller."""

from typing import Any

import pytest

from tests.factories import DIGEST, check_in
from tests.integration.web.site import BUILD, HandWorker, Site

CALLERS = ("nobody", "garbage", "read", "build", "admin", "worker", "own")
"""`worker` is an enrolment token, `own` a worker's own."""
READ = (401, 401, 200, 200, 200, 403, 401)
NOT_FOUND = (401, 401, 404, 404, 404, 403, 401)
ADMIN_READ = (401, 401, 403, 403, 200, 403, 401)
CLAIM = {"Farm-Claim": "c" * 32}
STALE = (401, 401, 401, 401, 401, 401, 409)


def admin(status: int) -> tuple[int, ...]:
    return (401, 401, 403, 403, status, 403, 401)


def build(status: int) -> tuple[int, ...]:
    return (401, 401, 403, status, status, 403, 401)


STEP_BODY: dict[str, Any] = {"steps": []}
COMMIT = {"sha": "a" * 40, "commit_date": "2026-01-01T00:00:00Z"}
PROJECT = {"name": "a/b", "repository": "https://git.example/a/b"}
REGISTRY = {"host": "registry.example", "username": "u", "password": "password"}
ENROLMENT = {"name": "w9", "protocol": 1, "instance": "9" * 32}

ROUTES: list[tuple[str, str, dict[str, Any], tuple[int, ...]]] = [
    ("POST", "/api/v1/builds", {"json": BUILD}, build(202)),
    ("GET", "/api/v1/builds", {}, READ),
    ("GET", "/api/v1/builds/999", {}, NOT_FOUND),
    ("GET", "/api/v1/builds/<id>", {}, READ),
    ("GET", "/api/v1/builds/<id>/steps", {}, READ),
    ("GET", "/api/v1/builds/<id>/log", {}, READ),
    ("GET", "/api/v1/builds/<id>/events", {}, READ),
    ("POST", "/api/v1/builds/<id>/cancel", {}, build(409)),
    ("POST", "/api/v1/builds/<id>/retry", {}, build(202)),
    ("GET", "/api/v1/projects", {}, READ),
    ("POST", "/api/v1/projects", {"json": PROJECT}, admin(201)),
    ("GET", "/api/v1/projects/<project>", {}, READ),
    ("PATCH", "/api/v1/projects/<project>", {"json": {"git_token": "token"}}, admin(200)),
    ("DELETE", "/api/v1/projects/no/such", {}, admin(404)),
    ("GET", "/api/v1/registries", {}, READ),
    ("POST", "/api/v1/registries", {"json": REGISTRY}, admin(201)),
    ("DELETE", "/api/v1/registries/<host>", {}, admin(404)),
    ("GET", "/api/v1/secrets", {}, READ),
    ("POST", "/api/v1/secrets", {"json": {"name": "N", "value": "value"}}, admin(201)),
    ("DELETE", "/api/v1/secrets/<name>", {}, admin(404)),
    ("GET", "/api/v1/tokens", {}, ADMIN_READ),
    ("POST", "/api/v1/tokens", {"json": {"name": "n", "scopes": ["read"]}}, admin(201)),
    ("DELETE", "/api/v1/tokens/999", {}, admin(404)),
    ("GET", "/api/v1/workers", {}, READ),
    ("PATCH", "/api/v1/workers/<name>", {"json": {"draining": True}}, admin(404)),
    ("DELETE", "/api/v1/workers/<name>", {}, admin(404)),
    ("GET", "/api/v1/no-such-thing", {}, (404,) * 7),
    ("PUT", "/api/v1/builds", {}, (405,) * 7),
    ("GET", "/worker/install.sh", {}, (200,) * 7),
    ("GET", "/worker/requirements.txt", {}, (200,) * 7),
    ("GET", "/worker/dist/999", {}, (404,) * 7),
    ("GET", "/healthz", {}, (200,) * 7),
    ("GET", "/readyz", {}, (200,) * 7),
    ("GET", "/version", {}, (200,) * 7),
    ("GET", "/metrics", {}, READ),
    ("POST", "/worker/v1/enrol", {"json": ENROLMENT}, (401, 401, 403, 403, 403, 200, 401)),
    (
        "POST",
        "/worker/v1/check-in",
        {"json": check_in().model_dump(mode="json")},
        (401, 401, 401, 401, 401, 401, 200),
    ),
    ("POST", "/worker/v1/attempts/<part>/<attempt>/claim", {}, STALE),
    ("POST", "/worker/v1/attempts/<part>/<attempt>/resolved", {"json": COMMIT}, STALE),
    (
        "POST",
        "/worker/v1/attempts/<part>/<attempt>/heartbeat",
        {"json": {"phase": "building"}},
        STALE,
    ),
    ("POST", "/worker/v1/attempts/<part>/<attempt>/steps", {"json": STEP_BODY}, STALE),
    (
        "POST",
        "/worker/v1/attempts/<part>/<attempt>/log",
        {"query_string": {"offset": 0}, "data": b"x"},
        STALE,
    ),
    (
        "POST",
        "/worker/v1/attempts/<part>/<attempt>/publish",
        {"json": {"digest": DIGEST, "size": 1}},
        STALE,
    ),
    (
        "POST",
        "/worker/v1/attempts/<part>/<attempt>/finish",
        {"json": {"outcome": "succeeded"}},
        STALE,
    ),
    ("POST", "/worker/v1/attempts/<part>/<attempt>/hand-back", {"json": {}}, STALE),
]


@pytest.mark.parametrize(("method", "path", "more", "expected"), ROUTES)
def test_who_may_do_what(
    site: Site, method: str, path: str, more: dict[str, Any], expected: tuple[int, ...]
) -> None:
    own = HandWorker(site).enrol().token
    build_id = site.build()["id"]
    site.post(f"/builds/{build_id}/cancel")
    for name, value in {
        "<id>": build_id, "<project>": "acme/app", "<host>": "none.example", "<name>": "none",
        "<part>": "77", "<attempt>": "1",
    }.items():  # fmt: skip
        path = path.replace(name, value)
    found = []
    for caller in CALLERS:
        by = {"nobody": None, "garbage": "farm_garbage", "own": own}.get(caller, caller)
        answer = site.call(method, path, by=by, headers=CLAIM, **more)
        found.append(answer.status_code)
        answer.close()
    assert dict(zip(CALLERS, found, strict=True)) == dict(zip(CALLERS, expected, strict=True))


def test_every_route_is_in_the_table(site: Site) -> None:
    """A new route without a row fails here."""
    covered = {(method, path.partition("?")[0]) for method, path, _, _ in ROUTES}
    shapes = {(method, shape(path)) for method, path in covered}
    for rule in site.app.url_map.iter_rules():
        if not str(rule).startswith(("/api/", "/worker/")):
            continue
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert (method, shape(str(rule))) in shapes, f"{method} {rule} has no row"


def shape(path: str) -> str:
    known = {"999", "no-such-thing"}
    words = path.replace("no/such", "<x>").split("/")
    return "/".join("<x>" if w.startswith("<") or w in known else w for w in words)


def test_a_token_that_expired_or_was_revoked_opens_nothing(site: Site) -> None:
    token = site.post("/tokens", {"name": "n", "scopes": ["read"]}).get_json()["token"]
    assert site.get("/builds", by=token).status_code == 200
    (row,) = [t for t in site.get("/tokens").get_json()["items"] if t["name"] == "n"]
    assert site.delete(f"/tokens/{row['id']}").status_code == 204
    assert site.get("/builds", by=token).status_code == 401


def test_revoking_an_enrolment_shuts_out_the_workers_that_came_with_it(
    site: Site, worker: HandWorker
) -> None:
    assert worker.check_in().status_code == 200
    (row,) = [t for t in site.get("/tokens").get_json()["items"] if t["name"] == "worker"]
    site.delete(f"/tokens/{row['id']}")
    assert worker.check_in().status_code == 401


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer \xff", "bearer x"]
)
def test_a_malformed_authorization_is_a_401(site: Site, header: str) -> None:
    answer = site.client.get("/api/v1/builds", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
