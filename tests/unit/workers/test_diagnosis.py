"""Each recorded failure has its reason, and what a build prints cannot choose one."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from farm.reasons import Reason
from tests.unit.workers.recorded import play
from workers.buildx import DiskWatch
from workers.diagnosis import diagnose
from workers.engine import is_nearly_full
from workers.steps import Step

NOW = datetime(2026, 1, 1, tzinfo=UTC)

TABLE = {
    "step-exit": (Reason.STEP_FAILED, "RUN echo about to fail; exit 7: exit code 7"),
    "copy-missing": (Reason.STEP_FAILED, "COPY nothere /x"),
    "base-not-found": (Reason.BASE_IMAGE_UNAVAILABLE, "nothere:1"),
    "base-refused": (Reason.REGISTRY_UNAVAILABLE, "connection refused"),
    "unknown-instruction": (Reason.DOCKERFILE_INVALID, "FORM"),
    "target-missing": (Reason.DOCKERFILE_INVALID, "nostage"),
    "dockerfile-missing": (Reason.DOCKERFILE_INVALID, "nothere"),
    "dockerfile-empty": (Reason.DOCKERFILE_INVALID, "empty"),
    "network-host": (Reason.DOCKERFILE_INVALID, "network.host is not allowed"),
    "bad-mount": (Reason.DOCKERFILE_INVALID, "foo"),
    "parse-error": (Reason.DOCKERFILE_INVALID, "WORKDIR"),
    "secret-missing": (Reason.SECRET_MISSING, "secret tok"),
    "push-refused": (Reason.REGISTRY_UNAVAILABLE, "localhost:5978"),
    "push-unauthorized": (Reason.REGISTRY_UNAUTHORIZED, "unauthorized: said so"),
    "push-denied": (Reason.REGISTRY_UNAUTHORIZED, "denied: said so"),
    "push-rate-limited": (Reason.REGISTRY_RATE_LIMITED, "toomanyrequests"),
    "push-unavailable": (Reason.REGISTRY_UNAVAILABLE, "503"),
    "no-engine": (Reason.ENGINE_UNAVAILABLE, "Cannot connect"),
    "engine-killed": (Reason.ENGINE_UNAVAILABLE, "EOF"),
    "cancelled": (Reason.ENGINE_UNAVAILABLE, "cancelled"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_recorded_failure_has_its_reason(name: str) -> None:
    progress, _, _, text = play(name)
    error = diagnose(1, progress.steps, text)
    reason, seen = TABLE[name]
    assert error.reason is reason, error.message
    assert seen in error.message
    assert "\n" not in error.message


def failed(error: str, *, name: str = "[2/2] RUN x", tail: tuple[str, ...] = ()) -> Step:
    return Step(1, name, NOW, completed=NOW, error=error, tail=list(tail))


PROCESS = 'process "/bin/sh -c {command}" did not complete successfully: {end}'


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (failed(PROCESS.format(command="x", end="exit code: 137")), Reason.OUT_OF_MEMORY),
        (
            failed(PROCESS.format(command="x", end="exit code: 1: cannot allocate memory")),
            Reason.OUT_OF_MEMORY,
        ),
        (
            failed(
                PROCESS.format(command="x", end="exit code: 1"), tail=("No space left on device",)
            ),
            Reason.STEP_FAILED,
        ),
        (
            failed(PROCESS.format(command="x", end="write /y: no space left on device")),
            Reason.NO_SPACE,
        ),
        (
            failed(PROCESS.format(command="echo no space left on device", end="exit code: 1")),
            Reason.STEP_FAILED,
        ),
        (
            failed(
                PROCESS.format(
                    command='echo \\"rpc error: code = Unavailable\\" 429 denied',
                    end="exit code: 2",
                )
            ),
            Reason.STEP_FAILED,
        ),
        (failed("write /x: no space left on device", name="exporting to image"), Reason.NO_SPACE),
        (failed("something new", name="unheard of"), Reason.UNKNOWN),
    ],
)
def test_a_failed_step_has_its_reason(step: Step, reason: Reason) -> None:
    assert diagnose(1, [step], ["ERROR: failed to solve: whatever"]).reason is reason


def test_a_step_that_ran_out_of_disk_is_believed_when_the_disk_was_full() -> None:
    error = PROCESS.format(command="x", end="exit code: 1")
    honest = failed(error, tail=("dd: No space left on device",))
    assert diagnose(1, [honest], [], disk_was_full=True).reason is Reason.NO_SPACE
    other = failed(error, tail=("make: failed",))
    assert diagnose(1, [other], [], disk_was_full=True).reason is Reason.STEP_FAILED


def disk(*, blocks_left: int, files_left: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 1000, 0, blocks_left, 1000, 0, files_left, 0, 255))


def test_a_disk_is_full_when_it_lacks_bytes_or_files() -> None:
    assert not is_nearly_full(disk(blocks_left=100, files_left=100))
    assert is_nearly_full(disk(blocks_left=10, files_left=100))
    assert is_nearly_full(disk(blocks_left=100, files_left=10))


def test_the_disk_is_looked_at_when_a_step_says_that_it_is_full_and_not_every_time() -> None:
    looks: list[int] = []

    def is_full() -> bool:
        looks.append(1)
        return False

    lines: list[str] = []
    watch = DiskWatch(is_full)
    heard = watch.listening(lines.append)
    heard("#1 0.1 hello")
    assert looks == []
    for _ in range(1000):
        heard("#1 0.1 write: No space left on device")
    assert len(looks) <= 2
    assert len(lines) == 1001
    assert not watch.was_full


def test_what_nobody_foresaw_is_unknown_with_what_was_seen() -> None:
    error = diagnose(1, [], ["ERROR: a sentence of tomorrow"])
    assert (error.reason, error.message) == (Reason.UNKNOWN, "a sentence of tomorrow")
    assert diagnose(3, [], []).message == "buildx ended with exit code 3"
    assert diagnose(-9, [], []).reason is Reason.WORKER_FAULT
