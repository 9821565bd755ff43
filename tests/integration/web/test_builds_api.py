"""The API of builds: a contract, name by name."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from farm import builds, db
from farm.model import IdempotencyKey, Token
from farm.spec import BuildRequest
from farm.states import Trigger
from tests.factories import DIGEST, OTHER_DIGEST, REPOSITORY, SHA, TAG, wait_until
from tests.integration.web.site import BUILD, HandWorker, Site, as_object, problem

FIELDS = [
    "id", "status", "reason", "message", "cure", "project", "repository", "pull_request", "ref",
    "sha", "trigger", "priority", "waiting", "parts", "image", "steps", "retry_of", "created_at",
    "started_at", "finished_at", "queue_s", "duration_s", "url",
]  # fmt: skip
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_a_new_build_is_accepted_with_its_address(site: Site) -> None:
    answer = site.post("/builds", BUILD, by="build")
    assert answer.status_code == 202
    build = as_object(answer)
    assert answer.headers["Location"] == f"/api/v1/builds/{build['id']}"
    assert as_object(site.get(f"/builds/{build['id']}")) == build


def test_a_build_has_exactly_the_fields_of_the_contract(site: Site) -> None:
    build = site.build(pull_request=7, priority="high", platforms=["linux/amd64"])
    assert list(build) == FIELDS
    part = build["parts"][0]
    assert MOMENT.fullmatch(build["created_at"])
    assert {name: build[name] for name in FIELDS if name not in ("id", "created_at", "url")} == {
        "status": "queued", "reason": None, "message": None, "cure": None,
        "project": "acme/app", "repository": REPOSITORY, "pull_request": 7, "ref": None,
        "sha": None, "trigger": "api", "priority": "high",
        "waiting": {"reason": "new", "position": None, "eta_s": None},
        "parts": [part], "image": None, "steps": {"total": 0, "cached": 0}, "retry_of": None,
        "started_at": None, "finished_at": None, "queue_s": None, "duration_s": None,
    }  # fmt: skip
    assert (part["platform"], part["status"], part["attempts"]) == ("linux/amd64", "queued", [])


def test_an_id_is_a_string_everywhere(site: Site) -> None:
    build = site.build()
    assert isinstance(build["id"], str)
    site.post(f"/builds/{build['id']}/cancel")
    retry = as_object(site.post(f"/builds/{build['id']}/retry"))
    assert retry["retry_of"] == build["id"]
    assert build["url"].endswith(f"/builds/{build['id']}")


def test_a_finished_build_tells_its_whole_story(site: Site, worker: HandWorker) -> None:
    build = site.build()
    worker.succeed(build)
    done = site.show(build)
    assert list(done) == FIELDS
    assert (done["status"], done["sha"], done["waiting"]) == ("succeeded", SHA, None)
    assert done["image"] == {"digest": DIGEST, "tags": [TAG], "size": 1234}
    (attempt,) = done["parts"][0]["attempts"]
    assert {"number", "worker", "started_at", "finished_at", "outcome", "reason"} <= set(attempt)
    assert (attempt["number"], attempt["worker"], attempt["outcome"]) == (1, "w1", "succeeded")
    assert done["queue_s"] >= 0
    assert done["duration_s"] >= 0
    assert MOMENT.fullmatch(done["finished_at"])


def test_a_failed_build_says_why_and_what_to_do(site: Site, worker: HandWorker) -> None:
    build = site.build()
    worker.claim(build)
    worker.finish("failed", reason="step_failed", message="RUN false: exit code 1")
    done = site.show(build)
    assert (done["status"], done["reason"]) == ("failed", "step_failed")
    assert done["message"] == "RUN false: exit code 1"
    assert "push a new commit" in done["cure"]


@pytest.mark.parametrize(("client", "trigger"), [("cli", "cli"), ("browser", "api"), ("", "api")])
def test_a_build_knows_what_asked_for_it(site: Site, client: str, trigger: str) -> None:
    answer = site.post("/builds", BUILD, headers={"Farm-Client": client})
    assert as_object(answer)["trigger"] == trigger


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"dockerfile": "x"}, "/dockerfile", "unknown_field"),
        ({"network": "host"}, "/network", "unknown_field"),
        ({"platforms": ["linux/amd64", "linux/arm64"]}, "/platforms", "several_platforms"),
        ({"platforms": ["linux/evil"]}, "/platforms/0", "invalid"),
        ({"tags": ["not a tag"]}, "/tags/0", "invalid"),
        ({"build_args": {"A": 1}}, "/build_args/A", "invalid"),
        ({"build_args": {"A B": "x"}}, "/build_args/A B", "invalid"),
        ({"build_args": ["A=b"]}, "/build_args", "invalid"),
        ({"labels": {"x": None}}, "/labels/x", "invalid"),
        ({"timeout_s": 0}, "/timeout_s", "invalid"),
        ({"timeout_s": 10**9}, "/timeout_s", "invalid"),
        ({"priority": "urgent"}, "/priority", "invalid"),
        ({"pull_request": 0}, "/pull_request", "invalid"),
        ({"pull_request": "1"}, "/pull_request", "invalid"),
        ({"ref": "a..b"}, "/ref", "invalid"),
        ({"sha": "HEAD"}, "/sha", "invalid"),
        ({"context": "../x"}, "/context", "invalid"),
        ({"runs_on": ["a b"]}, "/runs_on/0", "invalid"),
        ({"secrets": ["id=x,src=/etc/shadow"]}, "/secrets/0", "invalid"),
        ({"cache_to": ["type=local,dest=/x"]}, "/cache_to/0", "invalid"),
        ({"repository": "ext::sh -c x"}, "/repository", "invalid"),
        ({"repository": None}, "", "invalid"),
        ({"tags": [], "push": True}, "", "invalid"),
        ({"pull_request": 1, "ref": "main"}, "", "invalid"),
        ({"project": "acme/app"}, "", "invalid"),
    ],
)
def test_a_wrong_field_is_named_by_a_pointer(
    site: Site, body: dict[str, Any], pointer: str, code: str
) -> None:
    answer = site.post("/builds", BUILD | body, by="build")
    overall = code if code == "several_platforms" else "invalid"
    errors = problem(answer, 422, overall)["errors"]
    assert (errors[0]["pointer"], errors[0]["code"]) == (pointer, code)
    assert errors[0]["message"]
    assert site.get("/builds").get_json()["items"] == []


CANARY = "c4nary-hunter2"


@pytest.mark.parametrize(
    "body",
    [
        {"tags": [f"{CANARY} {CANARY}"]},
        {"build_args": {"A": [CANARY]}},
        {"build_args": {"A": f"{CANARY}\x00"}},
        {"repository": f"https://user:{CANARY}@git.example/a/b"},
        {"repository": CANARY},
        {"project": CANARY, "repository": None},
        {"priority": CANARY},
        {"pull_request": CANARY},
        {"secrets": [f"{CANARY} "]},
        {"cache_from": [f"type={CANARY}"]},
        {"timeout_s": CANARY},
        {"push": CANARY},
        {"ref": f"{CANARY}..x"},
    ],
)
def test_no_error_repeats_what_was_sent(site: Site, body: dict[str, Any]) -> None:
    wanted = {name: value for name, value in (BUILD | body).items() if value is not None}
    answer = site.post("/builds", wanted)
    assert answer.status_code in (404, 422)
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    ("repository", "code"),
    [
        ("http://git.example/a/b", "invalid"),
        ("https://127.0.0.1/a/b", "address_refused"),
        ("https://localhost./a/b", "address_refused"),
        ("https://169.254.169.254/latest/meta-data.git", "address_refused"),
        ("https://2130706433/a/b", "address_refused"),
        ("https://[::ffff:169.254.169.254]/a/b", "address_refused"),
        ("https://10.0.0.1/a/b", "address_refused"),
    ],
)
def test_a_repository_inside_is_refused(strict_site: Site, repository: str, code: str) -> None:
    body = problem(strict_site.post("/builds", BUILD | {"repository": repository}), 422, code)
    assert body["errors"][0]["pointer"] == "/repository"
    assert strict_site.get("/projects").get_json()["items"] == []


@pytest.mark.parametrize("field", ["tags", "cache_from", "cache_to"])
@pytest.mark.parametrize("host", ["localhost:5000", "169.254.169.254", "10.0.0.1:5000"])
def test_a_registry_inside_is_refused_unless_an_admin_registered_it(
    strict_site: Site, field: str, host: str
) -> None:
    body = BUILD | {"repository": "https://8.8.8.8/acme/app", "tags": ["acme/app:1"]}
    body |= {field: [f"{host}/app:1"]}
    refused = problem(strict_site.post("/builds", body), 422, "address_refused")
    assert refused["errors"][0]["pointer"] == f"/{field}"
    login = {"host": host, "username": "u", "password": "password"}
    assert strict_site.post("/registries", login).status_code == 201
    assert strict_site.post("/builds", body).status_code == 202


def test_a_repository_inside_that_an_admin_registered_is_built(strict_site: Site) -> None:
    inside = {"name": "acme/inside", "repository": "https://10.0.0.1/acme/inside"}
    assert strict_site.post("/projects", inside).status_code == 201
    body = {"repository": "https://10.0.0.1/acme/inside.git"}
    assert strict_site.post("/builds", body, by="build").status_code == 202
    assert strict_site.post("/builds", {"project": "acme/inside"}, by="build").status_code == 202


def test_a_project_over_plain_http_is_for_trials_only(site: Site, strict_site: Site) -> None:
    plain = {"name": "acme/plain", "repository": "http://10.0.0.1/acme/plain"}
    body = problem(strict_site.post("/projects", plain), 422, "invalid")
    assert body["errors"][0]["pointer"] == "/repository"
    other = {"name": "acme/other", "repository": "http://10.0.0.1/acme/other"}
    assert site.post("/projects", other).status_code == 201


def test_builds_are_listed_newest_first_a_page_at_a_time(site: Site) -> None:
    ids = [site.build()["id"] for _ in range(7)]
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = site.get(f"/builds?limit=3{cursor and f'&cursor={cursor}'}").get_json()
        assert set(page) == {"items", "next_cursor"}
        seen += [build["id"] for build in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
        site.build()  # what is new does not shift the pages
    assert seen == ids[::-1]
    assert pages == 3


def test_a_page_that_holds_all_has_no_next(site: Site) -> None:
    site.build()
    assert site.get("/builds?limit=1").get_json()["next_cursor"] is None
    assert site.get("/builds").get_json()["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=-1", "limit=1e3", "limit=x", "limit=1000000000",
        "cursor=x", "cursor=-1", "cursor=1;drop", "cursor=99999999999999999999",
        "status=passed", "pull_request=0", "pull_request=x", "pull_request=99999999999",
        "sort=id;drop", "page=2", "q=%00", "project=%0a", "q=" + "x" * 256,
    ],
)  # fmt: skip
def test_a_senseless_query_is_refused(site: Site, query: str) -> None:
    answer = site.get(f"/builds?{query}")
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"


def test_builds_are_filtered(site: Site, worker: HandWorker) -> None:
    other = site.build(repository="https://git.example/other/app")
    pull, plain = site.build(pull_request=5), site.build()
    site.post(f"/builds/{plain['id']}/cancel")

    def ids(query: str) -> list[str]:
        return [build["id"] for build in site.get(f"/builds?{query}").get_json()["items"]]

    assert ids("status=cancelled") == [plain["id"]]
    assert ids("status=queued&status=cancelled") == [plain["id"], pull["id"], other["id"]]
    assert ids("project=other/app") == [other["id"]]
    assert ids("project=acme/app&pull_request=5") == [pull["id"]]
    assert ids("project=none") == []


def test_builds_are_found_by_what_people_have_in_hand(site: Site, worker: HandWorker) -> None:
    site.build(repository="https://git.example/other/app", pull_request=12)
    build = site.build(ref="feature/x")
    worker.succeed(build)

    def found(q: str) -> bool:
        items = site.get("/builds", query_string={"q": q}).get_json()["items"]
        return build["id"] in [each["id"] for each in items]

    for q in (build["id"], "acme/app", "acme", "feature/x", SHA, SHA[:7], DIGEST, DIGEST[:20], TAG):
        assert found(q), q
    for q in ("#12", "#" + build["id"], "other", "beef", OTHER_DIGEST, "%", "_", "a%", "'"):
        assert not found(q), q


def test_a_log_is_text_of_the_latest_attempt(site: Site, worker: HandWorker) -> None:
    build = site.build()
    path = f"/builds/{build['id']}/log"
    assert site.get(path).data == b""
    worker.claim(build)
    worker.log(0, b"#1 first\n")
    assert worker.verb("hand-back", {}).status_code == 204
    worker.claim_token = "d" * 32
    worker.claim(build)
    worker.log(0, b"".join(b"#1 line %d\n" % n for n in range(1, 11)))
    answer = site.get(path)
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.text.splitlines()[0] == "#1 line 1"
    assert site.get(f"{path}?attempt=1").data == b"#1 first\n"
    assert site.get(f"{path}?from=3&to=4").data == b"#1 line 3\n#1 line 4\n"
    assert site.get(f"{path}?from=10").data == b"#1 line 10\n"
    assert site.get(f"{path}?to=1").data == b"#1 line 1\n"
    assert site.get(f"{path}?from=11").data == b""
    assert site.get(f"{path}?attempt=3").status_code == 404
    assert site.get(f"{path}?platform=linux/arm64&attempt=1").status_code == 404


@pytest.mark.parametrize(
    "query", ["from=0", "from=5&to=4", "from=x", "to=-1", "lines=3", "attempt=0"]
)
def test_lines_that_cannot_be_are_refused(site: Site, query: str) -> None:
    build = site.build()
    assert site.get(f"/builds/{build['id']}/log?{query}").status_code == 422


@pytest.mark.parametrize(
    "name", ["0", "-1", "x", "1.0", "9" * 30, "..%2f..%2fetc%2fpasswd", "%00", "１"]
)
@pytest.mark.parametrize("tail", ["", "/steps", "/log", "/events"])
def test_what_is_no_id_is_not_found(site: Site, name: str, tail: str) -> None:
    assert site.get(f"/builds/{name}{tail}").status_code == 404


def test_cancel_ends_a_queued_build_and_is_refused_when_it_is_over(site: Site) -> None:
    build = site.build()
    answer = site.post(f"/builds/{build['id']}/cancel", by="build")
    assert (answer.status_code, as_object(answer)["status"]) == (202, "cancelled")
    problem(site.post(f"/builds/{build['id']}/cancel", by="build"), 409, "build_over")


def test_cancel_of_a_running_build_reaches_its_worker(site: Site, worker: HandWorker) -> None:
    build = site.build()
    worker.claim(build)
    answer = site.post(f"/builds/{build['id']}/cancel")
    assert (answer.status_code, as_object(answer)["status"]) == (202, "running")
    assert as_object(worker.verb("heartbeat", {"phase": "building"}))["cancel"] is True
    assert worker.finish("cancelled").status_code == 204
    assert site.show(build)["status"] == "cancelled"


def test_retry_is_accepted_and_linked(site: Site) -> None:
    build = site.build(pull_request=3)
    problem(site.post(f"/builds/{build['id']}/retry"), 409, "build_not_over")
    site.post(f"/builds/{build['id']}/cancel")
    answer = site.post(f"/builds/{build['id']}/retry", by="build")
    again = as_object(answer)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/builds/{again['id']}"
    assert (again["retry_of"], again["trigger"], again["pull_request"]) == (build["id"], "retry", 3)
    assert site.show(build)["status"] == "cancelled"


def test_a_secret_that_is_missing_fails_the_build_and_is_named(site: Site) -> None:
    build = site.build(secrets=["NPM_TOKEN"])
    assert (build["status"], build["reason"]) == ("failed", "secret_missing")
    assert "NPM_TOKEN" in build["message"]
    assert "farm secret set" in build["cure"]


def test_the_same_key_and_body_get_the_same_build(site: Site) -> None:
    key = {"Idempotency-Key": "k1"}
    first, again = (site.post("/builds", BUILD, headers=key) for _ in range(2))
    assert as_object(first)["id"] == as_object(again)["id"]
    assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])
    assert len(site.get("/builds").get_json()["items"]) == 1


def test_the_same_key_with_another_body_is_refused(site: Site) -> None:
    key = {"Idempotency-Key": "k1"}
    site.post("/builds", BUILD, headers=key)
    answer = site.post("/builds", BUILD | {"pull_request": 2}, headers=key)
    problem(answer, 422, "idempotency_key_reused")
    assert len(site.get("/builds").get_json()["items"]) == 1


def test_a_key_belongs_to_its_token(site: Site) -> None:
    key = {"Idempotency-Key": "k1"}
    ids = {
        as_object(site.post("/builds", BUILD, headers=key, by=by))["id"]
        for by in ("build", "admin")
    }
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_senseless_key_is_refused(site: Site, key: str) -> None:
    answer = site.post("/builds", BUILD, headers={"Idempotency-Key": key})
    assert answer.status_code == 422


def test_two_submissions_with_one_key_at_once_are_one_build(site: Site) -> None:
    """The second comes while the first is written and not yet committed."""
    key = {"Idempotency-Key": "k1"}
    first = as_object(site.post("/builds", BUILD, headers={"Idempotency-Key": "k0"}))
    database = site.services.database
    started = threading.Event()

    def submit() -> dict[str, Any]:
        started.set()
        client = site.app.test_client()
        headers = {**key, "Authorization": f"Bearer {site.tokens['admin']}"}
        answer = client.post("/api/v1/builds", json=BUILD, headers=headers)
        assert answer.status_code == 202, answer.text
        return as_object(answer)

    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            keep_key(session, site, first["id"])
            late = pool.submit(submit)
            started.wait(10)
            wait_until(lambda: waits(site))
        assert late.result(30)["id"] == first["id"]


def keep_key(session: Session, site: Site, build_id: str) -> None:
    """What another process writes for the same submission in the same moment."""
    kept = session.query(IdempotencyKey).filter(IdempotencyKey.key == "k0").one()
    session.add(
        IdempotencyKey(
            token_id=kept.token_id, key="k1", body_hash=kept.body_hash,
            build_id=int(build_id), created_at=db.now(session),
        )
    )  # fmt: skip
    session.flush()


def waits(site: Site) -> bool:
    if site.services.database.url.get_backend_name() == "sqlite":
        return True
    with site.services.database.read() as session:
        return bool(session.execute(text("SELECT 1 FROM pg_locks WHERE NOT granted")).first())


def test_steps_are_listed_in_the_order_of_the_build(site: Site, worker: HandWorker) -> None:
    build = site.build()
    worker.claim(build)
    steps = [
        {"number": n, "name": f"step {n}", "status": "succeeded", "cached": n == 1,
         "started_at": "2026-01-01T00:00:00Z", "duration_s": 0.5}
        for n in (2, 1)
    ]  # fmt: skip
    assert worker.verb("steps", {"steps": steps}).status_code == 200
    listed = as_object(site.get(f"/builds/{build['id']}/steps"))["items"]
    assert [step["number"] for step in listed] == [1, 2]
    assert listed[0] == {
        "number": 1, "name": "step 1", "status": "succeeded", "cached": True,
        "started_at": "2026-01-01T00:00:00.000Z", "duration_s": 0.5, "platform": None,
        "attempt": 1,
    }  # fmt: skip
    assert site.show(build)["steps"] == {"total": 2, "cached": 1}


def test_a_token_is_noted_when_it_is_used(site: Site) -> None:
    site.get("/builds", by="read")
    with site.services.database.read() as session:
        used = {token.name: token.last_used_at for token in session.query(Token)}
    assert used["read"] is not None
    assert used["build"] is None


def test_a_queued_build_says_why_it_waits(site: Site) -> None:
    build = site.build()
    site.place()
    assert site.show(build)["waiting"] == {"reason": "no_worker", "position": None, "eta_s": None}


def test_a_build_of_the_command_line_is_asked_for_like_any_other(site: Site) -> None:
    with site.services.database.write() as session:
        wanted = BuildRequest.model_validate(BUILD)
        build = builds.request(session, wanted, trigger=Trigger.CLI, now=db.now(session))
    assert as_object(site.get(f"/builds/{build.id}"))["trigger"] == "cli"
