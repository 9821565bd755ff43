"""A window of a build's log as lines to show: numbered, cleaned, marked by what they say.

A log holds what any Dockerfile prints. A page shows it as text and nothing else: no
control sequence acts, and characters that are not seen are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from farm.logs import LogStore

WINDOW: Final = 500
"""Lines on one page."""
ABOVE: Final = 40
"""Lines shown before the one that an address names."""
LONGEST_LINE: Final = 4000
"""Characters; the raw log has the rest."""
_TAIL: Final = 64 * 1024
_TRIES: Final = 5

# CSI; OSC, DCS, SOS, PM and APC up to their end; two-character escapes; then what is left over.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_STEP = re.compile(r"#(\d{1,6}) (?:(\d{1,8}\.\d{1,6}) )?(.*)", re.DOTALL)
_KINDS: Final = (
    ("ERROR", "error"),
    ("CACHED", "cached"),
    ("DONE", "done"),
    ("[", "title"),
)


@dataclass(frozen=True)
class LogLine:
    """One line: its number from 1, its step and seconds into it, its kind, its text."""

    number: int
    step: str
    at: str
    kind: str
    text: str


@dataclass(frozen=True)
class Window:
    """Which lines a page shows, of how many; line numbers from 1, inclusive."""

    first: int
    last: int
    total: int

    @property
    def at_end(self) -> bool:
        """Whether the newest line is in it, so that new ones may follow."""
        return self.last >= self.total

    @property
    def earlier(self) -> int | None:
        """A line to name for the window before this one."""
        return max(1, self.first - WINDOW + ABOVE) if self.first > 1 else None

    @property
    def later(self) -> int | None:
        """A line to name for the window after this one."""
        return None if self.at_end else self.last + 1


def window(total: int, line: int | None) -> Window:
    """The last lines, or those around the line that somebody asks for."""
    if line is None:
        return Window(max(1, total - WINDOW + 1), total, total)
    first = max(1, min(line, total) - ABOVE)
    return Window(first, min(total, first + WINDOW - 1), total)


@dataclass(frozen=True)
class Shown:
    """A window of a log, and the byte from which its live continuation begins."""

    window: Window
    lines: list[LogLine]
    offset: int

    @property
    def first_error(self) -> int | None:
        """The first line in it where a step says that it failed."""
        return next((line.number for line in self.lines if line.kind == "error"), None)


NOTHING: Final = Shown(Window(1, 0, 0), [], 0)


def read(logs: LogStore, part_id: int, attempt: int, line: int | None) -> Shown:
    """The window that an address asks for: the last lines, or those around a line.

    A last line without its end is left to the live continuation: `offset` is where
    the last whole line ends. (Of a log that is over, the worker has ended every line.)
    """
    total, offset = _whole_lines(logs, part_id, attempt)
    shown = window(total, line)
    found = logs.lines(part_id, attempt, shown.first, shown.last) if total else iter(())
    texts = [raw.decode("utf-8", "replace").removesuffix("\n") for raw in found]
    return Shown(shown, list(lines(texts, shown.first)), offset)


def _whole_lines(logs: LogStore, part_id: int, attempt: int) -> tuple[int, int]:
    """How many lines have ended, and where the last of them does.

    The log may grow between the two questions: then they are asked again.
    """
    size = count = 0
    for _ in range(_TRIES):
        size = logs.size(part_id, attempt)
        count = logs.line_count(part_id, attempt)
        if logs.size(part_id, attempt) == size:
            break
    begin = max(0, size - _TAIL)
    _, newline, open_line = logs.read(part_id, attempt, begin, size - begin).rpartition(b"\n")
    if not open_line:
        return count, size
    return count - 1, size - len(open_line) if newline or not begin else size


def lines(texts: Iterable[str], first: int) -> Iterator[LogLine]:
    """The lines, the first of them numbered `first`."""
    for number, raw in enumerate(texts, first):
        found = _STEP.fullmatch(raw)
        if not found:
            yield LogLine(number, "", "", "", clean(raw))
            continue
        step, at, rest = found[1], found[2] or "", clean(found[3])
        said = next((kind for start, kind in _KINDS if rest.startswith(start)), "")
        # Output carries its time; only what the farm itself writes has none.
        yield LogLine(number, step, at, "" if at else said, rest)


def clean(raw: str) -> str:
    """One line as it may be shown: what a terminal would show at last, nothing that acts."""
    shown = _SEQUENCE.sub("", raw).rstrip("\r").rpartition("\r")[2]
    more = len(shown) - LONGEST_LINE
    shown = _UNSEEN.sub(_named, shown[:LONGEST_LINE])
    return f"{shown} … {more} more characters in the raw log" if more > 0 else shown


def _named(found: re.Match[str]) -> str:
    return f"\u27e8U+{ord(found[0]):04X}\u27e9"
