"""What a registry and its token server say, and to whom a login is shown."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from farm.errors import AttemptError
from farm.protocol import RegistryCredential
from farm.reasons import Reason
from farm.references import parse_image_reference
from tests.unit.workers.fake_registry import HOST, LOGIN
from workers.registry import Registries

IMAGE = parse_image_reference(f"{HOST}/team/app:main")
DIGEST = f"sha256:{'0' * 64}"
REALM = "https://8.8.8.8/token"


class WithTokens:
    """A registry that wants a token of the server that it names."""

    def __init__(self, token: httpx.Response, realm: str = REALM) -> None:
        self.token = token
        self.realm = realm
        self.asked: list[httpx.Request] = []
        """What the token server was asked."""

    def registries(self, *logins: RegistryCredential, insecure_ok: bool = False) -> Registries:
        client = httpx.Client(transport=httpx.MockTransport(self._answer))
        return Registries(client, logins, insecure_ok=insecure_ok)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.startswith("/v2/"):
            self.asked.append(request)
            return self.token
        if request.headers.get("Authorization") == "Bearer good":
            return httpx.Response(200, headers={"Docker-Content-Digest": DIGEST})
        challenge = f'Bearer realm="{self.realm}",service="s"'
        return httpx.Response(401, headers={"WWW-Authenticate": challenge})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.registry.TRIES_AFTER_S", (0.0, 0.0))


def error_of(call: Callable[[], object]) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        call()
    return caught.value


def test_a_token_opens_the_registry() -> None:
    server = WithTokens(httpx.Response(200, json={"token": "good"}))
    assert server.registries(LOGIN).tag_digest(IMAGE) == DIGEST
    assert server.asked[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("token", "reason", "seen"),
    [
        (httpx.Response(429), Reason.REGISTRY_RATE_LIMITED, "8.8.8.8 answered 429"),
        (httpx.Response(503, text="busy"), Reason.REGISTRY_UNAVAILABLE, "8.8.8.8 answered 503"),
        (httpx.Response(401), Reason.REGISTRY_UNAUTHORIZED, "401"),
        (httpx.Response(200, html="<p>hello"), Reason.REGISTRY_UNAVAILABLE, "text/html"),
        (httpx.Response(200, json=["x"]), Reason.REGISTRY_UNAVAILABLE, "no token"),
        (httpx.Response(200, json={"token": 7}), Reason.REGISTRY_UNAVAILABLE, "no token"),
        (httpx.Response(200, json={"token": "a\nb"}), Reason.REGISTRY_UNAVAILABLE, "no token"),
        (httpx.Response(200, json={"token": "ü"}), Reason.REGISTRY_UNAVAILABLE, "no token"),
        (httpx.Response(200, json={}), Reason.REGISTRY_UNAVAILABLE, "no token"),
    ],
)
def test_what_a_token_server_says_has_its_reason(
    token: httpx.Response, reason: Reason, seen: str
) -> None:
    error = error_of(lambda: WithTokens(token).registries(LOGIN).tag_digest(IMAGE))
    assert error.reason is reason
    assert seen in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize("insecure_ok", [False, True])
def test_a_login_is_never_sent_over_http_to_another_machine(*, insecure_ok: bool) -> None:
    server = WithTokens(httpx.Response(200, json={"token": "good"}), "http://8.8.8.8/token")
    registries = server.registries(LOGIN, insecure_ok=insecure_ok)
    assert error_of(lambda: registries.tag_digest(IMAGE)).reason is Reason.REGISTRY_UNAUTHORIZED
    assert server.asked == []


@pytest.mark.parametrize("realm", ["http://[/", "nonsense", "ftp://8.8.8.8/", "https://"])
def test_a_token_server_without_an_address_is_refused(realm: str) -> None:
    server = WithTokens(httpx.Response(200, json={"token": "good"}), realm)
    error = error_of(lambda: server.registries().tag_digest(IMAGE))
    assert error.reason is Reason.REGISTRY_UNAUTHORIZED


def test_an_unknown_registry_may_not_name_a_token_server_inside() -> None:
    server = WithTokens(httpx.Response(200, json={"token": "good"}), "https://10.0.0.1/token")
    error = error_of(lambda: server.registries().tag_digest(IMAGE))
    assert error.reason is Reason.REGISTRY_UNAUTHORIZED
    assert server.asked == []
    assert server.registries(LOGIN).tag_digest(IMAGE) == DIGEST
    assert server.registries(insecure_ok=True).tag_digest(IMAGE) == DIGEST


@pytest.mark.parametrize("host", ["10.0.0.1:5000", "169.254.169.254", "localhost:5000"])
def test_a_registry_inside_needs_a_login_that_an_admin_stored(host: str) -> None:
    server = WithTokens(httpx.Response(401))
    error = error_of(lambda: server.registries().check_push(f"{host}/team/app:main"))
    assert error.reason is Reason.CONFIGURATION_INVALID
    assert host in error.message
    login = LOGIN.model_copy(update={"host": host})
    known = error_of(lambda: server.registries(login).check_push(f"{host}/team/app:main"))
    assert known.reason is Reason.REGISTRY_UNAUTHORIZED


def test_a_trial_farm_may_push_to_its_own_machine_and_to_no_other_inside() -> None:
    registries = WithTokens(httpx.Response(401)).registries(insecure_ok=True)
    own = error_of(lambda: registries.check_push("localhost:5000/team/app:main"))
    assert own.reason is Reason.REGISTRY_UNAUTHORIZED
    other = error_of(lambda: registries.check_push("10.0.0.1/team/app:main"))
    assert other.reason is Reason.CONFIGURATION_INVALID


@pytest.mark.parametrize("location", ["http://[", "https://elsewhere.example/x", ""])
def test_a_strange_place_for_an_upload_is_left_alone(location: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "8.8.8.8"
        return httpx.Response(202, headers={"Location": location})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    Registries(client, [], insecure_ok=False).check_push("8.8.8.8/team/app:main")


@pytest.mark.parametrize("body", [{"errors": 3}, {"errors": {"x": 1}}, {"errors": [7]}, [], "x"])
def test_a_strange_error_of_a_registry_is_still_a_reason(body: object) -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(500, json=body)))
    registries = Registries(client, [], insecure_ok=False)
    assert error_of(lambda: registries.tag_digest(IMAGE)).reason is Reason.REGISTRY_UNAVAILABLE
