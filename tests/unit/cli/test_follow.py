"""Following a build over a stream that breaks, over none, and until somebody has enough."""

from __future__ import annotations

import threading
from collections.abc import Callable

from farm import states
from farm.cli.stream import TERMINAL, parse
from farm.reasons import Reason, WaitReason
from farm.states import BuildStatus
from tests.unit.cli.conftest import Process, Run
from tests.unit.cli.fake_farm import Answer, FakeFarm, build, events, problem

RUNNING = build(BuildStatus.RUNNING)
ENDED = build(BuildStatus.SUCCEEDED)
STREAM = "GET /builds/7/events"


def log(text: str) -> tuple[str, object]:
    return "log", {"text": text}


def test_the_ends_of_a_build_are_those_of_the_core() -> None:
    assert {status.value for status in states.TERMINAL} == TERMINAL


def test_a_stream_that_breaks_is_resumed_where_it_broke(run: Run, farm: FakeFarm) -> None:
    farm.on(STREAM, events(log("#1 one\n"), log("#1 two\n")))
    farm.on(STREAM, Answer(drop=True))
    farm.on(STREAM, events(log("#1 three\n"), ("done", ENDED), start=3))

    done = run("logs", "-f", "7")

    assert done.exit_code == 0, done.stderr
    assert done.stdout == "#1 one\n#1 two\n#1 three\n"
    ids = [asked.headers.get("last-event-id") for asked in farm.requests(STREAM)]
    assert ids == [None, "1.1.2", "1.1.2"]


def test_an_event_that_was_cut_off_is_asked_for_again(run: Run, farm: FakeFarm) -> None:
    whole = events(log("#1 one\n"), log("#1 two\n"))
    farm.on(STREAM, whole[:-2], events(log("#1 two\n"), ("done", ENDED), start=2))

    assert run("logs", "-f", "7").stdout == "#1 one\n#1 two\n"
    assert farm.requests(STREAM)[1].headers["last-event-id"] == "1.1.1"


def test_a_server_that_restarts_is_waited_for(run: Run, farm: FakeFarm) -> None:
    farm.on(STREAM, events(log("#1 one\n")), Answer(b"<h1>Bad gateway</h1>", 502))
    farm.on(STREAM, events(("done", ENDED), start=2))

    assert run("logs", "-f", "7").exit_code == 0


def test_without_a_stream_build_and_log_are_polled(run: Run, farm: FakeFarm) -> None:
    farm.on(STREAM, problem(503, "too_many_streams", "Too many readers."))
    farm.on("GET /builds/7", RUNNING, ENDED)
    farm.on("GET /builds/7/log", Answer(b"#1 one\n#1 tw"), Answer(b"#1 two\n#2 end"))

    done = run("logs", "-f", "7")

    assert done.exit_code == 0, done.stderr
    assert done.stdout == "#1 one\n#1 two\n#2 end"
    assert [a.query["from"] for a in farm.requests("GET /builds/7/log")] == [["1"], ["2"]]
    assert len(farm.requests(STREAM)) == 1


def test_polling_a_build_that_never_had_a_log(run: Run, farm: FakeFarm) -> None:
    farm.on(STREAM, problem(503, "unavailable", "No streams."))
    farm.on("GET /builds/7", build(BuildStatus.SKIPPED))

    done = run("logs", "-f", "7")

    assert (done.exit_code, done.stdout) == (0, "")


def test_a_build_that_is_not_there_ends_the_following(run: Run) -> None:
    assert run("logs", "-f", "7").exit_code == 3


def test_why_a_build_waits_is_said_once(run: Run, farm: FakeFarm) -> None:
    waiting = build(BuildStatus.QUEUED, waiting=WaitReason.SLOTS_BUSY)
    closer = waiting | {"waiting": waiting["waiting"] | {"position": 1}}
    farm.on(
        STREAM,
        events(("status", waiting), ("status", closer), ("status", RUNNING), ("done", ENDED)),
    )

    said = run("logs", "-f", "7").stderr

    assert said.count(WaitReason.SLOTS_BUSY.sentence) == 1
    assert "Build 7 runs on builder-1 (attempt 1).\n" in said


def test_a_build_that_waits_for_approval_says_so(run: Run, farm: FakeFarm) -> None:
    waiting = build(BuildStatus.WAITING_APPROVAL)
    farm.on(STREAM, events(("status", waiting), ("done", build(BuildStatus.CANCELLED))))

    assert "waits until somebody approves it" in run("logs", "-f", "7").stderr


def test_a_reason_of_a_newer_farm_is_shown_as_it_is(run: Run, farm: FakeFarm) -> None:
    ended = build(BuildStatus.FAILED, Reason.UNKNOWN) | {"reason": "moon_in_the_way"}
    farm.on(STREAM, events(("done", ended)))

    done = run("logs", "-f", "7")

    assert done.exit_code == 1
    assert "  moon_in_the_way\n" in done.stderr


def test_an_interrupt_without_a_terminal_detaches(
    without_terminal: Callable[..., Process], farm: FakeFarm
) -> None:
    release = threading.Event()
    farm.on("POST /builds", Answer(RUNNING, 202))
    farm.on(STREAM, Answer(events(log("#1 one\n")), hold=release))
    process = without_terminal("build", "--project", "shop/api")
    assert process.popen.stdout
    assert process.popen.stdout.readline() == b"#1 one\n"

    process.interrupt()
    _, stderr = process.popen.communicate(timeout=30)
    release.set()

    assert process.popen.returncode == 130
    assert b"Detached; build 7 goes on: farm logs -f 7\n" in stderr
    assert not farm.requests("POST /builds/7/cancel")


def test_a_stream_is_read_as_the_standard_has_it() -> None:
    lines = [
        b"\xef\xbb\xbf: a comment\n",
        b"data: one\r\n",
        b"data:two\r\n",
        b"id: 5\n",
        b"event: log\n",
        b"\n",
        b"retry: soon\n",
        b"data\n",
        b"\n",
        b"id: 6\n",
        b"\n",
        b"data: cut off",
    ]

    found = list(parse(lines))

    assert [(m.name, m.data, m.id) for m in found] == [
        ("log", "one\ntwo", "5"),
        ("message", "", None),
        ("message", "", "6"),
    ]


def test_an_event_that_is_no_json_is_not_taken_for_the_end(run: Run, farm: FakeFarm) -> None:
    broken = b"retry: 1\n\nid: 1\nevent: done\ndata: {oops\n\n"
    farm.on(STREAM, broken, events(("done", ENDED)))

    assert run("logs", "-f", "7").exit_code == 0
    assert len(farm.requests(STREAM)) == 2
