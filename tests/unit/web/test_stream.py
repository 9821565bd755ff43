"""The frames of a stream: what is new for one reader, and nothing twice."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.logs import LogStore
from farm.states import StepStatus
from farm.views import StepView
from web import stream
from web.stream import _Reader

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Logs:
    """The one service that reading a log needs."""

    def __init__(self, logs: LogStore) -> None:
        self.logs = logs


@pytest.fixture
def logs(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path)


def frames(logs: LogStore, reader: _Reader, *, whole: bool = False) -> list[dict[str, Any]]:
    services: Any = Logs(logs)
    upto = None if whole else logs.size(reader.part_id, reader.attempt)
    return [json.loads(data_of(text)) for text in stream._log(services, reader, upto=upto)]


def data_of(frame: str) -> str:
    lines = frame.removesuffix("\n\n").split("\n")
    assert [line.split(": ")[0] for line in lines] == ["id", "event", "data"]
    return lines[2].removeprefix("data: ")


def test_a_frame_names_the_place_up_to_which_the_log_was_read() -> None:
    reader = _Reader(part_id=7, attempt=2, offset=99, event=4)
    assert reader.frame("log", '{"text":"x"}') == 'id: 7.2.99.5\nevent: log\ndata: {"text":"x"}\n\n'


@pytest.mark.parametrize("last_id", ["7.2.99.5", "0.0.0.0", "999999999999999.1.1.1"])
def test_a_reader_resumes_where_its_last_frame_says(last_id: str) -> None:
    reader = stream._resumed(last_id)
    assert f"{reader.part_id}.{reader.attempt}.{reader.offset}.{reader.event}" == last_id


def test_without_a_last_id_a_reader_begins_at_the_beginning() -> None:
    assert stream._resumed(None) == stream._resumed("") == _Reader()


def test_only_whole_lines_are_sent_until_the_build_is_over(logs: LogStore) -> None:
    reader = _Reader(1, 1)
    logs.append(1, 1, 0, b"#1 one\n#1 tw", now=NOW)
    assert frames(logs, reader) == [{"text": "#1 one\n"}]
    assert frames(logs, reader) == []
    logs.append(1, 1, 12, b"o\n#1 three", now=NOW)
    assert frames(logs, reader) == [{"text": "#1 two\n"}]
    assert frames(logs, reader, whole=True) == [{"text": "#1 three"}]
    assert frames(logs, reader, whole=True) == []


def test_a_line_longer_than_a_chunk_is_sent_in_pieces(logs: LogStore) -> None:
    line = b"#1 " + b"x" * 200_000 + b"\n"
    logs.append(1, 1, 0, line, now=NOW)
    sent = frames(logs, _Reader(1, 1))
    assert len(sent) > 1
    assert "".join(each["text"] for each in sent).encode() == line


@pytest.mark.parametrize("shift", range(4))
def test_a_long_line_is_not_cut_inside_a_letter(logs: LogStore, shift: int) -> None:
    line = b"#" * shift + "é€😀".encode() * 20_000 + b"\n"
    logs.append(1, 1, 0, line, now=NOW)
    assert "".join(each["text"] for each in frames(logs, _Reader(1, 1))).encode() == line


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_any_bytes_come_out_as_frames_that_cannot_be_forged(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
) -> None:
    logs, reader = LogStore(tmp_path_factory.mktemp("logs")), _Reader(1, 1)
    seen, place, turn = "", 0, 0
    while place < len(data):
        size = cuts[turn % len(cuts)]
        logs.append(1, 1, place, data[place : place + size], now=NOW)
        place, turn = place + size, turn + 1
        seen += "".join(each["text"] for each in frames(logs, reader))
    seen += "".join(each["text"] for each in frames(logs, reader, whole=True))
    assert seen == data.decode("utf-8", "replace")


def test_an_unknown_log_has_no_frames(logs: LogStore) -> None:
    assert frames(logs, _Reader(9, 9), whole=True) == []
    assert frames(logs, _Reader(), whole=True) == []


def step(number: int, status: StepStatus = StepStatus.RUNNING) -> StepView:
    return StepView(
        number=number,
        name="RUN printf 'a\n\nevent: done'",
        status=status,
        cached=False,
        started_at=NOW,
        duration_s=None,
        platform=None,
        attempt=1,
    )


def test_a_step_in_a_frame_is_one_line_whatever_its_name() -> None:
    frame = _Reader(1, 1).frame("step", step(1).model_dump_json())
    assert json.loads(data_of(frame))["name"] == "RUN printf 'a\n\nevent: done'"
