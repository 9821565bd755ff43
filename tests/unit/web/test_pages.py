"""The pages, through their front door: what people see, may do and are told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from farm.model import Step, Worker
from farm.reasons import Reason, WaitReason
from farm.states import BuildStatus, StepStatus
from tests.pages_farm import SAME_ORIGIN, PagesFarm, csrf_of, pages_farm

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202eevil\x1b]0;title\x07\"'>"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[PagesFarm]:
    with pages_farm(tmp_path) as made:
        yield made


def test_the_front_page_is_the_list_of_builds(farm: PagesFarm) -> None:
    response = farm.browser().get("/")
    assert (response.status_code, response.location) == (303, "/builds")


def test_an_empty_farm_says_how_to_begin(farm: PagesFarm) -> None:
    browser = farm.browser()
    assert "farm build --repo" in browser.get("/builds").text
    assert "farm worker token" in browser.get("/workers").text
    assert "farm project add" in browser.get("/projects").text


def test_a_row_shows_status_in_words_and_why_a_build_waits(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        build_id = seeder.waiting(2, WaitReason.SLOTS_BUSY).id
    page = farm.browser().get("/builds").text
    row = page[page.index(f'id="build-{build_id}"') :]
    assert ">queued<" in row
    assert "2nd in line" in row
    assert WaitReason.SLOTS_BUSY.sentence.rstrip(".") in row
    assert "may start in 24 s to 1 m 00 s" in row


def test_filters_live_in_the_address(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        ended = seeder.now - timedelta(hours=1)
        failed = seeder.build(status=BuildStatus.FAILED, created_at=ended).id
        cancelled = seeder.build(status=BuildStatus.CANCELLED, created_at=ended).id
        succeeded = seeder.build(created_at=ended).id
    browser = farm.browser()

    def shown(query: str) -> set[int]:
        return {
            int(n) for n in re.findall(r'id="build-(\d+)"', browser.get(f"/builds{query}").text)
        }

    assert shown("") == {failed, cancelled, succeeded}
    assert shown("?status=failed&status=cancelled") == {failed, cancelled}
    assert shown("?status=no-such-status") == {failed, cancelled, succeeded}
    assert shown(f"?q={succeeded}") >= {succeeded}
    assert shown("?q=nothing-like-this") == set()
    assert "No build matches" in browser.get("/builds?q=nothing-like-this").text


def test_a_status_switch_adds_to_the_filters_that_are_there(farm: PagesFarm) -> None:
    page = farm.browser().get("/builds?status=failed&q=acme").text
    assert 'href="/builds?status=failed&amp;status=errored&amp;q=acme"' in page
    assert 'href="/builds?q=acme" aria-current="true"' in page  # the switch that takes it off


def test_older_builds_are_a_keyset_page_away(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        seeder.history(60)
    browser = farm.browser()
    first = browser.get("/builds").text
    older = re.search(r'rel="next" href="(/builds\?cursor=\d+)"', first)
    assert older
    second = browser.get(older[1]).text
    ids = [re.findall(r'id="build-(\d+)"', page) for page in (first, second)]
    assert [len(found) for found in ids] == [50, 10]
    assert not set(ids[0]) & set(ids[1])
    assert '<a href="/builds">Newest</a>' in second


def test_a_failure_shows_cause_message_and_cure(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        build_id = seeder.build(
            status=BuildStatus.FAILED,
            reason=Reason.STEP_FAILED,
            message="RUN make: exit code 2",
            created_at=seeder.now - timedelta(minutes=5),
        ).id
    page = farm.browser().get(f"/builds/{build_id}").text
    for text in (Reason.STEP_FAILED.cause, "RUN make: exit code 2", Reason.STEP_FAILED.cure):
        assert text in page
    assert "/static/status-failed.svg" in page
    assert "<title>Failed · " in page


def test_a_finished_image_shows_digest_tags_and_how_to_pull_it(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        build = seeder.build(created_at=seeder.now - timedelta(minutes=5))
        digest, tag, build_id = build.image_digest, build.image_tags[0], build.id
    page = farm.browser().get(f"/builds/{build_id}").text
    assert tag in page
    assert f"docker pull {tag.rpartition(':')[0]}@{digest}" in page


def test_the_page_of_a_build_is_json_for_whoever_asks_for_json(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        build_id = seeder.running(5).id
    browser = farm.browser()
    wanted = {"Accept": "application/json"}
    page = browser.get(f"/builds/{build_id}", headers=wanted)
    assert page.json == browser.get(f"/api/v1/builds/{build_id}", headers=SAME_ORIGIN).json
    assert json.loads(browser.get("/builds", headers=wanted).data)["items"][0]["id"] == str(
        build_id
    )
    assert browser.get("/builds/99999", headers=wanted).status_code == 404


def test_hostile_text_is_shown_and_does_nothing(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        build = seeder.build(
            status=BuildStatus.FAILED,
            reason=Reason.UNKNOWN,
            message=HOSTILE,
            created_at=seeder.now - timedelta(minutes=5),
            ref=f"refs/heads/{HOSTILE[:24]}",
            pull_request=None,
        )
        seeder.session.flush()
        for step in seeder.session.scalars(select(Step)):
            step.name = HOSTILE
        seeder.add_log(build, f"#9 0.1 {HOSTILE}\n")
        build_id = build.id
    browser = farm.browser()
    for address in ("/builds", f"/builds/{build_id}", f"/builds?q={HOSTILE}"):
        page = browser.get(address).text
        assert "<script>alert" not in page
        assert "<img" not in page
    assert "\x1b" not in page
    page = browser.get(f"/builds/{build_id}").text
    assert "⟨U+202E⟩evil" in page


def test_a_line_of_a_long_log_has_an_address_of_its_own(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        build = seeder.running(5)
        seeder.add_log(build, "".join(f"#9 1.000 line {n}\n" for n in range(2000)))
        build_id = build.id
    browser = farm.browser()
    tail = browser.get(f"/builds/{build_id}").text
    assert "line 1999<" in tail
    assert "line 1000<" not in tail
    window = browser.get(f"/builds/{build_id}?line=1000").text
    assert 'id="L1000"' in window
    assert 'id="L960"' in window
    assert ">Earlier<" in window
    assert ">Later<" in window
    assert 'data-events=""' in window  # a window in the middle does not follow the end


def test_cancelling_is_for_who_may_build(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        build_id = seeder.waiting(1, WaitReason.SLOTS_BUSY).id
    reader = farm.browser("read")
    assert "/cancel" not in reader.get(f"/builds/{build_id}").text
    form = {"csrf": csrf_of(reader)}
    refused = reader.post(f"/builds/{build_id}/cancel", data=form, headers=SAME_ORIGIN)
    assert refused.status_code == 403
    builder = farm.browser("build")
    form = {"csrf": csrf_of(builder)}
    done = builder.post(f"/builds/{build_id}/cancel", data=form, headers=SAME_ORIGIN)
    assert (done.status_code, done.location) == (303, f"/builds/{build_id}")
    assert "<title>Cancelled · " in builder.get(f"/builds/{build_id}").text
    again = builder.post(f"/builds/{build_id}/cancel", data=form, headers=SAME_ORIGIN)
    assert again.status_code == 409
    assert "over already" in again.text


def test_retrying_opens_the_new_build_which_names_the_old(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        build = seeder.build(created_at=seeder.now - timedelta(hours=1))
        build.spec = {"repository": "https://git.example.com/acme/app"}
        build_id = build.id
    browser = farm.browser("build")
    form = {"csrf": csrf_of(browser)}
    done = browser.post(f"/builds/{build_id}/retry", data=form, headers=SAME_ORIGIN)
    assert done.status_code == 303
    page = browser.get(done.location or "").text
    assert f'retry of <a href="/builds/{build_id}">' in page


def test_draining_a_worker_is_for_admins(farm: PagesFarm) -> None:
    with farm.seeding():
        pass
    assert "/drain" not in farm.browser("build").get("/workers").text
    admin = farm.browser("admin")
    form = {"csrf": csrf_of(admin)}
    done = admin.post("/workers/gpu-1/drain", data=form, headers=SAME_ORIGIN)
    assert done.status_code == 303
    with farm.session() as session:
        assert session.scalars(select(Worker.draining).where(Worker.name == "gpu-1")).one()


def test_workers_show_state_slots_and_disk(farm: PagesFarm) -> None:
    with farm.seeding():
        pass
    page = farm.browser("read").get("/workers").text
    for text in ("draining", "engine down", "offline", "0 of 4 busy", "too low", "untrusted"):
        assert text in page


def test_a_running_step_shows_the_time_so_far(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        build_id = seeder.running(40).id
        running = select(Step).where(Step.status == StepStatus.RUNNING)
        assert seeder.session.scalars(running).one().duration_s is None
    page = farm.browser().get(f"/builds/{build_id}").text
    assert re.search(r'class="is-running">.*?class="number took">[\d.]+ (m|s)', page, re.DOTALL)


@pytest.mark.parametrize("address", ["/nothing", "/builds/4242", "/builds/99999999999999999999"])
def test_what_is_not_there_is_a_designed_page(farm: PagesFarm, address: str) -> None:
    response = farm.browser().get(address)
    assert response.status_code == 404
    assert "All builds" in response.text


def test_a_bug_is_a_designed_page_that_tells_nothing(farm: PagesFarm) -> None:
    def broken() -> str:
        raise RuntimeError("a secret")

    farm.app.add_url_rule("/broken", view_func=broken)
    response = farm.browser().get("/broken")
    assert response.status_code == 500
    assert "All builds" in response.text
    assert "secret" not in response.text


def test_without_its_database_the_farm_still_says_what_is_wrong(
    farm: PagesFarm, tmp_path: Path
) -> None:
    browser = farm.browser()
    farm.services.database.dispose()
    for file in tmp_path.glob("farm.db*"):
        file.unlink()
    (tmp_path / "farm.db").write_bytes(b"not a database" * 100)
    response = browser.get("/builds")
    assert response.status_code in (500, 503)
    assert "All builds" in response.text


@pytest.mark.parametrize(
    "address",
    ["/sign-in", "/builds", "/nothing", "/static/farm.css", "/api/v1/builds", "/healthz"],
)
def test_every_answer_has_the_security_headers(farm: PagesFarm, address: str) -> None:
    headers = farm.app.test_client().get(address, buffered=True).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_pages_hold_nothing_that_the_policy_forbids(farm: PagesFarm) -> None:
    with farm.seeding() as seeder:
        seeder.history(5)
        build_id = seeder.running(5).id
    browser = farm.browser()
    for address in ("/builds", f"/builds/{build_id}", "/workers", "/projects", "/nothing"):
        page = browser.get(address).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page))


def test_private_pages_are_not_kept_by_caches_and_static_files_are(farm: PagesFarm) -> None:
    browser = farm.browser()
    page = browser.get("/builds")
    assert page.headers["Cache-Control"] == "no-store"
    sheet = re.search(r'href="(/static/farm\.css\?v=\w+)"', page.text)
    assert sheet
    assert "immutable" in browser.get(sheet[1], buffered=True).headers["Cache-Control"]
    assert browser.get("/static/refresh.js", buffered=True).headers["Cache-Control"] == "no-cache"


def test_scripts_get_a_problem_where_people_get_the_sign_in_page(farm: PagesFarm) -> None:
    response = farm.app.test_client().get("/builds", headers={"Accept": "application/json"})
    assert response.status_code == 401
    assert json.loads(response.data)["status"] == 401
