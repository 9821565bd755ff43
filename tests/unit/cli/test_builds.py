"""Submitting builds and looking at them, without a terminal."""

from __future__ import annotations

import json

import pytest

from farm.reasons import Reason, WaitReason
from farm.states import BuildStatus
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_farm import (
    DIGEST,
    SHA,
    Answer,
    FakeFarm,
    build,
    events,
    page,
    problem,
    step,
)

RUNNING = build(BuildStatus.RUNNING)


def finished(status: BuildStatus, reason: Reason | None = None) -> bytes:
    """The whole stream of a build that ended so."""
    ended = build(status, reason)
    return events(("log", {"text": "#1 hello\n"}), ("status", ended), ("done", ended))


def test_ps_json_is_an_array_of_builds_as_the_api_has_them(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", page(build(number=8), build(number=7)))

    done = run("ps", "--json")

    assert done.exit_code == 0
    assert json.loads(done.stdout) == [build(number=8), build(number=7)]
    assert json.loads(done.stdout)[0]["image"]["digest"] == DIGEST


def test_ps_of_an_empty_farm_is_an_empty_array(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", page())

    assert json.loads(run("ps", "--json").stdout) == []
    assert run("ps").stdout == ""


def test_ps_without_a_terminal_is_tab_separated_and_exact(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", page(build()))

    done = run("ps")

    assert done.stdout == (
        f"7\tsucceeded\tshop/api\t#7\t{SHA}\t2026-11-24T07:00:00.000Z\t65.5\t{DIGEST}\n"
    )


def test_ps_quiet_prints_ids_only(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", page(build(number=8), build(number=7)))

    assert run("ps", "-q").stdout == "8\n7\n"


def test_ps_hands_its_filters_on(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", page())

    run("ps", "--project", "shop/api", "--pr", "7", "--q", "abc", "-s", "failed", "-s", "errored")

    assert farm.asked[0].query == {
        "project": ["shop/api"],
        "pull_request": ["7"],
        "q": ["abc"],
        "status": ["failed", "errored"],
        "limit": ["20"],
    }


def test_ps_follows_the_cursor_up_to_its_limit(run: Run, farm: FakeFarm) -> None:
    first = [build(number=n) for n in range(300, 200, -1)]
    farm.on("GET /builds", page(*first, cursor="201"), page(build(number=200), build(number=199)))

    done = run("ps", "--limit", "101", "-q")

    assert len(done.stdout.splitlines()) == 101
    assert farm.asked[1].query == {"limit": ["1"], "cursor": ["201"]}


def test_ps_all_reads_the_whole_history(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", page(build(number=9), cursor="9"), page(build(number=8)))

    assert run("ps", "--all", "-q").stdout == "9\n8\n"
    assert run("ps", "--all", "--limit", "3").exit_code == 2


def test_ps_shows_a_running_build_however_old_it_is(run: Run, farm: FakeFarm) -> None:
    recent = [build(number=n) for n in range(120, 100, -1)]
    farm.on("GET /builds", page(*recent, cursor="101"), page(recent[3], build(number=5)))

    listed = run("ps", "-q").stdout.split()

    assert listed == [str(n) for n in range(120, 100, -1)] + ["5"]
    assert farm.asked[1].query["status"] == ["running", "queued", "waiting_approval"]


def test_show_prints_facts_attempts_and_steps(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds/7", build(BuildStatus.FAILED, Reason.STEP_FAILED))
    farm.on("GET /builds/7/steps", page(step(1), step(2)))

    shown = run("show", "7").stdout

    assert f"cause\t{Reason.STEP_FAILED.cause}\n" in shown
    assert f"cure\t{Reason.STEP_FAILED.cure}\n" in shown
    assert "\nlinux/amd64\t1\tbuilder-1\tfailed\tstep_failed\t2026-11-24T07:00:00.000Z\n" in shown
    assert "\n#1\tsucceeded\tcached\t1.5\t[1/8] RUN make\n" in shown


def test_show_json_is_the_build(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds/7", build())

    assert json.loads(run("show", "7", "--json").stdout) == build()


def test_show_says_why_a_build_waits(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds/7", build(BuildStatus.QUEUED, waiting=WaitReason.SLOTS_BUSY))
    farm.on("GET /builds/7/steps", page())

    shown = run("show", "7").stdout

    assert f"waiting\t{WaitReason.SLOTS_BUSY.sentence} It is number 2 in the line.\n" in shown


def test_an_unknown_build_is_exit_code_3(run: Run) -> None:
    done = run("show", "99")

    assert done.exit_code == 3
    assert done.stderr == "Error: There is no such thing. (not_found)\n"
    assert done.stdout == ""


def test_build_sends_what_was_asked_for_and_nothing_else(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds", Answer(RUNNING, 202))

    done = run(
        *["build", "--repo", "https://git.example.org/shop/api.git", "--pr", "7", "--sha", SHA],
        *["-t", "reg.example.org/api:a", "-t", "reg.example.org/api:b", "--arg", "A=1=2"],
        *["--arg", "EMPTY=", "--label", "org.example.x=y", "--platform", "linux/arm64"],
        *["--file", "deploy/Dockerfile", "--context", "deploy", "--target", "final"],
        *["--secret", "npm", "--no-cache", "--pull", "--push", "--cache-from", "r.example.org/c"],
        *["--cache-to", "r.example.org/c", "--runs-on", "gpu", "--timeout", "30m"],
        *["--priority", "high", "--detach"],
    )

    assert done.exit_code == 0, done.stderr
    assert done.stdout == "7\n"
    assert farm.asked[0].body == {
        "repository": "https://git.example.org/shop/api.git",
        "pull_request": 7,
        "sha": SHA,
        "tags": ["reg.example.org/api:a", "reg.example.org/api:b"],
        "build_args": {"A": "1=2", "EMPTY": ""},
        "labels": {"org.example.x": "y"},
        "platforms": ["linux/arm64"],
        "file": "deploy/Dockerfile",
        "context": "deploy",
        "target": "final",
        "secrets": ["npm"],
        "no_cache": True,
        "pull": True,
        "push": True,
        "cache_from": ["r.example.org/c"],
        "cache_to": ["r.example.org/c"],
        "runs_on": ["gpu"],
        "timeout_s": 1800,
        "priority": "high",
    }


def test_build_leaves_the_defaults_to_the_farm(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds", Answer(RUNNING, 202))

    run("build", "--project", "shop/api", "--ref", "v1", "--no-push", "--detach")

    assert farm.asked[0].body == {"project": "shop/api", "ref": "v1", "push": False}
    assert farm.asked[0].headers["idempotency-key"]


@pytest.mark.parametrize(
    "options",
    [
        ["--pr", "1"],
        ["--repo", "https://h/a/b", "--project", "a/b"],
        ["--project", "a/b", "--pr", "1", "--ref", "main"],
        ["--project", "a/b", "--push"],
        ["--project", "a/b", "--arg", "NOVALUE"],
        ["--project", "a/b", "--timeout", "soon"],
        ["--project", "a/b", "--pr", "0"],
    ],
)
def test_build_refuses_what_makes_no_sense_before_it_asks(
    run: Run, farm: FakeFarm, options: list[str]
) -> None:
    assert run("build", *options).exit_code == 2
    assert farm.asked == []


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (BuildStatus.SUCCEEDED, None, 0),
        (BuildStatus.SKIPPED, None, 0),
        (BuildStatus.FAILED, Reason.STEP_FAILED, 1),
        (BuildStatus.ERRORED, Reason.WORKER_LOST, 1),
        (BuildStatus.CANCELLED, Reason.REQUESTED, 1),
        (BuildStatus.FAILED, Reason.TIMED_OUT, 124),
    ],
)
def test_the_exit_code_of_a_followed_build_is_its_result(
    run: Run, farm: FakeFarm, status: BuildStatus, reason: Reason | None, code: int
) -> None:
    farm.on("POST /builds", Answer(RUNNING, 202))
    farm.on("GET /builds/7/events", finished(status, reason))

    done = run("build", "--project", "shop/api")

    assert done.exit_code == code
    assert done.stdout == "#1 hello\n"
    assert f"Build 7 {status} in 1:05." in done.stderr


def test_a_failure_is_explained_on_stderr(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds/7/events", finished(BuildStatus.FAILED, Reason.STEP_FAILED))

    done = run("logs", "-f", "7")

    assert done.exit_code == 1
    for line in (Reason.STEP_FAILED.cause, "exit code 2", Reason.STEP_FAILED.cure):
        assert f"  {line}\n" in done.stderr
    assert "https://farm.example.org/builds/7" in done.stderr


def test_a_success_names_what_to_pull(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds/7/events", finished(BuildStatus.SUCCEEDED))

    assert f"reg.example.org/api:pr-7@{DIGEST}" in run("logs", "-f", "7").stderr


def test_a_followed_build_with_json_keeps_the_log_off_stdout(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds", Answer(RUNNING, 202))
    farm.on("GET /builds/7/events", finished(BuildStatus.SUCCEEDED))

    done = run("build", "--project", "shop/api", "--json")

    assert json.loads(done.stdout) == build()
    assert "#1 hello\n" in done.stderr


def test_a_followed_build_that_is_quiet_prints_its_id_alone(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds", Answer(RUNNING, 202))
    farm.on("GET /builds/7/events", finished(BuildStatus.SUCCEEDED))

    assert run("build", "--project", "shop/api", "-q").stdout == "7\n"


def test_a_detached_build_with_json_prints_the_answer_alone(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds", Answer(RUNNING, 202))

    done = run("build", "--project", "shop/api", "--detach", "--json")

    assert json.loads(done.stdout) == RUNNING
    assert done.stderr == ""


def test_retry_follows_the_new_build(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /builds/3/retry", Answer(RUNNING, 202))
    farm.on("GET /builds/7/events", finished(BuildStatus.SUCCEEDED))

    done = run("retry", "3")

    assert done.exit_code == 0
    assert done.stdout == "#1 hello\n"
    assert run("retry", "3", "--detach").stdout == "7\n"


def test_cancel_takes_several_and_goes_on_after_a_refusal(run: Run, farm: FakeFarm) -> None:
    over = problem(409, "build_finished", "The build is over.")
    farm.on("POST /builds/6/cancel", over)
    farm.on("POST /builds/7/cancel", Answer(build(BuildStatus.CANCELLED, Reason.REQUESTED), 202))
    farm.on("POST /builds/8/cancel", Answer(build(BuildStatus.RUNNING, number=8), 202))

    done = run("cancel", "6", "7", "8")

    assert done.exit_code == 2
    assert done.stderr == (
        "Build 6: The build is over. (build_finished)\n"
        "Build 7: cancelled.\n"
        "Build 8: will be cancelled in a moment.\n"
    )
    assert run("cancel", "-q", "7", "8").stdout == "7\n8\n"
    assert len(json.loads(run("cancel", "--json", "7", "8").stdout)) == 2


def test_logs_prints_the_log_as_it_is(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds/7/log", Answer("#1 \x1b[31mrøt\x1b[0m\r\n".encode()))

    done = run("logs", "7", "--attempt", "1", "--platform", "linux/amd64")

    assert done.stdout_bytes == "#1 \x1b[31mrøt\x1b[0m\r\n".encode()
    assert farm.asked[0].query == {"attempt": ["1"], "platform": ["linux/amd64"]}


def test_logs_follow_shows_the_latest_attempt_only(run: Run) -> None:
    assert run("logs", "7", "-f", "--attempt", "1").exit_code == 2


def test_open_prints_the_address(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds/7", build())

    assert run("open", "7", DISPLAY=":0").stdout == "https://farm.example.org/builds/7\n"
