"""What people see: tables, colours, progress and questions on a real pseudo-terminal."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from farm.reasons import Reason
from farm.states import BuildStatus, StepStatus
from tests.unit.cli.conftest import Process
from tests.unit.cli.fake_farm import DIGEST, SHA, Answer, FakeFarm, build, events, page, step

Start = Callable[..., Process]
RUNNING = build(BuildStatus.RUNNING)
STREAM = "GET /builds/7/events"
ESCAPE = "\x1b"


def lines(shown: str) -> list[str]:
    """What is shown, without colours."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()]


def test_a_list_is_an_aligned_table_with_relative_times(on_terminal: Start, farm: FakeFarm) -> None:
    farm.on("GET /builds", page(build(), build(BuildStatus.FAILED, Reason.STEP_FAILED, number=12)))

    code, shown = on_terminal("ps").end()
    head, first, second = lines(shown)

    assert code == 0
    assert head.split() == ["ID", "STATUS", "PROJECT", "OF", "COMMIT", "CREATED", "TOOK", "RESULT"]
    assert re.match(r"7   succeeded  shop/api  #7  4{8}  (in )?\d+[smhd] ?(ago)? ", first)
    assert head.index("RESULT") == first.index(DIGEST[:19]) == second.index("step_failed")
    assert SHA not in shown


def test_colours_are_for_terminals_that_want_them(on_terminal: Start, farm: FakeFarm) -> None:
    farm.on("GET /builds", page(build()))

    assert f"{ESCAPE}[32msucceeded{ESCAPE}[0m" in on_terminal("ps").end()[1]
    assert ESCAPE not in on_terminal("ps", NO_COLOR="1").end()[1]


def test_an_empty_list_says_so_to_people(on_terminal: Start, farm: FakeFarm) -> None:
    farm.on("GET /builds", page())

    assert on_terminal("ps").end() == (0, "There are none.\r\n")


def test_json_is_json_on_a_terminal_too(on_terminal: Start, farm: FakeFarm) -> None:
    farm.on("GET /builds", page())

    assert on_terminal("ps", "--json").end() == (0, "[]\r\n")


def test_show_leaves_out_what_is_empty(on_terminal: Start, farm: FakeFarm) -> None:
    farm.on("GET /builds/7", build())
    farm.on("GET /builds/7/steps", page(step(1)))

    shown = lines(on_terminal("show", "7").end()[1])

    assert "size        47.7 MiB" in shown
    assert "took        1:05" in shown
    assert not any(line.startswith("reason") for line in shown)


def test_a_log_may_not_command_the_terminal(on_terminal: Start, farm: FakeFarm) -> None:
    hostile = b"#1 \x1b]0;title\x07a\x1b[2Jb\x1b[31mc\x9b5md\xe2\x80\xaee\r\n#1 x\x1b]8;;no end"
    farm.on("GET /builds/7/log", Answer(hostile))

    code, shown = on_terminal("logs", "7").end()

    assert code == 0
    assert ESCAPE not in shown
    assert shown.splitlines()[0].startswith("#1 abc")
    assert "\u202e" not in shown
    assert ESCAPE in on_terminal("logs", "7", "--raw").end()[1]


def test_progress_counts_steps_and_goes_away(on_terminal: Start, farm: FakeFarm) -> None:
    release = threading.Event()
    started = events(
        ("status", RUNNING),
        ("step", step(1)),
        ("step", step(2, StepStatus.RUNNING)),
        ("log", {"text": "#2 make\n"}),
    )
    farm.on(STREAM, Answer(started, hold=release), events(("done", build()), start=5))
    process = on_terminal("logs", "-f", "7")

    process.read_until("] running, steps 1/2, 1 cached")
    release.set()
    code, rest = process.end()

    assert code == 0
    assert rest.rpartition(f"\r{ESCAPE}[2K")[2].startswith("Build 7 succeeded in 1:05.")


def test_an_interrupt_asks_and_cancels(on_terminal: Start, farm: FakeFarm) -> None:
    release = threading.Event()
    started = events(("log", {"text": "#1 one\n"}), ("status", RUNNING))
    farm.on(STREAM, Answer(started, hold=release))
    farm.on(STREAM, events(("done", build(BuildStatus.CANCELLED, Reason.REQUESTED)), start=3))
    farm.on("POST /builds/7/cancel", Answer(RUNNING, 202))
    process = on_terminal("logs", "-f", "7")
    process.read_until("Build 7 runs on")

    process.interrupt()
    process.read_until("Detach from it, or cancel it?")
    process.type("cancel\n")
    code, shown = process.end()
    release.set()

    assert code == 1
    assert "Build 7 cancelled" in shown
    assert farm.requests("POST /builds/7/cancel")
    assert farm.requests(STREAM)[1].headers["last-event-id"] in ("1.1.1", "1.1.2")


def test_an_interrupt_asks_and_detaches(on_terminal: Start, farm: FakeFarm) -> None:
    release = threading.Event()
    farm.on(STREAM, Answer(events(("log", {"text": "#1 one\n"})), hold=release))
    process = on_terminal("logs", "-f", "7")
    process.read_until("#1 one")

    process.interrupt()
    process.read_until("Detach from it, or cancel it?")
    process.interrupt()
    code, shown = process.end()
    release.set()

    assert code == 130
    assert "farm logs -f 7" in shown
    assert not farm.requests("POST /builds/7/cancel")


def test_a_secret_is_typed_unseen(on_terminal: Start, farm: FakeFarm) -> None:
    farm.on("POST /secrets", Answer({}, 201))
    process = on_terminal("secret", "set", "npm")

    process.read_until("Value of npm: ")
    process.type("hunter2\n")
    code, shown = process.end()

    assert code == 0
    assert "hunter2" not in shown
    assert farm.asked[0].body == {"name": "npm", "value": "hunter2", "project": None}


def test_removing_a_project_asks_first(on_terminal: Start, farm: FakeFarm) -> None:
    process = on_terminal("project", "rm", "shop/api")

    process.read_until("[y/N]: ")
    process.type("\n")

    assert process.end()[0] == 130
    assert farm.asked == []
