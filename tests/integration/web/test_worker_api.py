"""The door for workers, by a worker that is driven by hand."""

import re
from typing import Any

import pytest

from farm.protocol import LOG_CHUNK_BYTES, PROTOCOL
from tests.factories import DIGEST, NEWER_SHA, OTHER_DIGEST, SHA, TAG
from tests.integration.web.site import HandWorker, Site, as_object, problem

HUGE = 10**30


def test_a_build_goes_from_submission_to_digest(site: Site) -> None:
    site.post("/registries", {"host": "registry.example", "username": "u", "password": "pass-word"})
    site.post("/secrets", {"name": "NPM_TOKEN", "value": "npm-value"})
    build = site.build(secrets=["NPM_TOKEN"], timeout_s=600)
    worker = HandWorker(site).enrol()
    checked_in = as_object(worker.check_in())
    assert (checked_in["name"], checked_in["queue"]) == ("w1", "worker.w1")
    assert checked_in["broker_url"] == site.services.settings.redis_url
    claimed = worker.claim(build)
    assert (claimed["build_id"], claimed["attempt"], claimed["sha"]) == (build["id"], 1, None)
    assert claimed["spec"]["tags"] == [TAG]
    assert claimed["credentials"] == {
        "git": None,
        "registries": [{"host": "registry.example", "username": "u", "password": "pass-word"}],
        "secrets": {"NPM_TOKEN": "npm-value"},
    }
    assert 590 < claimed["timeout_s"] <= 600
    worker.resolve()
    assert as_object(worker.verb("heartbeat", {"phase": "building"}))["cancel"] is False
    assert site.show(build)["parts"][0]["phase"] == "building"
    assert as_object(worker.log(0, b"#1 hello\n"))["size"] == 9
    published = as_object(worker.verb("publish", {"digest": DIGEST, "size": 5}))
    assert published == {"owned": [TAG], "others": []}
    assert worker.finish().status_code == 204
    done = site.show(build)
    assert (done["status"], done["sha"]) == ("succeeded", SHA)
    assert done["image"] == {"digest": DIGEST, "tags": [TAG], "size": 5}


def test_the_same_worker_enrols_again_under_its_name_and_its_old_token_is_void(site: Site) -> None:
    first = HandWorker(site).enrol()
    old = first.token
    again = HandWorker(site).enrol()
    assert again.name == "w1"
    assert again.check_in().status_code == 200
    first.token = old
    assert first.check_in().status_code == 401


def test_another_worker_of_that_name_gets_a_number(site: Site) -> None:
    names = [HandWorker(site).enrol(instance=c * 32).name for c in "abc"]
    assert names == ["w1", "w1-2", "w1-3"]


def test_labels_and_zone_come_from_the_enrolment(site: Site) -> None:
    body = {"name": "gpus", "scopes": ["worker"], "zone": "untrusted", "labels": ["gpu"]}
    token = site.post("/tokens", body).get_json()["token"]
    HandWorker(site).enrol(by=token).check_in()
    (row,) = site.get("/workers").get_json()["items"]
    assert (row["zone"], row["labels"], row["online"]) == ("untrusted", ["gpu"], True)


def test_another_protocol_is_refused_at_the_door(site: Site, worker: HandWorker) -> None:
    body = {"name": "w2", "protocol": PROTOCOL + 1, "instance": "2" * 32}
    problem(site.call("POST", "/worker/v1/enrol", by="worker", json=body), 409, "protocol_mismatch")
    problem(worker.check_in(protocol=PROTOCOL + 1), 409, "protocol_mismatch")


def test_a_claim_is_repeated_by_its_token_and_stale_for_any_other(
    site: Site, worker: HandWorker
) -> None:
    build = site.build()
    first = worker.claim(build)
    again = as_object(worker.verb("claim"))
    assert {**again, "timeout_s": 0} == {**first, "timeout_s": 0}
    worker.claim_token = "d" * 32
    problem(worker.verb("claim"), 409, "stale_attempt")


def test_a_part_of_another_worker_cannot_be_claimed(site: Site, worker: HandWorker) -> None:
    build = site.build()
    site.place()
    other = HandWorker(site, name="w2", part=site.part_id(build)).enrol(instance="2" * 32)
    problem(other.verb("claim"), 409, "stale_attempt")


@pytest.mark.parametrize("token", ["", "short", "x" * 65, "c" * 15 + "/", "é" * 16])
def test_a_senseless_claim_token_is_refused(worker: HandWorker, token: str) -> None:
    answer = worker.verb("claim", headers={"Farm-Claim": token.encode("utf-8").decode("latin-1")})
    problem(answer, 422, "invalid")


@pytest.mark.parametrize(
    ("part", "attempt"), [(HUGE, 1), (1, HUGE), (2**31, 1), (2**63, 1), (0, 0)]
)
@pytest.mark.parametrize("verb", ["claim", "heartbeat", "log", "finish"])
def test_an_attempt_that_cannot_be_is_stale_and_no_bug(
    worker: HandWorker, part: int, attempt: int, verb: str
) -> None:
    worker.part, worker.attempt = part, attempt
    calls: dict[str, dict[str, Any]] = {
        "claim": {},
        "heartbeat": {"body": {"phase": "building"}},
        "log": {"query_string": {"offset": 0}, "data": b"x"},
        "finish": {"body": {"outcome": "succeeded"}},
    }
    assert worker.verb(verb, **calls[verb]).status_code in (404, 409)


def test_every_verb_may_be_repeated(site: Site, worker: HandWorker) -> None:
    build = site.build()
    worker.claim(build)
    step = {"number": 1, "name": "x", "status": "succeeded", "cached": True,
            "started_at": None, "duration_s": 1}  # fmt: skip
    calls: list[tuple[str, object]] = [
        ("resolved", {"sha": SHA, "commit_date": "2026-01-01T00:00:00Z"}),
        ("heartbeat", {"phase": "building"}),
        ("steps", {"steps": [step]}),
        ("publish", {"digest": DIGEST, "size": 5}),
        ("finish", {"outcome": "succeeded"}),
    ]
    for verb, body in calls:
        first, again = worker.verb(verb, body), worker.verb(verb, body)
        assert first.status_code in (200, 204), verb
        assert (again.status_code, again.data) == (first.status_code, first.data), verb
    assert site.show(build)["status"] == "succeeded"
    assert site.show(build)["steps"] == {"total": 1, "cached": 1}


def test_after_the_end_every_verb_is_stale_except_the_same_end(
    site: Site, worker: HandWorker
) -> None:
    worker.succeed(site.build())
    assert worker.finish().status_code == 204
    problem(worker.finish("failed", reason="step_failed"), 409, "stale_attempt")
    problem(worker.verb("heartbeat", {"phase": "building"}), 409, "stale_attempt")
    problem(worker.verb("steps", {"steps": []}), 409, "stale_attempt")
    problem(worker.log(0, b"x"), 409, "stale_attempt")
    problem(worker.verb("hand-back", {}), 409, "stale_attempt")
    body = problem(
        worker.verb("publish", {"digest": OTHER_DIGEST, "size": 1}), 409, "stale_attempt"
    )
    assert body["tags"] == [{"reference": TAG, "digest": DIGEST}]


def test_a_log_with_repeats_and_gaps_comes_out_whole(site: Site, worker: HandWorker) -> None:
    build = site.build()
    worker.claim(build)
    whole = b"".join(b"#1 line %d\n" % n for n in range(100))
    assert as_object(worker.log(0, whole[:100]))["size"] == 100
    assert as_object(worker.log(200, whole[200:300]))["size"] == 100
    assert as_object(worker.log(50, whole[50:150]))["size"] == 150
    assert as_object(worker.log(0, whole))["size"] == len(whole)
    assert site.get(f"/builds/{build['id']}/log").data == whole


def test_a_chunk_is_bounded(site: Site, worker: HandWorker) -> None:
    worker.claim(site.build())
    assert worker.log(0, b"x" * LOG_CHUNK_BYTES).status_code == 200
    problem(worker.log(LOG_CHUNK_BYTES, b"x" * (LOG_CHUNK_BYTES + 1)), 422, "invalid")
    for offset in ("", "-1", "x", "1e3", str(2**70)):
        answer = worker.verb("log", query_string={"offset": offset}, data=b"x")
        assert answer.status_code == 422
    assert worker.verb("log", data=b"x").status_code == 422


def test_a_watched_build_is_sent_sooner(site: Site, worker: HandWorker) -> None:
    build = site.build()
    worker.claim(build)
    assert as_object(worker.log(0, b""))["next_ms"] == 1000
    stream = site.get(f"/builds/{build['id']}/events", buffered=False)
    assert as_object(worker.log(0, b""))["next_ms"] == 100
    stream.close()
    assert as_object(worker.log(0, b""))["next_ms"] == 1000


def test_the_first_commit_that_was_found_is_everybodys(site: Site, worker: HandWorker) -> None:
    worker.claim(site.build())
    worker.resolve(SHA)
    found = {"sha": NEWER_SHA, "commit_date": "2026-02-02T00:00:00Z"}
    answer = as_object(worker.verb("resolved", found))
    assert answer["sha"] == SHA
    assert answer["commit_date"].startswith("2026-01-01T00:00:00")


def test_a_handed_back_build_burns_nothing(site: Site, worker: HandWorker) -> None:
    build = site.build()
    for n in range(4):
        worker.claim_token = f"{n}" * 32
        worker.claim(build)
        assert worker.verb("hand-back", {"message": "drain"}).status_code == 204
    shown = site.show(build)
    assert shown["status"] == "queued"
    assert [a["outcome"] for a in shown["parts"][0]["attempts"]] == ["handed_back"] * 4


def test_a_lost_secret_at_the_claim_is_stale_for_the_worker_and_failed_for_people(
    site: Site, worker: HandWorker
) -> None:
    site.post("/secrets", {"name": "S", "value": "value"})
    build = site.build(secrets=["S"])
    site.delete("/secrets/S")
    site.place()
    worker.part = site.part_id(build)
    problem(worker.verb("claim"), 409, "stale_attempt")
    shown = site.show(build)
    assert (shown["status"], shown["reason"]) == ("failed", "secret_missing")


def test_a_draining_worker_is_told_and_gets_nothing(site: Site, worker: HandWorker) -> None:
    answer = site.call("PATCH", "/api/v1/workers/w1", json={"draining": True})
    assert answer.status_code == 200
    assert as_object(worker.check_in())["draining"] is True
    build = site.build()
    assert site.place() == []
    assert site.show(build)["waiting"]["reason"] == "workers_draining"


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("finish", {"outcome": "passed"}),
        ("finish", {"outcome": "failed", "phases": {"a": -1}}),
        ("finish", {"outcome": "failed", "extra": 1}),
        ("publish", {"digest": "sha256:x", "size": 1}),
        ("publish", {"digest": DIGEST, "size": -1}),
        ("heartbeat", {"phase": "sleeping"}),
        ("resolved", {"sha": "HEAD", "commit_date": "2026-01-01T00:00:00Z"}),
        ("resolved", {"sha": SHA, "commit_date": "9999-12-31T23:59:59-14:00"}),
        ("steps", {"steps": [{}]}),
        ("steps", []),
    ],
)
def test_a_senseless_report_is_refused_and_changes_nothing(
    site: Site, worker: HandWorker, verb: str, body: object
) -> None:
    build = site.build()
    worker.claim(build)
    problem(worker.verb(verb, body), 422, "invalid")
    assert site.show(build)["status"] == "running"


def test_a_number_that_is_infinite_is_refused_and_no_bug(site: Site, worker: HandWorker) -> None:
    worker.claim(site.build())
    raw = b'{"outcome":"failed","phases":{"fetch":1e400}}'
    answer = worker.verb("finish", data=raw, content_type="application/json")
    assert answer.status_code in (400, 422)


def test_a_nul_in_what_a_build_printed_is_no_bug(site: Site, worker: HandWorker) -> None:
    build = site.build()
    worker.claim(build)
    step = {"number": 1, "name": "RUN printf '\x00'", "status": "failed", "cached": False,
            "started_at": None, "duration_s": None}  # fmt: skip
    assert worker.verb("steps", {"steps": [step]}).status_code == 200
    assert worker.log(0, b"#1 \x00\xff\n").status_code == 200
    assert worker.finish("failed", reason="step_failed", message="a\x00b").status_code == 204
    assert site.show(build)["message"] == "ab"
    assert site.get(f"/builds/{build['id']}/log").data == b"#1 \x00\xff\n"


def test_no_answer_but_a_claims_holds_a_secret(site: Site, worker: HandWorker) -> None:
    site.post("/secrets", {"name": "S", "value": "c4nary-value"})
    site.post("/projects", {"name": "acme/app", "repository": "https://git.example/acme/app",
                            "git_token": "c4nary-token"})  # fmt: skip
    build = site.build(secrets=["S"])
    assert len(re.findall("c4nary", str(worker.claim(build)))) == 2
    worker.resolve()
    for answer in (
        worker.verb("heartbeat", {"phase": "building"}),
        worker.verb("publish", {"digest": DIGEST, "size": 5}),
        site.get(f"/builds/{build['id']}"),
        site.get("/builds"),
        site.get("/projects"),
        site.get("/secrets"),
        site.get("/workers"),
    ):
        assert answer.status_code == 200
        assert "c4nary" not in answer.text
