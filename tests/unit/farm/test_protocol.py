"""What a worker may send: bounded, storable on both databases, and nothing else."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from farm import protocol
from farm.protocol import CheckIn, Enrolment, Finish, Publish, Resolved, StepReport, Steps
from farm.states import Outcome, StepStatus

STEP = {
    "number": 1,
    "name": "RUN true",
    "status": "running",
    "cached": False,
    "started_at": None,
    "duration_s": None,
}
CHECK_IN = {
    "protocol": 1,
    "version": "0.1",
    "slots": 2,
    "platforms": ["linux/amd64"],
    "containerd_store": False,
    "engine": {"docker": "26"},
    "disk_free": 1,
    "disk_total": 2,
}
DIGEST = "sha256:" + "0" * 64
ENROLMENT = {"name": "w1", "protocol": 1, "instance": "0" * 32}


@pytest.mark.parametrize(
    ("model", "good", "bad"),
    [
        (StepReport, STEP, {"number": 0}),
        (StepReport, STEP, {"number": 10**6}),
        (StepReport, STEP, {"name": "x" * 4001}),
        (StepReport, STEP, {"status": "passed"}),
        (StepReport, STEP, {"duration_s": -1}),
        (StepReport, STEP, {"duration_s": float("inf")}),
        (StepReport, STEP, {"duration_s": float("nan")}),
        (StepReport, STEP, {"started_at": "0001-01-01T00:00:00+14:00"}),
        (StepReport, STEP, {"more": 1}),
        (CheckIn, CHECK_IN, {"slots": 0}),
        (CheckIn, CHECK_IN, {"slots": 10**9}),
        (CheckIn, CHECK_IN, {"platforms": []}),
        (CheckIn, CHECK_IN, {"disk_free": -1}),
        (CheckIn, CHECK_IN, {"disk_free": 2**63}),
        (CheckIn, CHECK_IN, {"engine": {"x": 1}}),
        (Publish, {"digest": DIGEST, "size": 1}, {"digest": "sha256:" + "0" * 63}),
        (Publish, {"digest": DIGEST, "size": 1}, {"digest": DIGEST.upper()}),
        (Publish, {"digest": DIGEST, "size": 1}, {"digest": DIGEST + "\n"}),
        (Publish, {"digest": DIGEST, "size": 1}, {"size": -1}),
        (Finish, {"outcome": "failed"}, {"outcome": "passed"}),
        (Finish, {"outcome": "failed"}, {"reason": "because"}),
        (Finish, {"outcome": "failed"}, {"message": "x" * 4001}),
        (Finish, {"outcome": "failed"}, {"phases": {"fetch": float("inf")}}),
        (Finish, {"outcome": "failed"}, {"log_size": -1}),
        (Resolved, {"sha": "a" * 40, "commit_date": "2026-01-01T00:00:00Z"}, {"sha": "HEAD"}),
        (
            Resolved,
            {"sha": "a" * 40, "commit_date": "2026-01-01T00:00:00Z"},
            {"commit_date": "9999-12-31T23:59:59-14:00"},
        ),
        (Enrolment, ENROLMENT, {"name": "W 1"}),
        (Enrolment, ENROLMENT, {"name": "-w"}),
        (Enrolment, ENROLMENT, {"name": "w" * 64}),
        (Enrolment, ENROLMENT, {"instance": "x" * 32}),
    ],
)
def test_what_is_out_of_bounds_is_refused(
    model: type[BaseModel], good: dict[str, Any], bad: dict[str, Any]
) -> None:
    assert isinstance(model.model_validate(good), model)
    with pytest.raises(ValidationError):
        model.model_validate(good | bad)


def test_a_nul_in_a_text_is_dropped_because_postgres_stores_none() -> None:
    assert StepReport.model_validate(STEP | {"name": "a\x00b"}).name == "ab"
    assert Finish(outcome=Outcome.FAILED, message="a\x00b").message == "ab"
    checked_in = CheckIn.model_validate(
        CHECK_IN | {"engine": {"a\x00": "b\x00"}, "platforms": ["linux/amd64\x00"]}
    )
    assert checked_in.engine == {"a": "b"}
    assert checked_in.platforms == ["linux/amd64"]


def test_a_moment_is_taken_to_utc() -> None:
    report = StepReport(
        number=1,
        name="x",
        status=StepStatus.RUNNING,
        cached=False,
        started_at=datetime.fromisoformat("2026-01-01T02:00:00+02:00"),
        duration_s=None,
    )
    assert report.started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert report.started_at.tzinfo is UTC


def test_a_moment_without_a_zone_is_utc() -> None:
    found = Resolved.model_validate({"sha": "a" * 40, "commit_date": "2026-01-01T00:00:00"})
    assert found.commit_date == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_report_holds_at_most_a_thousand_steps() -> None:
    with pytest.raises(ValidationError):
        Steps.model_validate({"steps": [STEP] * 1001})


def test_a_queue_and_a_channel_belong_to_one_worker() -> None:
    assert protocol.queue_of("w1") == "worker.w1"
    assert protocol.cancel_channel_of("w1") == "farm.cancel.w1"
