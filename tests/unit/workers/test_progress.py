"""The recorded streams of buildx become steps and lines."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from farm.protocol import StepReport
from farm.states import StepStatus
from tests.unit.workers.recorded import FOLDER, play
from workers.rawjson import Output, Report, Vertex, moment
from workers.steps import LINE_BYTES, Progress

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALL = sorted(path.stem for path in FOLDER.glob("*.txt"))


def test_a_build_is_told_as_numbered_steps_in_the_order_in_which_they_started() -> None:
    progress, lines, _, _ = play("built-and-pushed")
    names = [step.name for step in progress.steps]
    assert names[0] == "[internal] load build definition from Dockerfile"
    assert names[-2:] == ["exporting to image", "pushing localhost:5977/t/a:farm-x with docker"]
    runs = [name for name in names if " RUN " in name or " COPY " in name]
    assert [name.split("]")[0] for name in runs] == ["[a 2/2", "[stage-1 1/2", "[stage-1 2/2"]
    number = next(s.number for s in progress.steps if s.name.startswith("[a 2/2]"))
    said = [re.sub(r" \d+\.\d{3} ", " T ", s) for s in lines if s.startswith(f"#{number} ")]
    assert said == [
        f"#{number} {progress.steps[number - 1].name}",
        f"#{number} T hello",
        f"#{number} T world",
        f"#{number} T no newline",
        f"#{number} DONE 0.5s",
    ]


def test_bytes_that_are_no_text_are_replaced() -> None:
    _, lines, _, _ = play("built-and-pushed")
    assert any(line.endswith("\ufffd\ufffd raw") for line in lines)


def test_a_cached_build_says_so() -> None:
    progress, lines, reports, _ = play("cached")
    cached = [step for step in progress.steps if step.cached]
    assert len(cached) == 3
    assert {f"#{step.number} CACHED" for step in cached} <= set(lines)
    assert sum(report.cached for report in reports) == 3


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_result_does_not_depend_on_chunk_borders(name: str, chunk: int) -> None:
    assert play(name, chunk=chunk)[1:] == play(name, chunk=10**9)[1:]


@pytest.mark.parametrize("name", ALL)
def test_every_line_begins_with_its_step_and_every_step_ends(name: str) -> None:
    progress, lines, reports, _ = play(name)
    assert all(re.match(r"#\d+ ", line) for line in lines)
    last = {report.number: report for report in reports}
    if name != "engine-killed":
        assert all(report.status is not StepStatus.RUNNING for report in last.values())
    assert sorted(last) == [step.number for step in progress.steps]
    assert not any(line.count("DONE") > 1 for line in lines)


def test_a_cancelled_step_is_no_failed_one() -> None:
    progress, lines, reports, _ = play("cancelled")
    assert reports[-1].status is StepStatus.CANCELLED
    assert f"#{progress.steps[-1].number} CANCELED" in lines


def started(digest: str = "d", *, name: str = "[1/1] RUN x", **fields: object) -> Report:
    values: dict[str, object] = {"completed": None, "cached": False, "error": ""} | fields
    return Report(vertexes=[Vertex(digest, name, NOW, **values)])  # type: ignore[arg-type]


def output(data: bytes, stream: int = 1) -> Report:
    return Report(outputs=[Output("d", stream, data, NOW)])


def progress_of(*reports: Report, patterns: tuple[bytes, ...] = ()) -> list[str]:
    lines: list[str] = []

    def ignore(_: StepReport) -> None:
        """Steps are not what this is about."""

    progress = Progress(on_line=lines.append, on_step=ignore, patterns=patterns)
    for report in reports:
        progress.take(report)
    progress.close()
    return lines


def test_a_build_cannot_imitate_a_step() -> None:
    lines = progress_of(started(), output(b"#9 DONE\n#1 [2/2] RUN evil\nx\x00y\r\n"))
    assert lines[1:] == ["#1 0.000 #9 DONE", "#1 0.000 #1 [2/2] RUN evil", "#1 0.000 xy"]


def test_a_secret_cut_in_two_is_masked_and_streams_are_kept_apart() -> None:
    lines = progress_of(
        started(),
        output(b"see hun"),
        output(b"other\n", 2),
        output(b"ter2\n"),
        patterns=(b"hunter2",),
    )
    assert lines[1:] == ["#1 0.000 other", "#1 0.000 see ***"]


def test_a_giant_line_is_cut_into_pieces() -> None:
    lines = progress_of(started(), output(b"x" * (3 * LINE_BYTES + 1)), output(b"end\n"))
    assert [len(line) for line in lines[1:]] == [LINE_BYTES + 9] * 3 + [4 + 9]


def test_a_step_name_of_several_lines_is_one_line() -> None:
    assert progress_of(started(name="RUN a\n#2 DONE\nb")) == ["#1 RUN a #2 DONE b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T08:04:42.4902776Z", datetime(2026, 11, 24, 8, 4, 42, 490277, UTC)),
        ("2026-11-24T08:04:42Z", datetime(2026, 11, 24, 8, 4, 42, 0, UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("nonsense", None),
        (None, None),
    ],
)
def test_go_timestamps_are_read(text: object, expected: datetime | None) -> None:
    assert moment(text) == expected
