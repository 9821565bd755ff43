"""What the list of builds shows: its filters as addresses, its rows, their bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from werkzeug.datastructures import MultiDict

from farm.history import BuildFilter
from farm.states import BuildStatus
from farm.views import BuildView, Waiting
from web import render

PATH: Final = "/builds"
SCALE: Final = 1000
"""The width of a page's scale, in the units of a bar's drawing."""
_LONGEST: Final = 255
_OUTLIER: Final = 4
"""A build this many times the page's 90th percentile is cut off, not the others flattened."""


@dataclass(frozen=True)
class Filters:
    """The list's filters as they stand in the address; unknown words are left out."""

    status: tuple[BuildStatus, ...] = ()
    project: str = ""
    pull_request: str = ""
    q: str = ""

    @classmethod
    def of(cls, query: MultiDict[str, str]) -> Filters:
        """Read them from a request's query; words that mean nothing are left out."""
        asked = set(query.getlist("status"))
        number = query.get("pull_request", "").strip().removeprefix("#")
        number = number if number.isascii() and number.isdecimal() and len(number) < 10 else ""
        return cls(
            status=tuple(status for status in BuildStatus if status.value in asked),
            project=_text(query, "project"),
            pull_request=str(int(number)) if number else "",
            q=_text(query, "q"),
        )

    @property
    def any(self) -> bool:
        """Whether the list is narrowed at all."""
        return self != Filters()

    @property
    def wanted(self) -> BuildFilter:
        """What to ask of the history."""
        return BuildFilter(
            status=self.status,
            project=self.project or None,
            pull_request=int(self.pull_request) if self.pull_request else None,
            q=self.q or None,
        )

    def address(self, *, cursor: str = "", without: str = "") -> str:
        """The list's address with these filters, from the cursor on, one filter dropped."""
        query: dict[str, str | Iterable[str]] = {
            "status": [status.value for status in self.status],
            "project": self.project,
            "pull_request": self.pull_request,
            "q": self.q,
        }
        query.pop(without, None)
        return render.address(PATH, {**query, "cursor": cursor})

    def toggled(self, status: BuildStatus) -> str:
        """The address with one status switched on or off."""
        wanted = tuple(s for s in BuildStatus if (s in self.status) != (s is status))
        return Filters(wanted, self.project, self.pull_request, self.q).address()


@dataclass(frozen=True)
class StatusLink:
    """One switch above the list."""

    status: BuildStatus
    on: bool
    address: str


@dataclass(frozen=True)
class Bar:
    """Waiting and building on the page's scale, in thousandths of its width."""

    queue: int
    build: int
    queue_s: float
    build_s: float | None
    cut: bool
    """It is longer than the scale."""


@dataclass(frozen=True)
class Row:
    """A build and its bar."""

    build: BuildView
    bar: Bar

    @property
    def times(self) -> str:
        """The bar in words."""
        waited = f"waited {render.duration(self.bar.queue_s)}"
        if self.bar.build_s is None:
            return waited
        return f"{waited}, built {render.duration(self.bar.build_s)}"

    @property
    def note(self) -> str:
        """What somebody wants to know about it first: why it waits, what it does, what went wrong."""
        build = self.build
        said = [f"attempt {build.attempts}"] if build.attempts > 1 else []
        if build.waiting:
            said.append(waiting_note(build.waiting))
        elif build.phase:
            said.append(f"{build.phase.value} on {build.worker}")
        elif build.finished and build.cause:
            said.append(build.cause.rstrip("."))
        return " · ".join(said)


@dataclass(frozen=True)
class History:
    """The rows of one page and the scale that they share."""

    rows: list[Row]
    scale_s: float

    @property
    def active(self) -> bool:
        """Whether any row may change while somebody looks."""
        return any(row.build.active for row in self.rows)


def history(builds: Sequence[BuildView], *, now: datetime) -> History:
    """Rows for the builds, their bars on one scale."""
    times = [(build, *_times(build, now)) for build in builds]
    scale = _scale([queue + (build or 0.0) for _, queue, build in times])
    return History([Row(view, _bar(queue, ran, scale)) for view, queue, ran in times], scale)


def status_links(filters: Filters) -> list[StatusLink]:
    """A switch for every status, in the order of a build's life."""
    return [
        StatusLink(status, status in filters.status, filters.toggled(status))
        for status in BuildStatus
    ]


def builds_of(project: str) -> str:
    """Where a project's builds are listed."""
    return Filters(project=project).address()


def waiting_note(waiting: Waiting) -> str:
    """Place in the line, reason and expected start, as far as they are known."""
    said = [f"{render.ordinal(waiting.position)} in line"] if waiting.position else []
    said.append(waiting.sentence.rstrip("."))
    if waiting.eta_s:
        said.append(f"may start in {render.span(waiting.eta_s)}")
    return " · ".join(said)


def _text(query: MultiDict[str, str], name: str) -> str:
    """What somebody typed; nothing when no name could ever be like it."""
    text = query.get(name, "").strip()
    return text if len(text) <= _LONGEST and text.isprintable() else ""


def _times(build: BuildView, now: datetime) -> tuple[float, float | None]:
    """Seconds waited and built so far; None when building has not begun."""
    ended = build.finished_at or now
    if build.started_at is None:
        return max(0.0, (ended - build.created_at).total_seconds()), None
    waited = max(0.0, (build.started_at - build.created_at).total_seconds())
    return waited, max(0.0, (ended - build.started_at).total_seconds())


def _scale(totals: Sequence[float]) -> float:
    """The longest build of the page, unless it dwarfs nearly all the others."""
    if not totals:
        return 1.0
    ordered = sorted(totals)
    usual = ordered[(len(ordered) - 1) * 9 // 10]
    longest = ordered[-1]
    return max(1.0, 1.25 * usual if usual and longest > _OUTLIER * usual else longest)


def _bar(queue_s: float, build_s: float | None, scale: float) -> Bar:
    queue = min(SCALE, round(SCALE * queue_s / scale))
    build = min(SCALE - queue, round(SCALE * (build_s or 0.0) / scale))
    return Bar(queue, build, queue_s, build_s, cut=queue_s + (build_s or 0.0) > 1.01 * scale)
