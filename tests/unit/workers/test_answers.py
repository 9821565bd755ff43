"""Only the control plane's own word refuses or stops anything."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from farm.errors import FarmError, StaleAttempt
from farm.protocol import Finish
from farm.states import Outcome, Phase
from tests.unit.workers.fake_farm import control_of, page, problem
from workers.answers import ControlRefused, ControlSilent, NotEnrolled

FINISH = Finish(outcome=Outcome.SUCCEEDED)


@pytest.mark.parametrize(
    "answer",
    [
        *(page(status) for status in (200, 401, 403, 404, 409, 413, 502)),
        httpx.Response(302, headers={"Location": "https://login.example"}),
        httpx.Response(404, json={"code": "not_found"}),
        httpx.Response(403, headers={"Content-Type": "application/problem+json"}, text="no"),
        problem(404, ""),
        problem(429, "too_many_requests"),
        problem(503, "unavailable"),
    ],
)
def test_what_is_not_the_farms_own_refusal_is_silence(
    answer: httpx.Response, tmp_path: Path
) -> None:
    with control_of(tmp_path, lambda _: answer) as control, pytest.raises(ControlSilent):
        control.attempt(1, 1, "claim").finish(FINISH)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(422, "invalid"), ControlRefused),
        (problem(409, "cancel_requested"), ControlRefused),
        (problem(401, "unauthenticated"), NotEnrolled),
        (problem(409, "stale_attempt"), StaleAttempt),
    ],
)
def test_the_farms_own_refusal_is_one(
    answer: httpx.Response, error: type[FarmError], tmp_path: Path
) -> None:
    with control_of(tmp_path, lambda _: answer) as control, pytest.raises(error):
        control.attempt(1, 1, "claim").heartbeat(Phase.BUILDING)


def test_a_stale_attempt_learns_where_its_tags_belong(tmp_path: Path) -> None:
    answer = problem(409, "stale_attempt", tags=[{"reference": "a/b:c", "digest": None}, "?"])
    with control_of(tmp_path, lambda _: answer) as control, pytest.raises(StaleAttempt) as caught:
        control.attempt(1, 1, "claim").finish(FINISH)
    assert caught.value.tags == (("a/b:c", None),)
