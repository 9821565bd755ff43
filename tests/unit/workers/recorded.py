"""Streams that buildx 0.13.1 really wrote, with engine 26.1.5."""

from __future__ import annotations

from pathlib import Path

from farm.protocol import StepReport
from workers.rawjson import Decoder, Report
from workers.steps import Progress

FOLDER = Path(__file__).parent / "streams"


def play(
    name: str, *, chunk: int = 4096
) -> tuple[Progress, list[str], list[StepReport], list[str]]:
    """A recorded stream through decoder and progress: also the lines, step reports and text."""
    lines: list[str] = []
    reports: list[StepReport] = []
    text: list[str] = []
    progress = Progress(on_line=lines.append, on_step=reports.append, patterns=())
    decoder = Decoder()
    raw = (FOLDER / f"{name}.txt").read_bytes()
    items: list[Report | str] = []
    for start in range(0, len(raw), chunk):
        items += decoder.feed(raw[start : start + chunk])
    items += decoder.close()
    for item in items:
        if isinstance(item, Report):
            progress.take(item)
        else:
            text.append(item)
            progress.text(item)
    progress.close()
    return progress, lines, reports, text
