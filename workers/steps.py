"""BuildKit's progress as the farm shows it: numbered steps, and lines of a log.

Every line is `#<step> <text>`, and the prefix is ours, so nothing that a build
prints can imitate a step. `#0` is the farm itself. The forms, relied on by the
control plane's index and by pages:

    #5 [2/4] COPY app /app     the step starts
    #5 0.123 <output>          seconds since its start
    #5 CACHED | #5 DONE 1.2s | #5 CANCELED | #5 ERROR: <text>

A vertex gets its number when it starts (BuildKit announces a whole graph at once,
in no order that people know). It may start again after it completed (seen with
`[internal]` vertexes), so `DONE` waits until the next report shows that it did not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from farm.protocol import StepReport
from farm.states import StepStatus
from workers.masking import Masker, mask_text
from workers.rawjson import Output, Report, Status, Vertex

LINE_BYTES = 8 * 1024
"""A longer line is cut into pieces, so that no reader needs to hold a giant one."""
NAME_CHARACTERS = 2000
TAIL_LINES = 20
"""The last lines of a step that are kept to tell why it failed."""


@dataclass
class _Stream:
    """One output stream of a step: what has no line break yet."""

    masker: Masker
    rest: bytes = b""


@dataclass
class Step:
    """A vertex that has started."""

    number: int
    name: str
    started: datetime
    completed: datetime | None = None
    cached: bool = False
    error: str = ""
    tail: list[str] = field(default_factory=list)
    streams: dict[int, _Stream] = field(default_factory=dict)

    @property
    def cancelled(self) -> bool:
        """Whether it ended because the build was told to stop, not by its own doing."""
        return "context canceled" in self.error

    @property
    def status(self) -> StepStatus:
        """Where it stands, in the farm's words."""
        if self.completed is None:
            return StepStatus.RUNNING
        if not self.error:
            return StepStatus.SUCCEEDED
        return StepStatus.CANCELLED if self.cancelled else StepStatus.FAILED

    def report(self) -> StepReport:
        """What the control plane gets of it."""
        seconds = (self.completed - self.started).total_seconds() if self.completed else None
        return StepReport(
            number=self.number,
            name=self.name,
            status=self.status,
            cached=self.cached,
            started_at=self.started,
            duration_s=None if seconds is None else max(0.0, seconds),
        )


class Progress:
    """Turns reports into lines and step reports; one per build.

    `on_line` gets each masked line with its prefix and no line break, `on_step` each
    step whenever it changed.
    """

    def __init__(
        self,
        *,
        on_line: Callable[[str], None],
        on_step: Callable[[StepReport], None],
        patterns: tuple[bytes, ...],
    ) -> None:
        self._on_line = on_line
        self._on_step = on_step
        self._patterns = patterns
        self._steps: dict[str, Step] = {}
        self._announced_done: list[Step] = []
        self._statuses_seen: set[tuple[str, str]] = set()

    @property
    def steps(self) -> list[Step]:
        """The steps that have started, by number."""
        return sorted(self._steps.values(), key=lambda step: step.number)

    def text(self, line: str) -> None:
        """A line of the farm, or of buildx outside every step."""
        self._write(0, mask_text(line, self._patterns))

    def take(self, report: Report) -> None:
        """One report of the stream."""
        running_again = {v.digest for v in report.vertexes if v.started and not v.completed}
        self.settle(but=running_again)
        for vertex in report.vertexes:
            self._vertex(vertex)
        for status in report.statuses:
            self._status(status)
        for output in report.outputs:
            self._output(output)
        for digest, sentence in report.warnings:
            step = self._steps.get(digest)
            self._write(
                step.number if step else 0, mask_text(f"WARNING: {sentence}", self._patterns)
            )

    def settle(self, *, but: frozenset[str] | set[str] = frozenset()) -> None:
        """Write the ends of steps that have completed and did not start again."""
        waiting, self._announced_done = self._announced_done, []
        again = {id(self._steps[digest]) for digest in but if digest in self._steps}
        for step in waiting:
            if id(step) not in again and step.completed is not None:
                self._end(step)

    def close(self) -> None:
        """The stream is at an end: write what is left."""
        self.settle()
        for step in self._steps.values():
            self._flush(step)

    def _vertex(self, vertex: Vertex) -> None:
        if vertex.started is None:
            return
        step = self._steps.get(vertex.digest)
        if step is None:
            name = mask_text(vertex.name, self._patterns)[:NAME_CHARACTERS]
            step = Step(len(self._steps) + 1, " ".join(name.split()), vertex.started)
            self._steps[vertex.digest] = step
            self._write(step.number, step.name)
        elif step.completed == vertex.completed and step.cached == vertex.cached:
            return
        step.completed = vertex.completed
        step.cached = vertex.cached
        step.error = mask_text(vertex.error, self._patterns)
        if step.completed is not None:
            self._flush(step)
            self._announced_done.append(step)
        self._on_step(step.report())

    def _end(self, step: Step) -> None:
        if step.error:
            said = "CANCELED" if step.cancelled else f"ERROR: {step.error}"
        elif step.cached:
            said = "CACHED"
        else:
            said = f"DONE {step.report().duration_s or 0.0:.1f}s"
        self._write(step.number, said)

    def _status(self, status: Status) -> None:
        """Only the end of each transfer: in between they come by the hundred."""
        step = self._steps.get(status.vertex)
        if (
            step is None
            or not status.completed
            or (status.vertex, status.id) in self._statuses_seen
        ):
            return
        self._statuses_seen.add((status.vertex, status.id))
        size = f" {status.total} bytes" if status.total else ""
        line = f"{self._seconds(step, status.timestamp)} {status.id}{size} done"
        self._write(step.number, mask_text(line, self._patterns))

    def _output(self, output: Output) -> None:
        step = self._steps.get(output.vertex)
        if step is None:
            return
        stream = step.streams.get(output.stream)
        if stream is None:
            stream = step.streams[output.stream] = _Stream(Masker(self._patterns))
        text = stream.rest + stream.masker.feed(output.data)
        *lines, rest = text.split(b"\n")
        seconds = self._seconds(step, output.timestamp)
        for line in lines:
            self._write_output(step, seconds, line)
        while len(rest) > LINE_BYTES:
            self._write_output(step, seconds, rest[:LINE_BYTES])
            rest = rest[LINE_BYTES:]
        stream.rest = rest

    def _flush(self, step: Step) -> None:
        for stream in step.streams.values():
            rest = stream.rest + stream.masker.flush()
            stream.rest = b""
            for line in rest.split(b"\n") if rest else ():
                self._write_output(step, self._seconds(step, step.completed), line)

    def _write_output(self, step: Step, seconds: str, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        for start in range(0, max(1, len(line)), LINE_BYTES):
            text = line[start : start + LINE_BYTES].decode(errors="replace").replace("\0", "")
            step.tail = [*step.tail[1 - TAIL_LINES :], text]
            self._write(step.number, f"{seconds} {text}")

    def _write(self, number: int, text: str) -> None:
        """One or more lines: a text of several gets the prefix on each."""
        for line in text.replace("\0", "").split("\n"):
            self._on_line(f"#{number} {line}")

    @staticmethod
    def _seconds(step: Step, at: datetime | None) -> str:
        return f"{max(0.0, (at - step.started).total_seconds()) if at else 0.0:.3f}"
