"""Is it up, is it ready, what does it count; and what an error never says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

import farm
from farm import access
from farm.protocol import PROTOCOL
from tests.factories import farm_settings
from tests.integration.web.site import BUILD, HandWorker, Site, as_object, make_tokens, problem
from tests.services.redis import RedisServer
from web.app import create_app
from web.context import EXTENSION


def test_a_process_is_healthy_and_says_which_farm_it_is(site: Site) -> None:
    assert as_object(site.call("GET", "/healthz", by=None)) == {"status": "ok"}
    assert as_object(site.call("GET", "/version", by=None)) == {
        "version": farm.__version__,
        "worker_protocol": PROTOCOL,
    }


def test_a_farm_with_everything_is_ready(site: Site) -> None:
    answer = site.call("GET", "/readyz", by=None)
    assert answer.status_code == 200
    assert as_object(answer) == {"status": "ok", "checks": {"database": "ok", "redis": "ok"}}


def test_a_schema_that_is_not_current_is_not_ready(site: Site) -> None:
    with site.services.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    answer = site.call("GET", "/readyz", by=None)
    assert answer.status_code == 503
    assert "farm db upgrade" in as_object(answer)["checks"]["database"]


@pytest.fixture
def lonely(migrated_url: str, tmp_path: Path) -> Iterator[Site]:
    """A farm whose Redis is away."""
    nobody = RedisServer(tmp_path)
    app = create_app(farm_settings(tmp_path, migrated_url, redis_url=nobody.url))
    yield Site(app, app.test_client(), make_tokens(app.extensions[EXTENSION]))
    services = app.extensions[EXTENSION]
    services.live.close()
    services.wakeups.close()
    services.database.dispose()


def test_without_redis_builds_are_taken_and_said_to_be_ready(lonely: Site) -> None:
    answer = lonely.call("GET", "/readyz", by=None)
    assert answer.status_code == 200
    assert as_object(answer)["checks"] == {"database": "ok", "redis": "unreachable"}
    build = lonely.build()
    assert lonely.post(f"/builds/{build['id']}/cancel").status_code == 202
    events = lonely.get(f"/builds/{build['id']}/events")
    assert "event: done" in events.text


def test_metrics_count_what_the_database_knows(site: Site, worker: HandWorker) -> None:
    site.build()
    cancelled = site.build()
    site.post(f"/builds/{cancelled['id']}/cancel")
    text_ = site.call("GET", "/metrics", by="metrics-token").text
    assert 'farm_builds{status="queued",trigger="api"} 1.0' in text_
    assert 'farm_builds{status="cancelled",trigger="api"} 1.0' in text_
    assert "farm_queue_depth 1.0" in text_
    assert 'farm_workers{state="online"} 1.0' in text_


@pytest.mark.parametrize("token", ["metrics-tokem", "metrics-toke", "é", None])
def test_metrics_need_their_token(site: Site, token: str | None) -> None:
    assert site.call("GET", "/metrics", by=token).status_code == 401


def test_a_bug_is_a_500_that_shows_nothing_of_it(site: Site) -> None:
    with site.services.database.write() as session:
        session.execute(text("DROP TABLE idempotency_keys"))
    answer = site.post("/builds", BUILD, headers={"Idempotency-Key": "c4nary"})
    body = problem(answer, 500, "internal")
    assert "log has the details" in body["detail"]
    for inside in (
        "c4nary",
        "idempotency_keys",
        "SELECT",
        "DELETE",
        "Traceback",
        ".py",
        "sqlalchemy",
    ):
        assert inside not in answer.text


def test_a_database_that_is_away_is_a_503(redis_server: RedisServer, tmp_path: Path) -> None:
    away = "postgresql://farm@127.0.0.1:9/none?connect_timeout=1"
    app = create_app(farm_settings(tmp_path, away, redis_url=redis_server.url))
    client = app.test_client()
    headers = {"Authorization": f"Bearer {access.new_token()}"}
    answer = client.get("/api/v1/builds", headers=headers)
    problem(answer, 503, "database_unavailable")
    assert answer.headers["Retry-After"]
    assert "127.0.0.1" not in answer.text
    ready = client.get("/readyz")
    assert (ready.status_code, as_object(ready)["checks"]["database"]) == (503, "unreachable")
    assert client.get("/healthz").status_code == 200
    services = app.extensions[EXTENSION]
    services.live.close()
    services.wakeups.close()
    services.database.dispose()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/api/v1/builds/1/nothing", 404, "not_found"),
        ("DELETE", "/api/v1/builds", 405, "method_not_allowed"),
        ("GET", "/worker/v1/enrol", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_a_problem_too(
    site: Site, method: str, path: str, status: int, code: str
) -> None:
    answer = site.call(method, path)
    problem(answer, status, code)
    assert (status == 405) is ("Allow" in answer.headers)


def test_a_request_keeps_its_number_when_that_is_a_sane_one(site: Site) -> None:
    given = site.get("/builds", headers={"X-Request-ID": "abc-1.2_3"})
    assert given.headers["X-Request-ID"] == "abc-1.2_3"
    for wild in ("x" * 65, "a b", "<script>"):
        answer = site.get("/builds", headers={"X-Request-ID": wild})
        assert answer.headers["X-Request-ID"] != wild


@pytest.mark.parametrize("path", ["/api/v1/builds", "/api/v1/nothing", "/healthz", "/metrics"])
def test_every_answer_has_its_security_headers(site: Site, path: str) -> None:
    headers = site.call("GET", path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_a_body_without_a_length_is_cut_off_and_refused(site: Site) -> None:
    class Endless:
        def read(self, size: int = -1) -> bytes:
            assert size > 0
            return b" " * size

        def close(self) -> None:
            pass

    endless = {"wsgi.input": Endless(), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    answer = site.call(
        "POST", "/api/v1/builds", content_type="application/json", environ_overrides=endless
    )
    problem(answer, 413, "too_large")
