"""The steps of a believable build, and what each of them prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from farm.states import StepStatus

STEPS: Final = (
    "[internal] load build definition from Dockerfile",
    "[internal] load metadata for registry.example.com/python:3.11-slim",
    "[internal] load .dockerignore",
    "[base 1/3] FROM registry.example.com/python:3.11-slim@sha256:0f2d8c1e",
    "[base 2/3] RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 curl",
    "[internal] load build context",
    "[deps 1/2] COPY requirements.txt .",
    "[deps 2/2] RUN pip install --no-cache-dir --require-hashes -r requirements.txt",
    "[base 3/3] COPY src/ /app/src/",
    "[final 1/2] RUN python -m compileall -q /app/src",
    "[final 2/2] RUN python -m app.selfcheck --model /app/model.onnx",
    "exporting to image",
)
_WEIGHTS: Final = (1, 4, 1, 2, 30, 2, 1, 60, 3, 4, 9, 12)
_CACHED_WHEN_WARM: Final = (4, 5, 7, 8)


@dataclass(frozen=True)
class PlannedStep:
    """One step: how it goes and how long it takes."""

    number: int
    name: str
    status: StepStatus
    cached: bool
    seconds: float

    def log(self) -> list[str]:
        """Its lines, as a worker writes them."""
        start = f"#{self.number}"
        lines = [f"{start} {self.name}"]
        if self.cached:
            return [*lines, f"{start} CACHED"]
        if "pip install" in self.name:
            lines += [
                f"{start} {self.seconds * part / 12:.3f} Collecting wheel {part} of 12 (cp311)"
                for part in range(12)
            ]
        if self.status is StepStatus.FAILED:
            lines.append(f"{start} 0.811 Traceback (most recent call last):")
            lines.append(f"{start} 0.812 AssertionError: model.onnx: 3 outputs, expected 2")
            return [*lines, f"{start} ERROR: process did not complete: exit code: 1"]
        if self.status is StepStatus.RUNNING:
            return lines
        return [*lines, f"{start} DONE {self.seconds:.1f}s"]


def plan(*, seconds: float, count: int, warm: bool, last: StepStatus) -> list[PlannedStep]:
    """The first `count` steps, sharing the seconds; the last one ends as it is told."""
    unit = seconds / sum(_WEIGHTS[:count])
    planned = []
    for number in range(1, count + 1):
        final = number == count
        cached = warm and not final and number in _CACHED_WHEN_WARM
        planned.append(
            PlannedStep(
                number,
                STEPS[number - 1],
                last if final else StepStatus.SUCCEEDED,
                cached,
                0.0 if cached else unit * _WEIGHTS[number - 1],
            )
        )
    return planned
