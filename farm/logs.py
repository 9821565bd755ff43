"""Logs: one append-only file per attempt, and beside it an index of its lines.

Workers send bytes with their offset, so repeats and gaps are seen. The index has a
record where the step changes, every 256 lines and at the end of what has come, so
that "lines 120-140 of a million" reads a few kilobytes. Never a database row per
line. Every line begins with `#<step> `, written by the worker: what a build prints
can never imitate another step.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_RECORD = struct.Struct("<QIIQ")
"""Offset of a line's first byte, lines before it, its step, milliseconds since the epoch."""
_EVERY = 256
_STEP = re.compile(rb"#(\d{1,9}) ")
_BLOCK = 64 * 1024
_INSIDE = 1 << 31
"""In a record's step: the offset lies within a line."""


@dataclass(frozen=True)
class Mark:
    """A place in a log that the index knows."""

    offset: int
    line: int
    """How many lines end before the offset."""
    step: int
    """The step of the line that begins here; 0: none yet."""
    at_ms: int
    inside: bool = False
    """The place is within a line that is too long to be read again and again."""


_START = Mark(0, 0, 0, 0)


class LogStore:
    """The logs of every attempt under one directory, shared by the web processes of a host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def append(self, part_id: int, attempt: int, offset: int, data: bytes, *, now: datetime) -> int:
        """Store bytes that begin at `offset`; returns how many there are now.

        What is there already is passed over; after a gap nothing is stored: the
        sender sees from the answer where to go on. Safe to repeat.
        """
        path = self._path(part_id, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+", buffering=0) as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            size = os.fstat(log.fileno()).st_size
            fresh = data[size - offset :] if 0 <= offset <= size else b""
            if not fresh:
                return size
            log.write(fresh)
            self._index(log.fileno(), path.with_suffix(".idx"), now=now)
            return size + len(fresh)

    def size(self, part_id: int, attempt: int) -> int:
        """How many bytes there are."""
        try:
            return self._path(part_id, attempt).stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, part_id: int, attempt: int, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset` on."""
        try:
            with open(self._path(part_id, attempt), "rb") as log:
                log.seek(offset)
                return log.read(limit)
        except FileNotFoundError:
            return b""

    def line_count(self, part_id: int, attempt: int) -> int:
        """How many lines there are; an unfinished last one counts."""
        size = self.size(part_id, attempt)
        if not size:
            return 0
        with self._marks(part_id, attempt) as marks:
            last = marks[len(marks) - 1] if len(marks) else _START
        tail = self.read(part_id, attempt, last.offset, size - last.offset)
        unfinished = not tail.endswith(b"\n") if tail else last.inside
        return last.line + tail.count(b"\n") + unfinished

    def lines(
        self, part_id: int, attempt: int, first: int = 1, last: int | None = None
    ) -> Iterator[bytes]:
        """The lines from `first` to `last`, numbered from 1, both included, with their ends."""
        start = self._mark_before(part_id, attempt, first - 1)
        try:
            log = open(self._path(part_id, attempt), "rb", buffering=_BLOCK)  # noqa: SIM115
        except FileNotFoundError:
            return
        with log:
            log.seek(start.offset)
            for number, line in enumerate(log, start=start.line + 1):
                if last is not None and number > last:
                    return
                if number >= first:
                    yield line

    def remove(self, part_id: int, attempt: int) -> None:
        """Forget a log and its index."""
        path = self._path(part_id, attempt)
        path.unlink(missing_ok=True)
        path.with_suffix(".idx").unlink(missing_ok=True)

    def _path(self, part_id: int, attempt: int) -> Path:
        return self._directory / f"{part_id // 1000:06d}" / f"{part_id}.{attempt}.log"

    def _mark_before(self, part_id: int, attempt: int, line: int) -> Mark:
        with self._marks(part_id, attempt) as marks:
            place = bisect_left(marks, line, key=lambda mark: mark.line)
            if place < len(marks) and marks[place].line == line and not marks[place].inside:
                return marks[place]
            return marks[place - 1] if place else _START

    @contextmanager
    def _marks(self, part_id: int, attempt: int) -> Iterator[_Marks]:
        path = self._path(part_id, attempt).with_suffix(".idx")
        try:
            with open(path, "rb") as file:
                yield _Marks(file.fileno())
        except FileNotFoundError:
            yield _Marks(None)

    def _index(self, log: int, path: Path, *, now: datetime) -> None:
        """Index what has come since the last mark; also what a crash left unindexed."""
        at_ms = int(now.timestamp() * 1000)
        with open(path, "ab+", buffering=0) as index:
            marks = _Marks(index.fileno())
            last = marks[len(marks) - 1] if len(marks) else _START
            if len(marks) * _RECORD.size != os.fstat(index.fileno()).st_size:
                index.truncate(len(marks) * _RECORD.size)
            fresh = _read_from(log, last.offset)
            index.write(b"".join(_records(last, fresh, at_ms)))


class _Marks:
    """The records of an index file, read one by one: a sequence for bisect."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._count = os.fstat(fd).st_size // _RECORD.size if fd is not None else 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Mark:
        if self._fd is None or not 0 <= number < self._count:
            raise IndexError(number)
        record = os.pread(self._fd, _RECORD.size, number * _RECORD.size)
        offset, line, step, at_ms = _RECORD.unpack(record)
        return Mark(offset, line, step & ~_INSIDE, at_ms, inside=bool(step & _INSIDE))


def _read_from(fd: int, offset: int) -> bytes:
    blocks = []
    while block := os.pread(fd, _BLOCK, offset):
        blocks.append(block)
        offset += len(block)
    return b"".join(blocks)


def _records(last: Mark, data: bytes, at_ms: int) -> Iterator[bytes]:
    """Records for the whole lines in `data`, which begins where the last mark is."""
    line, step, since, place = last.line, last.step, 0, 0
    while (end := data.find(b"\n", place)) >= 0:
        match = None if last.inside and not place else _STEP.match(data, place, end)
        here = int(match[1]) if match else step
        if here != step or since >= _EVERY:
            yield _RECORD.pack(last.offset + place, line, here, at_ms)
            since = 0
        step, place = here, end + 1
        line, since = line + 1, since + 1
    if len(data) - place >= _BLOCK:
        yield _RECORD.pack(last.offset + len(data), line, step | _INSIDE, at_ms)
    elif place:
        yield _RECORD.pack(last.offset + place, line, step, at_ms)
