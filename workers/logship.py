"""An attempt's log on its way: written to a file here, sent from there by a thread.

The build never waits for the network: what it prints is on this host's disk first,
and the control plane says how much it has. A log that outlives its attempt (the
control plane is away) is sent from the same file by the spool.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Self

import structlog

from farm.errors import StaleAttempt
from farm.protocol import LOG_CHUNK_BYTES, StepReport, Steps
from workers.answers import ControlRefused, ControlSilent, NotEnrolled
from workers.control import AttemptControl
from workers.stop import Cause, Stop

log = structlog.get_logger()

FIRST_INTERVAL_S = 0.1
SILENT_INTERVAL_S = 1.0
STEPS_PER_CALL = 500
TAIL_BYTES = 1024 * 1024
"""The most of a log's end that survives when the log is longer than its limit."""


class LogFile:
    """What is kept of a log: everything, or its head and its tail with a line between."""

    def __init__(self, path: Path, limit: int) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._tail_limit = min(TAIL_BYTES, limit // 4)
        self._head_limit = limit - self._tail_limit - 200
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped_lines = 0
        self._dropped_bytes = 0
        self._full = False
        self.size = 0
        """Bytes that are in the file and may be sent."""

    def write(self, line: str) -> None:
        """Add a line (without its line break)."""
        data = line.encode(errors="replace") + b"\n"
        if not self._full and self.size + len(data) <= self._head_limit:
            self._append(data)
            return
        self._full = True
        self._tail.append(data)
        self._tail_bytes += len(data)
        while self._tail_bytes > self._tail_limit:
            gone = self._tail.popleft()
            self._tail_bytes -= len(gone)
            self._dropped_bytes += len(gone)
            self._dropped_lines += 1

    def close_tail(self) -> None:
        """Write the tail behind the head: the log is complete."""
        if self._dropped_lines:
            self._append(
                f"#0 … {self._dropped_lines} lines ({self._dropped_bytes} bytes) left out: "
                "the log is longer than its limit …\n".encode()
            )
        tail, self._tail = b"".join(self._tail), deque()
        if tail:
            self._append(tail)

    def read(self, offset: int) -> bytes:
        """Up to one chunk from an offset."""
        return os.pread(self._file, LOG_CHUNK_BYTES, offset)

    def close(self) -> None:
        """Close the file; it stays on disk. Safe to repeat."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self.size += len(data)


class LogShipper:
    """Takes lines and steps from the recipe's thread, sends both from its own.

    A context manager: however it is left, neither thread nor file stays open.
    """

    def __init__(self, control: AttemptControl, stop: Stop, path: Path, limit: int) -> None:
        self._control = control
        self._stop = stop
        self._path = path
        self._file = LogFile(path, limit)
        self._lock = threading.Lock()
        self._steps: dict[int, StepReport] = {}
        self._news = threading.Event()
        self._ending = threading.Event()
        self._ended = threading.Event()
        self._received = 0
        self._interval = FIRST_INTERVAL_S
        self._void = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_thread()

    def line(self, text: str) -> None:
        """Add a line, masked and with its prefix. Never waits for the network."""
        with self._lock:
            self._file.write(text)
        self._news.set()

    def step(self, report: StepReport) -> None:
        """Add a step, or what is new about one."""
        with self._lock:
            self._steps[report.number] = report
        self._news.set()

    @property
    def size(self) -> int:
        """Bytes of the whole log, once it is closed."""
        return self._file.size

    def close(self, *, within_s: float) -> bool:
        """Send what is left; False if the control plane did not take it all in time."""
        with self._lock:
            self._file.close_tail()
        self._ending.set()
        self._news.set()
        self._ended.wait(within_s)
        delivered = self._ended.is_set() and not self._open()
        self._stop_thread()
        return delivered or self._void

    def pending_steps(self) -> list[StepReport]:
        """Steps that were not delivered, for the spool."""
        with self._lock:
            return list(self._steps.values())

    def discard(self) -> None:
        """Forget the file: its content is delivered or void."""
        self._path.unlink(missing_ok=True)

    def _stop_thread(self) -> None:
        self._ended.set()
        self._news.set()
        self._thread.join()
        self._file.close()

    def _open(self) -> bool:
        with self._lock:
            return bool(self._steps) or self._received < self._file.size

    def _run(self) -> None:
        while not self._ended.is_set():
            self._news.wait()
            self._news.clear()
            began = time.monotonic()
            self._send()
            if self._void or (self._ending.is_set() and not self._open()):
                self._ended.set()
                return
            if self._open():
                self._news.set()
            if not self._ending.is_set() and not self._backlog():
                rest = self._interval - (time.monotonic() - began)
                self._ending.wait(max(0.0, rest))

    def _backlog(self) -> bool:
        """Whether more than a full chunk waits: then nothing is won by waiting for more."""
        return (
            self._interval < SILENT_INTERVAL_S
            and self._file.size - self._received > LOG_CHUNK_BYTES
        )

    def _send(self) -> None:
        try:
            self._send_steps()
            self._send_log()
        except StaleAttempt:
            self._void = True
            self._stop.ask(Cause.STALE)
        except (ControlSilent, NotEnrolled) as exc:
            log.info("log_not_sent", attempt=self._control.name, error=str(exc))
            self._interval = SILENT_INTERVAL_S
            if self._ending.is_set():
                self._ended.wait(FIRST_INTERVAL_S)
        except ControlRefused as exc:
            # Its log is worth less than the build: go on without.
            log.warning("log_refused", attempt=self._control.name, error=str(exc))
            self._void = True

    def _send_steps(self) -> None:
        with self._lock:
            numbers = sorted(self._steps)[:STEPS_PER_CALL]
            reports = [self._steps.pop(number) for number in numbers]
        if not reports:
            return
        try:
            carried = self._control.steps(Steps(steps=reports))
        except (ControlSilent, NotEnrolled):
            with self._lock:
                for report in reports:
                    self._steps.setdefault(report.number, report)
            raise
        if carried.cancel:
            self._stop.ask(Cause.CANCELLED)

    def _send_log(self) -> None:
        content = self._file.read(self._received)
        if not content:
            return
        answer = self._control.log(self._received, content)
        self._received = answer.size
        self._interval = answer.next_ms / 1000
        if answer.cancel:
            self._stop.ask(Cause.CANCELLED)
