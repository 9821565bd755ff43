"""What one build's page shows beside its log: the timeline and the steps as a waterfall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from farm.states import StepStatus
from farm.views import AttemptView, BuildView, StepView
from web import pages_history, pages_log, render

SCALE: Final = 1000
"""The width of the waterfall in the units of its drawing."""


@dataclass(frozen=True)
class StepRow:
    """A step and its place on the build's time, in thousandths."""

    step: StepView
    start: int
    width: int
    word: str
    """How it went, in a word: colour never says it alone."""
    took_s: float | None
    """Until now, while it runs."""


@dataclass(frozen=True)
class Moment:
    """One point of the timeline, and how long the leg towards it was."""

    name: str
    at: datetime | None
    """None: not there yet."""
    note: str
    leg: str = ""
    """What the time before it went into: `queue` or `build`."""
    took_s: float | None = None


@dataclass(frozen=True)
class TriedOn:
    """An attempt, the platform of its part, and where its log is."""

    platform: str | None
    attempt: AttemptView
    log_address: str

    @property
    def message(self) -> str:
        """What its worker saw, safe to show."""
        return pages_log.clean(self.attempt.message or "")


def waterfall(steps: Sequence[StepView], *, now: datetime) -> list[StepRow]:
    """Every step with its bar; the bars share one scale, from the first start to the last end."""
    spans = [_span(step, now) for step in steps]
    known = [span for span in spans if span]
    origin = min((start for start, _ in known), default=now)
    total = max((end - origin for _, end in known), default=timedelta()) or timedelta(seconds=1)
    return [_row(step, span, origin, total) for step, span in zip(steps, spans, strict=True)]


def timeline(build: BuildView, *, now: datetime) -> list[Moment]:
    """Queued, started, finished: when each was, and how long the way there took."""
    ended = build.finished_at
    moments = [Moment("Queued", build.created_at, f"{build.created_at:%-d %b %Y}, UTC")]
    if build.started_at is None:
        waited = ((ended or now) - build.created_at).total_seconds()
        name = _word(build) if ended else "Waiting"
        return [*moments, Moment(name, ended, "", "queue", waited)]
    worker = f"on {build.worker}" if build.worker else ""
    moments.append(Moment("Started", build.started_at, worker, "queue", build.queue_s))
    took = ((ended or now) - build.started_at).total_seconds()
    name = _word(build) if ended else _doing(build)
    return [*moments, Moment(name, ended, "", "build", took)]


def scale(steps: Sequence[StepView], *, now: datetime) -> float:
    """Seconds from the first step's start to the last one's end."""
    spans = [span for span in (_span(step, now) for step in steps) if span]
    if not spans:
        return 0.0
    return (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()


def links(build: BuildView) -> dict[str, str]:
    """Where the builds of the same project, and of the same subject, are listed."""
    number = str(build.pull_request or "")
    filters = pages_history.Filters(project=build.project, pull_request=number)
    same_ref = pages_history.Filters(project=build.project, q=build.ref or "")
    return {
        "project": pages_history.builds_of(build.project),
        "subject": (filters if number else same_ref).address(),
    }


def tried(build: BuildView) -> list[TriedOn]:
    """All attempts, in the order of their parts."""
    return [
        TriedOn(part.platform, one, log_address(build, part.platform, one.number))
        for part in build.parts
        for one in part.attempts
    ]


def log_address(build: BuildView, platform: str | None = None, attempt: int | None = None) -> str:
    """Where the whole log is, as text: the latest, or one attempt's."""
    query = {"platform": platform or "", "attempt": str(attempt or "")}
    return render.address(f"/api/v1/builds/{build.id}/log", query)


def _span(step: StepView, now: datetime) -> tuple[datetime, datetime] | None:
    if step.started_at is None:
        return None
    if step.duration_s is not None:
        return step.started_at, step.started_at + timedelta(seconds=step.duration_s)
    return step.started_at, max(now, step.started_at)


def _row(
    step: StepView,
    span: tuple[datetime, datetime] | None,
    origin: datetime,
    total: timedelta,
) -> StepRow:
    word = "cached" if step.cached else _WORDS[step.status]
    if span is None:
        return StepRow(step, 0, 0, word, step.duration_s)
    start = round(SCALE * ((span[0] - origin) / total))
    width = round(SCALE * ((span[1] - span[0]) / total))
    took = (span[1] - span[0]).total_seconds()
    return StepRow(step, min(start, SCALE - 4), max(4, min(width, SCALE - start)), word, took)


def _word(build: BuildView) -> str:
    return build.status.value.replace("_", " ").capitalize()


def _doing(build: BuildView) -> str:
    if build.waiting:
        return "Waiting again"
    return build.phase.value.capitalize() if build.phase else "Running"


_WORDS: Final = {
    StepStatus.RUNNING: "running",
    StepStatus.SUCCEEDED: "ran",
    StepStatus.FAILED: "failed",
    StepStatus.CANCELLED: "cancelled",
}
