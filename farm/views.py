"""What people see of builds, projects and workers: the shapes of API answers and pages.

The field names are a contract (docs/api.md). Rules that a page needs, such as
"does this need attention?", are properties here, so that templates only show.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

from farm.reasons import Reason, WaitReason
from farm.states import BuildStatus, Outcome, Phase, Priority, StepStatus, Trigger, Zone


def rfc3339(moment: datetime) -> str:
    """UTC with milliseconds and Z, as RFC 3339 has it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


Moment = Annotated[datetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]
Seconds = Annotated[float, PlainSerializer(lambda s: round(s, 3), return_type=float)]


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Waiting(View):
    """Why a queued build has not started."""

    reason: WaitReason
    position: int | None
    """Its place in the line, from 1."""
    eta_s: tuple[float, float] | None
    """When it may start, in seconds from now: a range from the project's own history."""

    @property
    def sentence(self) -> str:
        return self.reason.sentence


class AttemptView(View):
    number: int
    worker: str
    started_at: Moment
    finished_at: Moment | None
    outcome: Outcome | None
    """None while it runs."""
    reason: Reason | None
    message: str | None


class PartView(View):
    id: int
    platform: str | None
    """None: whatever its worker has."""
    status: BuildStatus
    phase: Phase | None
    attempts: list[AttemptView]


class ImageView(View):
    digest: str
    tags: list[str]
    """The tags that this build pointed to it; a newer build may own them by now."""
    size: int | None
    """Compressed bytes in the registry (or, unpushed, bytes in the engine)."""

    @property
    def pull_reference(self) -> str | None:
        """What `docker pull` takes to get these very bytes; None when they were not pushed."""
        if not self.tags:
            return None
        head, _, last = self.tags[0].rpartition("/")
        repository = f"{head}/{last.partition(':')[0]}" if head else last.partition(":")[0]
        return f"{repository}@{self.digest}"


class StepCount(View):
    total: int
    cached: int

    @property
    def cached_percent(self) -> int | None:
        """The share of steps that the cache answered; None without steps."""
        return 100 * self.cached // self.total if self.total else None


class BuildView(View):
    id: str
    status: BuildStatus
    reason: Reason | None
    message: str | None
    cure: str | None
    project: str
    repository: str
    pull_request: int | None
    ref: str | None
    sha: str | None
    trigger: Trigger
    priority: Priority
    waiting: Waiting | None
    parts: list[PartView]
    image: ImageView | None
    steps: StepCount
    retry_of: str | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    queue_s: Seconds | None
    """Seconds between being asked for and being started."""
    duration_s: Seconds | None
    """Seconds between start and end; of a running build None."""
    url: str
    """The address of its page."""

    @property
    def cause(self) -> str | None:
        """One sentence on why it ended as it did."""
        return self.reason.cause if self.reason else None

    @property
    def finished(self) -> bool:
        return self.status.terminal

    @property
    def subject(self) -> str:
        """What it built, for people: the pull request, the ref or the default branch."""
        if self.pull_request is not None:
            return f"#{self.pull_request}"
        return (self.ref or "default branch").removeprefix("refs/heads/").removeprefix("refs/tags/")

    @property
    def active(self) -> bool:
        """Whether it may change while somebody looks."""
        return not self.finished

    @property
    def short_sha(self) -> str | None:
        """Enough of the commit to tell it from others by eye."""
        return self.sha[:8] if self.sha else None

    @property
    def attempts(self) -> int:
        """The most attempts that any of its parts has had."""
        return max((len(part.attempts) for part in self.parts), default=0)

    @property
    def phase(self) -> Phase | None:
        """What it is doing right now, while it runs."""
        return next((p.phase for p in self.parts if p.phase and not p.status.terminal), None)

    @property
    def worker(self) -> str | None:
        """Where the newest attempt of its first part runs or ran."""
        tried = [part.attempts[-1].worker for part in self.parts if part.attempts]
        return tried[0] if tried else None

    @property
    def can_cancel(self) -> bool:
        """Whether asking for it to stop makes sense: not once its image is published."""
        return self.active and all(part.phase is not Phase.TAGGING for part in self.parts)

    @property
    def can_retry(self) -> bool:
        """Whether a new build of the same makes sense: this one is over and did run."""
        return self.finished and self.status is not BuildStatus.SKIPPED


class BuildPage(View):
    items: list[BuildView]
    next_cursor: str | None


class StepView(View):
    number: int
    name: str
    status: StepStatus
    cached: bool
    started_at: Moment | None
    duration_s: Seconds | None
    platform: str | None
    attempt: int


class ProjectView(View):
    id: str
    name: str
    repository: str
    git_username: str | None
    has_git_token: bool
    created_at: Moment


class WorkerView(View):
    id: str
    name: str
    zone: Zone
    labels: list[str]
    slots: int
    busy: int
    """Builds that it runs or has been sent."""
    platforms: list[str]
    online: bool
    draining: bool
    engine_ok: bool
    version: str
    engine: dict[str, str]
    disk_free: int
    disk_total: int
    last_seen_at: Moment | None

    @property
    def state(self) -> str:
        """One word for a list: online, draining, engine down or offline."""
        if not self.online:
            return "offline"
        if not self.engine_ok:
            return "engine down"
        return "draining" if self.draining else "online"

    @property
    def disk_used(self) -> int:
        """Bytes of its disk that are taken."""
        return max(0, self.disk_total - self.disk_free)


class SecretView(View):
    """A stored secret, never its value."""

    name: str
    project: str | None
    updated_at: Moment


class RegistryView(View):
    """A login to a registry, never its password."""

    host: str
    username: str
    project: str | None
    updated_at: Moment


class TokenView(View):
    id: str
    name: str
    scopes: list[str]
    created_at: Moment
    last_used_at: Moment | None
    expires_at: Moment | None
    revoked: bool
