"""The states of a build, a part and an attempt, and the moves that are allowed.

One enum, one table of moves. `farm.lifecycle` is the only writer of a status and
reads this table; docs/states.md is generated from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class BuildStatus(StrEnum):
    """Where a build, or one part of it, stands."""

    WAITING_APPROVAL = "waiting_approval"
    """An outsider's pull request that nobody has approved: it holds no worker."""
    QUEUED = "queued"
    """May be placed on a worker."""
    RUNNING = "running"
    """Claimed by a worker."""
    SUCCEEDED = "succeeded"
    """Its digest is recorded and its tags are where they belong."""
    FAILED = "failed"
    """The project's fault: never retried by the farm."""
    ERRORED = "errored"
    """The farm's fault, and the attempts are used up."""
    CANCELLED = "cancelled"
    """People, or a newer commit, said so."""
    SKIPPED = "skipped"
    """A filter said so; kept, so that a required status on the forge ends."""

    @property
    def terminal(self) -> bool:
        """Whether the state can never change again."""
        return not MOVES[self]


MOVES: dict[BuildStatus, frozenset[BuildStatus]] = {
    BuildStatus.WAITING_APPROVAL: frozenset({BuildStatus.QUEUED, BuildStatus.CANCELLED}),
    BuildStatus.QUEUED: frozenset(
        {
            BuildStatus.RUNNING,
            BuildStatus.CANCELLED,
            BuildStatus.FAILED,
            BuildStatus.ERRORED,
        }
    ),
    BuildStatus.RUNNING: frozenset(
        {
            BuildStatus.SUCCEEDED,
            BuildStatus.FAILED,
            BuildStatus.QUEUED,
            BuildStatus.ERRORED,
            BuildStatus.CANCELLED,
        }
    ),
    BuildStatus.SUCCEEDED: frozenset(),
    BuildStatus.FAILED: frozenset(),
    BuildStatus.ERRORED: frozenset(),
    BuildStatus.CANCELLED: frozenset(),
    BuildStatus.SKIPPED: frozenset(),
}
"""From each state, the states it may move to (DESIGN section 5)."""

TERMINAL = frozenset(status for status in BuildStatus if not MOVES[status])

_WORST_FIRST = (
    BuildStatus.FAILED,
    BuildStatus.ERRORED,
    BuildStatus.CANCELLED,
    BuildStatus.SKIPPED,
    BuildStatus.SUCCEEDED,
)


def status_of_parts(parts: Iterable[BuildStatus]) -> BuildStatus:
    """The status of a build whose parts stand as given (at least one part)."""
    seen = set(parts)
    if seen <= TERMINAL:
        return next(status for status in _WORST_FIRST if status in seen)
    if BuildStatus.WAITING_APPROVAL in seen:
        return BuildStatus.WAITING_APPROVAL
    if seen == {BuildStatus.QUEUED}:
        return BuildStatus.QUEUED
    return BuildStatus.RUNNING


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The project's fault."""
    ERRORED = "errored"
    """The farm's fault, as its worker reported it."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """The worker fell silent past its lease."""
    HANDED_BACK = "handed_back"
    """The worker drained or shut down: no attempt is burnt."""


class StepStatus(StrEnum):
    """How a BuildKit step (a vertex) stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Zone(StrEnum):
    """Whose code a worker may run: one BuildKit state never serves two zones."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


class Trigger(StrEnum):
    """What asked for a build."""

    API = "api"
    CLI = "cli"
    WEBHOOK = "webhook"
    RETRY = "retry"


class Priority(StrEnum):
    """Who goes first among the builds that wait."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Phase(StrEnum):
    """What a running attempt is doing, for people who watch."""

    FETCHING = "fetching"
    BUILDING = "building"
    TAGGING = "tagging"
