"""The style sheet: every pair of colours that carries text is legible in light and dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SHEET = Path(__file__).parents[3] / "web" / "static" / "farm.css"
STATUSES = (
    *("succeeded", "failed", "errored", "running"),
    *("queued", "waiting_approval", "cancelled", "skipped"),
)
TEXT = [
    *((ink, paper) for ink in ("ink", "dim", "link") for paper in ("paper", "raised", "sunken")),
    *((status, paper) for status in STATUSES for paper in ("paper", "raised")),
    *((f"{name}", f"{name}-wash") for name in ("failed", "errored", "queued")),
    *(("ink", f"{name}-wash") for name in ("failed", "errored", "queued")),
    ("failed", "sunken"),
    ("ink", "mark"),
    ("dim", "mark"),
    ("paper", "link"),
]
GRAPHICS = [("edge", "paper"), ("focus", "paper"), ("focus", "raised"), ("build", "paper")]


def colours(scheme: str) -> dict[str, str]:
    roots = re.findall(r":root \{(.*?)\}", SHEET.read_text(), re.DOTALL)
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", roots[0]))
    dark = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", roots[1]))
    assert set(light) == set(dark), "a colour is missing in one scheme"
    return light if scheme == "light" else dark


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_are_legible(scheme: str) -> None:
    known = colours(scheme)
    poor = {
        pair: round(contrast(known[pair[0]], known[pair[1]]), 2)
        for pairs, least in ((TEXT, 4.5), (GRAPHICS, 3.0))
        for pair in pairs
        if contrast(known[pair[0]], known[pair[1]]) < least
    }
    assert not poor
