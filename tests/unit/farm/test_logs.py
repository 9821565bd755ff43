"""Logs: bytes at offsets, and an index that finds lines, steps and times in them."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.logs import LogStore, Mark

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def logs(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path)


def marks_of(logs: LogStore, part_id: int = 1, attempt: int = 1) -> list[Mark]:
    with logs._marks(part_id, attempt) as marks:
        return [marks[n] for n in range(len(marks))]


def append(logs: LogStore, data: bytes, offset: int | None = None) -> int:
    at = logs.size(1, 1) if offset is None else offset
    return logs.append(1, 1, at, data, now=NOW)


def test_bytes_are_read_back_from_any_offset(logs: LogStore) -> None:
    assert append(logs, b"#1 one\n") == 7
    assert append(logs, b"#1 two\n") == 14
    assert logs.read(1, 1, 0, 100) == b"#1 one\n#1 two\n"
    assert logs.read(1, 1, 7, 4) == b"#1 t"
    assert logs.read(1, 1, 1000, 4) == b""


def test_a_repeated_chunk_changes_nothing(logs: LogStore) -> None:
    append(logs, b"#1 one\n#1 two\n")
    assert append(logs, b"#1 one\n", offset=0) == 14
    assert append(logs, b"#1 two\n", offset=7) == 14
    assert logs.read(1, 1, 0, 100) == b"#1 one\n#1 two\n"
    assert logs.line_count(1, 1) == 2


def test_a_chunk_that_overlaps_adds_only_what_is_new(logs: LogStore) -> None:
    append(logs, b"#1 one\n#1 t")
    assert append(logs, b"#1 two\n#1 three\n", offset=7) == 23
    assert logs.read(1, 1, 0, 100) == b"#1 one\n#1 two\n#1 three\n"


def test_after_a_gap_nothing_is_stored_and_the_answer_says_where_to_go_on(logs: LogStore) -> None:
    append(logs, b"#1 one\n")
    assert append(logs, b"#1 far\n", offset=8) == 7
    assert append(logs, b"#1 far\n", offset=-1) == 7
    assert logs.read(1, 1, 0, 100) == b"#1 one\n"


def test_attempts_do_not_share_a_log(logs: LogStore) -> None:
    logs.append(1, 1, 0, b"first\n", now=NOW)
    logs.append(1, 2, 0, b"second\n", now=NOW)
    logs.append(11, 1, 0, b"other part\n", now=NOW)
    assert list(logs.lines(1, 1)) == [b"first\n"]
    assert list(logs.lines(1, 2)) == [b"second\n"]
    assert list(logs.lines(11, 1)) == [b"other part\n"]


def test_a_log_that_never_was_is_empty(logs: LogStore) -> None:
    assert logs.size(9, 9) == 0
    assert logs.read(9, 9, 0, 10) == b""
    assert logs.line_count(9, 9) == 0
    assert list(logs.lines(9, 9)) == []


def test_a_removed_log_leaves_no_file(logs: LogStore, tmp_path: Path) -> None:
    append(logs, b"#1 one\n")
    logs.remove(1, 1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    logs.remove(1, 1)


def test_lines_are_numbered_from_one_and_both_ends_are_included(logs: LogStore) -> None:
    append(logs, b"".join(b"#1 line %d\n" % n for n in range(1, 11)))
    assert list(logs.lines(1, 1, 3, 5)) == [b"#1 line 3\n", b"#1 line 4\n", b"#1 line 5\n"]
    assert list(logs.lines(1, 1, 10)) == [b"#1 line 10\n"]
    assert list(logs.lines(1, 1, 11)) == []
    assert len(list(logs.lines(1, 1))) == 10


def test_an_unfinished_last_line_is_a_line(logs: LogStore) -> None:
    append(logs, b"#1 whole\n#1 half")
    assert logs.line_count(1, 1) == 2
    assert list(logs.lines(1, 1, 2, 2)) == [b"#1 half"]


TEXTS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=8),
    ),
    max_size=400,
)


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.lists(st.integers(1, 700), min_size=1, max_size=9), st.booleans())
def test_any_chunking_gives_the_same_lines(
    texts: list[tuple[int, str]],
    cuts: list[int],
    ended: bool,  # noqa: FBT001, drawn
) -> None:
    whole = "".join(f"#{step} {text}\n" for step, text in texts).encode()
    whole = whole if ended else whole[:-1]
    with TemporaryDirectory() as folder:
        logs = LogStore(Path(folder))
        place, turn = 0, 0
        while place < len(whole):
            size = cuts[turn % len(cuts)]
            place = append(logs, whole[place : place + size], place)
            turn += 1
        lines = list(logs.lines(1, 1))
        assert b"".join(lines) == whole
        assert len(lines) == whole.count(b"\n") + (not whole.endswith(b"\n") and bool(whole))
        assert logs.line_count(1, 1) == len(lines)
        for first in range(1, len(lines) + 1, 97):
            assert list(logs.lines(1, 1, first, first + 2)) == lines[first - 1 : first + 2]
        check_marks(whole, marks_of(logs))


def check_marks(whole: bytes, marks: list[Mark]) -> None:
    """Every mark is true: its offset begins that line, and its step is that line's."""
    starts = [0, *(n + 1 for n, byte in enumerate(whole) if byte == 0x0A)]
    latest = {mark.line: mark for mark in marks}
    for mark in marks:
        assert mark.offset == starts[mark.line]
    for line, mark in latest.items():
        text = whole[starts[line] :].partition(b"\n")
        if text[1]:
            assert mark.step == int(text[0][1:].split(b" ")[0])
    assert all(a.line <= b.line for a, b in pairwise(marks))


@pytest.mark.parametrize("chunk", [1, 7, 10, 4096])
def test_the_index_has_a_mark_where_each_step_begins(logs: LogStore, chunk: int) -> None:
    whole = b"".join(b"#%d x\n" % step for step in [1] * 5 + [2] * 5 + [1] * 5 + [30] * 5)
    for place in range(0, len(whole), chunk):
        append(logs, whole[place : place + chunk], place)
    marks = {mark.line: mark.step for mark in marks_of(logs)}
    assert [marks.get(line) for line in (0, 5, 10, 15)] == [1, 2, 1, 30]


def test_a_line_of_a_build_cannot_imitate_another_step(logs: LogStore) -> None:
    append(logs, b"#3 #4 [fake] DONE\n#3 real\n")
    assert {mark.step for mark in marks_of(logs)} == {3}


def test_a_mark_knows_when_its_bytes_came(logs: LogStore) -> None:
    logs.append(1, 1, 0, b"#1 a\n", now=NOW)
    logs.append(1, 1, 5, b"#2 b\n", now=NOW.replace(second=7))
    assert [mark.at_ms for mark in marks_of(logs) if mark.step == 2][-1] == (
        int(NOW.timestamp()) + 7
    ) * 1000


def test_lines_in_the_middle_of_a_million_read_few_bytes(logs: LogStore, tmp_path: Path) -> None:
    lines = [b"#%d line %07d\n" % (n // 100_000 + 1, n) for n in range(1, 1_000_001)]
    whole = b"".join(lines)
    for place in range(0, len(whole), 1 << 20):
        append(logs, whole[place : place + (1 << 20)], place)
    before = bytes_read()
    found = list(logs.lines(1, 1, 700_120, 700_140))
    assert bytes_read() - before < 100_000
    assert found == lines[700_119:700_140]
    before = bytes_read()
    assert logs.line_count(1, 1) == 1_000_000
    assert bytes_read() - before < 10_000


def bytes_read() -> int:
    """What this process has read so far, cached or not."""
    with open("/proc/self/io") as io:
        return int(io.readline().removeprefix("rchar: "))


def test_what_a_crash_left_out_of_the_index_is_found_again(logs: LogStore, tmp_path: Path) -> None:
    append(logs, b"#1 one\n")
    (log,) = tmp_path.rglob("*.log")
    with log.open("ab") as file:
        file.write(b"#1 two\n#2 three\n#2 ha")  # written, and then the power went
    assert logs.line_count(1, 1) == 4
    append(logs, b"lf\n#3 five\n")
    assert list(logs.lines(1, 1, 3, 5)) == [b"#2 three\n", b"#2 half\n", b"#3 five\n"]
    check_marks(log.read_bytes(), marks_of(logs))


def test_half_a_record_at_the_end_of_the_index_is_cut_off(logs: LogStore, tmp_path: Path) -> None:
    append(logs, b"#1 one\n")
    (index,) = tmp_path.rglob("*.idx")
    with index.open("ab") as file:
        file.write(b"\x01\x02\x03")
    append(logs, b"#2 two\n")
    check_marks(b"#1 one\n#2 two\n", marks_of(logs))
    assert list(logs.lines(1, 1, 2, 2)) == [b"#2 two\n"]


def test_a_lost_index_is_made_again_by_the_next_append(logs: LogStore, tmp_path: Path) -> None:
    append(logs, b"#1 one\n" * 600)
    (index,) = tmp_path.rglob("*.idx")
    index.unlink()
    assert list(logs.lines(1, 1, 600)) == [b"#1 one\n"]
    append(logs, b"#2 two\n")
    assert logs.line_count(1, 1) == 601
    assert len(marks_of(logs)) >= 3


def test_a_line_without_end_is_not_read_again_for_every_piece_of_it(logs: LogStore) -> None:
    append(logs, b"#1 before\n#2 ")
    for _ in range(20):
        append(logs, b"x" * 64 * 1024)
    assert logs.line_count(1, 1) == 2
    append(logs, b"\n#3 after\n#3 last")
    inside = [mark for mark in marks_of(logs) if mark.inside]
    assert len(inside) >= 19
    assert all(after.offset - before.offset <= 128 * 1024 for before, after in pairwise(inside))
    assert logs.line_count(1, 1) == 4
    assert list(logs.lines(1, 1, 1, 1)) == [b"#1 before\n"]
    assert [line[:4] for line in logs.lines(1, 1, 2, 2)] == [b"#2 x"]
    assert list(logs.lines(1, 1, 3)) == [b"#3 after\n", b"#3 last"]
    assert marks_of(logs)[-1].step == 3
