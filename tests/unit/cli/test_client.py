"""What the farm says no to, in one sentence with the right exit code."""

from __future__ import annotations

import pytest

from farm.cli.client import path_of
from tests.unit.cli.conftest import TOKEN, Run
from tests.unit.cli.fake_farm import Answer, FakeFarm, build, page, problem


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (401, 4), (403, 4), (404, 3), (409, 2), (422, 2), (429, 5), (500, 5), (503, 5)],
)
def test_a_refusal_is_a_sentence_and_an_exit_code(
    run: Run, farm: FakeFarm, status: int, code: int
) -> None:
    farm.on("GET /builds", problem(status, "some_code", "A sentence."))

    done = run("ps")

    assert done.exit_code == code
    assert done.stderr == "Error: A sentence. (some_code)\n"
    assert done.stdout == ""


def test_every_wrong_field_gets_its_sentence(run: Run, farm: FakeFarm) -> None:
    errors = [
        {"pointer": "/platforms", "code": "several_platforms", "message": "one per build for now"},
        {"pointer": "/tags/0", "code": "invalid", "message": "must be an image reference"},
        {"pointer": "", "code": "invalid", "message": "name either repository or project"},
    ]
    farm.on("POST /builds", problem(422, "invalid", "The body is wrong.", errors=errors))

    done = run("build", "--project", "a/b", "--detach")

    assert done.exit_code == 2
    assert done.stderr == (
        "Error: platforms: one per build for now (several_platforms)\n"
        "tags.0: must be an image reference (invalid)\n"
        "name either repository or project (invalid)\n"
    )


def test_a_fault_of_the_server_names_the_request(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", problem(500, "internal", "It broke.", request_id="r-1"))

    assert "request r-1" in run("ps").stderr


@pytest.mark.parametrize("body", [b"<h1>Bad gateway</h1>", b"[]", b'{"title": 3'])
def test_an_answer_of_something_else_is_named_as_such(
    run: Run, farm: FakeFarm, body: bytes
) -> None:
    farm.on("GET /builds", Answer(body, 502), Answer(body, 200))

    first, second = run("ps"), run("ps")

    assert (first.exit_code, second.exit_code) == (5, 5)
    assert "502 Bad Gateway" in first.stderr
    assert "does not answer as a farm does" in second.stderr


def test_a_server_that_is_not_there_is_exit_code_5(run: Run) -> None:
    done = run("ps", FARM_SERVER="http://127.0.0.1:1")

    assert done.exit_code == 5
    assert "cannot reach http://127.0.0.1:1" in done.stderr


def test_a_redirect_is_not_followed_with_the_token(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", Answer(b"", 301, {"Location": f"{farm.url}/api/v1/elsewhere"}))
    farm.on("GET /elsewhere", page())

    done = run("ps")

    assert done.exit_code == 5
    assert "redirects elsewhere" in done.stderr
    assert not farm.requests("GET /elsewhere")


def test_the_token_travels_in_a_header_and_nowhere_else(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", page())

    run("ps")

    assert farm.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(farm.asked[0].query)


def test_a_lost_answer_is_asked_for_again_with_the_same_key(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds", Answer(drop=True), Answer(build(), 202))

    done = run("build", "--project", "a/b", "--detach")

    assert done.exit_code == 0, done.stderr
    first, second = farm.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


def test_an_answer_that_is_lost_twice_is_unreachable(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds", Answer(drop=True))

    assert run("build", "--project", "a/b", "--detach").exit_code == 5
    assert len(farm.asked) == 2


def test_what_has_no_key_is_not_asked_for_again(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds/7/retry", Answer(drop=True))

    assert run("retry", "7", "--detach").exit_code == 5
    assert len(farm.asked) == 1
    assert "idempotency-key" not in farm.asked[0].headers


def test_a_build_is_asked_for_as_the_command_line(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds", Answer(build(), 202))

    run("build", "--project", "a/b", "--detach")

    assert farm.asked[0].headers["farm-client"] == "cli"


def test_names_are_quoted_but_for_the_slash_of_a_project() -> None:
    assert path_of("projects", "own er/na?me") == "/projects/own%20er/na%3Fme"
    assert path_of("registries", "reg.example.org:5000") == "/registries/reg.example.org:5000"
