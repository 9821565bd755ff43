"""Logs on pages: which lines, what of a line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from farm.logs import LogStore
from web import pages_log
from web.pages_log import WINDOW, LogLine, Window, clean, lines, read, window

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;ZXZpbA==\x07done", "done"),
        ("\x1bcreset \x1b[2J\x1b[1A\x1b]0;title\x07end", "reset end"),
        ("\x9b31mc1\x9d0;t\x9cend", "c1end"),
        ("\x1bPq#0;dcs\x1b\\end", "end"),
        ("10%\r50%\r100%\r", "100%"),
        ("a\x00b\x08c", "a⟨U+0000⟩b⟨U+0008⟩c"),
        ("\u202egpj.exe", "⟨U+202E⟩gpj.exe"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("tab\tstays", "tab\tstays"),
        ("\x1b[", ""),
        ("\x1b", ""),
    ],
)
def test_a_line_is_what_a_terminal_would_show_and_nothing_acts(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_a_very_long_line_is_cut_and_says_so() -> None:
    shown = clean("e" + "\u0301" * 1_000_000)
    assert len(shown) < pages_log.LONGEST_LINE + 60
    assert shown.endswith("more characters in the raw log")


def test_lines_know_their_step_their_time_and_their_kind() -> None:
    found = list(
        lines(["#5 [2/4] RUN make", "#5 0.123 ERROR: said by make", "#5 CACHED", "#5 DONE 1.2s"], 7)
    )
    assert found == [
        LogLine(7, "5", "", "title", "[2/4] RUN make"),
        LogLine(8, "5", "0.123", "", "ERROR: said by make"),
        LogLine(9, "5", "", "cached", "CACHED"),
        LogLine(10, "5", "", "done", "DONE 1.2s"),
    ]
    assert next(lines(["#5 ERROR: exit code: 1"], 1)).kind == "error"
    assert next(lines(["no step"], 1)) == LogLine(1, "", "", "", "no step")


def test_a_window_is_the_end_or_around_a_line() -> None:
    assert window(30, None) == Window(1, 30, 30)
    assert window(10_000, None) == Window(10_001 - WINDOW, 10_000, 10_000)
    assert window(10_000, 5_000) == Window(4_960, 4_960 + WINDOW - 1, 10_000)
    assert window(10_000, 99_999).last == 10_000
    assert window(10_000, -5).first == 1
    assert window(0, None).total == 0
    assert not window(0, None).earlier


def test_windows_lead_through_the_whole_log() -> None:
    seen, here = set(range(9_501, 10_001)), window(10_000, None)
    while here.earlier:
        here = window(10_000, here.earlier)
        seen |= set(range(here.first, here.last + 1))
    assert seen == set(range(1, 10_001))


def test_an_unfinished_line_is_left_to_what_follows(tmp_path: Path) -> None:
    logs = LogStore(tmp_path)
    logs.append(1, 1, 0, b"#1 one\n#1 two\n#1 thr", now=NOW)
    shown = read(logs, 1, 1, None)
    assert [line.text for line in shown.lines] == ["one", "two"]
    assert shown.offset == len(b"#1 one\n#1 two\n")
    logs.append(1, 1, 20, b"ee\n", now=NOW)
    assert [line.text for line in read(logs, 1, 1, None).lines] == ["one", "two", "three"]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(LogStore(tmp_path), 1, 1, None).lines == []
