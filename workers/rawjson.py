"""What `docker buildx build --progress=rawjson` says, as values.

The stream on stderr is a row of indented JSON objects (BuildKit's SolveStatus), not
one a line, with plain text between and after them: the Dockerfile's excerpt and the
`ERROR:` line. Seen with buildx 0.13; a compact form is read as well.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

MAX_OBJECT = 64 * 1024 * 1024
"""A JSON object that has not ended by then (in characters) is no progress: it is text."""


@dataclass(frozen=True)
class Vertex:
    """A BuildKit vertex as one report has it: a step, maybe not started yet."""

    digest: str
    name: str
    started: datetime | None
    completed: datetime | None
    cached: bool
    error: str


@dataclass(frozen=True)
class Output:
    """Bytes that a step wrote; `stream` is 1 (stdout) or 2 (stderr)."""

    vertex: str
    stream: int
    data: bytes
    timestamp: datetime | None


@dataclass(frozen=True)
class Status:
    """The progress of something within a step, such as the push of a layer."""

    vertex: str
    id: str
    current: int
    total: int
    timestamp: datetime | None
    completed: bool


@dataclass(frozen=True)
class Report:
    """One object of the stream."""

    vertexes: list[Vertex] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    """(vertex digest, sentence)."""


def moment(value: object) -> datetime | None:
    """A Go timestamp (nine digits of a second; zero time means none)."""
    if not isinstance(value, str) or value.startswith("0001-"):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(value) if isinstance(value, str) else b""
    except binascii.Error:
        return b""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _report(value: dict[str, Any]) -> Report:
    return Report(
        vertexes=[
            Vertex(
                digest=str(v.get("digest", "")),
                name=str(v.get("name", "")),
                started=moment(v.get("started")),
                completed=moment(v.get("completed")),
                cached=v.get("cached") is True,
                error=str(v.get("error") or ""),
            )
            for v in value.get("vertexes") or ()
        ],
        statuses=[
            Status(
                vertex=str(s.get("vertex", "")),
                id=str(s.get("id", "")),
                current=_number(s.get("current")),
                total=_number(s.get("total")),
                timestamp=moment(s.get("timestamp")),
                completed=moment(s.get("completed")) is not None,
            )
            for s in value.get("statuses") or ()
        ],
        outputs=[
            Output(
                vertex=str(o.get("vertex", "")),
                stream=_number(o.get("stream")),
                data=_bytes(o.get("data")),
                timestamp=moment(o.get("timestamp")),
            )
            for o in value.get("logs") or ()
        ],
        warnings=[
            (str(w.get("vertex", "")), _bytes(w.get("short")).decode(errors="replace"))
            for w in value.get("warnings") or ()
        ],
    )


class Decoder:
    """Cuts the stream into reports and lines of plain text, at any chunk borders."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._json = json.JSONDecoder()
        self._buffer = ""

    def feed(self, chunk: bytes) -> Iterator[Report | str]:
        """What is complete by now: a Report, or a str for a line of text."""
        self._buffer += self._text.decode(chunk)
        yield from self._take(at_end=False)

    def close(self) -> Iterator[Report | str]:
        """The rest: the stream is at an end."""
        self._buffer += self._text.decode(b"", final=True)
        yield from self._take(at_end=True)

    def _take(self, *, at_end: bool) -> Iterator[Report | str]:
        buffer, position = self._buffer, 0
        while position < len(buffer):
            item, after = self._next(buffer, position, at_end=at_end)
            if after == position:
                break
            position = after
            if item is not None:
                yield item
        self._buffer = buffer[position:]

    def _next(self, buffer: str, position: int, *, at_end: bool) -> tuple[Report | str | None, int]:
        """The item at a position and where it ends: the same position if it has not ended."""
        if buffer[position] == "{":
            try:
                value, after = self._json.raw_decode(buffer, position)
                return _report(value), after
            except ValueError:
                if not at_end and len(buffer) - position < MAX_OBJECT:
                    return None, position
        end = buffer.find("\n", position)
        if end < 0:
            if not at_end:
                return None, position
            end = len(buffer)
        return buffer[position:end].rstrip() or None, min(end + 1, len(buffer))
