"""Signing in and out, and what forged requests meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from farm import access, db
from farm.reasons import WaitReason
from tests.pages_farm import SAME_ORIGIN, PagesFarm, csrf_of, pages_farm, sign_in


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[PagesFarm]:
    with pages_farm(tmp_path) as made:
        yield made


def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(farm: PagesFarm) -> None:
    client = farm.app.test_client()
    response = client.get("/builds?status=failed&q=a+b")
    assert response.status_code == 303
    assert response.location == "/sign-in?next=%2Fbuilds%3Fstatus%3Dfailed%26q%3Da%2Bb"
    form = client.get(response.location).text
    assert 'name="next" value="/builds?status=failed&amp;q=a+b"' in form
    done = sign_in(client, farm.token(), target="/builds?status=failed&q=a+b")
    assert (done.status_code, done.location) == (303, "/builds?status=failed&q=a+b")
    assert client.get("/builds").status_code == 200


def test_the_cookie_is_kept_from_scripts_and_other_sites(farm: PagesFarm) -> None:
    cookie = sign_in(farm.app.test_client(), farm.token()).headers["Set-Cookie"]
    assert cookie.startswith("farm_session=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie


def test_under_https_the_cookie_is_secure_and_bound_to_the_host(tmp_path: Path) -> None:
    with pages_farm(tmp_path, url="https://farm.example.com") as farm:
        client = farm.app.test_client()
        response = sign_in(client, farm.token())
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith("__Host-farm_session=")
        assert "Secure" in cookie.split("; ")


def test_a_wrong_token_is_refused_and_never_repeated(farm: PagesFarm) -> None:
    response = sign_in(farm.app.test_client(), "farm_mistyped-secret")
    assert response.status_code == 401
    assert "unknown, expired or revoked" in response.text
    assert "mistyped-secret" not in response.text
    assert "Set-Cookie" not in response.headers


def test_a_workers_token_opens_no_page(farm: PagesFarm) -> None:
    response = sign_in(farm.app.test_client(), farm.token("worker"))
    assert response.status_code == 403
    assert "Set-Cookie" not in response.headers


def test_signing_in_again_draws_a_new_cookie_and_ends_the_old_session(farm: PagesFarm) -> None:
    client = farm.browser()
    old = _cookie(client)
    sign_in(client, farm.token())
    assert _cookie(client) != old
    client.set_cookie("farm_session", old)
    assert client.get("/builds").status_code == 303


def test_a_planted_cookie_does_not_survive_signing_in(farm: PagesFarm) -> None:
    client = farm.app.test_client()
    client.set_cookie("farm_session", "planted")
    sign_in(client, farm.token())
    assert _cookie(client) != "planted"


def test_signing_out_ends_the_session_on_the_server(farm: PagesFarm) -> None:
    client = farm.browser()
    value, form = _cookie(client), {"csrf": csrf_of(client)}
    response = client.post("/sign-out", data=form, headers=SAME_ORIGIN)
    assert (response.status_code, response.location) == (303, "/sign-in")
    client.set_cookie("farm_session", value)
    assert client.get("/builds").status_code == 303


def test_a_revoked_token_signs_its_browsers_out(farm: PagesFarm) -> None:
    token = farm.token()
    client = farm.app.test_client()
    sign_in(client, token)
    with farm.session() as session:
        now = db.now(session)
        token_id = access.authenticate(session, token, now=now).token_id
        access.revoke_token(session, token_id, now=now)
    assert client.get("/builds").status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/%0d%0aSet-Cookie:x=1\r\n",
        "/\t/evil.example",
        "\\\\evil.example",
        "/sign-in?next=/sign-in",
        "//[",
        "",
    ],
)
def test_after_signing_in_nobody_is_led_to_another_site(farm: PagesFarm, target: str) -> None:
    response = sign_in(farm.app.test_client(), farm.token(), target=target)
    assert (response.status_code, response.location) == (303, "/builds")


@pytest.mark.parametrize(
    ("headers", "with_token"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://localhost:8081"}, True),
        ({}, True),
    ],
)
def test_a_forged_form_changes_nothing(
    farm: PagesFarm, headers: dict[str, str], *, with_token: bool
) -> None:
    with farm.seeding() as seeder:
        build_id = seeder.waiting(1, WaitReason.SLOTS_BUSY).id
    client = farm.browser()
    form = {"csrf": csrf_of(client)} if with_token else {}
    response = client.post(f"/builds/{build_id}/cancel", data=form, headers=headers)
    assert response.status_code == 403
    assert "<title>Queued · " in client.get(f"/builds/{build_id}").text


def test_without_fetch_metadata_the_origin_of_our_own_page_is_enough(farm: PagesFarm) -> None:
    client = farm.browser()
    form, headers = {"csrf": csrf_of(client)}, {"Origin": "http://localhost"}
    assert client.post("/sign-out", data=form, headers=headers).status_code == 303


def test_the_token_of_another_session_is_no_good(farm: PagesFarm) -> None:
    form = {"csrf": csrf_of(farm.browser())}
    response = farm.browser().post("/sign-out", data=form, headers=SAME_ORIGIN)
    assert response.status_code == 403


def test_nobody_is_signed_in_from_another_site(farm: PagesFarm) -> None:
    client = farm.app.test_client()
    form = {"token": farm.token()}
    response = client.post("/sign-in", data=form, headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 403
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("address", ["/builds/1/cancel", "/builds/1/retry", "/sign-out"])
def test_a_link_changes_nothing(farm: PagesFarm, address: str) -> None:
    assert farm.browser().get(address).status_code == 405


def test_the_api_takes_the_cookie_only_from_our_own_pages(farm: PagesFarm) -> None:
    client = farm.browser()
    assert client.get("/api/v1/builds", headers=SAME_ORIGIN).status_code == 200
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/api/v1/builds", headers=foreign).status_code == 401
    body = {"repository": "https://git.example.com/acme/app"}
    assert client.post("/api/v1/builds", json=body, headers=SAME_ORIGIN).status_code == 403


def _cookie(client: FlaskClient) -> str:
    cookie = client.get_cookie("farm_session")
    assert cookie is not None
    return cookie.value
