"""What crosses the wire between a worker and the control plane.

`web/worker_api.py` answers, `workers/control.py` asks; both use these shapes and
nothing else. Every verb about an attempt is

    POST /worker/v1/attempts/<part>/<attempt>/<verb>     Farm-Claim: <token drawn by the worker>

and is fenced by (part, attempt, claim token): an answer 409 with code
`stale_attempt` means that this attempt is void, so stop and report nothing. Every
verb may be repeated.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from farm.reasons import Reason
from farm.spec import BuildSpec
from farm.states import Outcome, Phase, StepStatus

PROTOCOL = 1
"""Raised when a change would break a worker of the version before."""

CLAIM_HEADER = "Farm-Claim"
ATTEMPT_TASK = "farm.attempt"
"""The name of the one Celery task of a worker: arguments (part id, attempt number)."""

LOG_CHUNK_BYTES = 64 * 1024
"""The most log bytes that one call may carry."""

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"


def _without_nul(text: str) -> str:
    """Postgres stores no NUL, and a Dockerfile may print one."""
    return text.replace("\x00", "")


def _in_utc(moment: datetime) -> datetime:
    """A moment that both databases can hold in any time zone; without a zone it is UTC."""
    if not 1 < moment.year < 9999:
        raise ValueError("must be a moment of the years 2 to 9998")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Word = Annotated[str, AfterValidator(_without_nul)]
Text = Annotated[str, Field(max_length=4000), AfterValidator(_without_nul)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]
Duration = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]
ByteCount = Annotated[int, Field(ge=0, le=2**53)]


def queue_of(worker: str) -> str:
    """The Celery queue of the worker with that name."""
    return f"worker.{worker}"


def cancel_channel_of(worker: str) -> str:
    """The Redis channel that wakes a worker for a cancel: payload `<part>.<attempt>`."""
    return f"farm.cancel.{worker}"


class Wire(BaseModel):
    """Unknown fields are refused: both sides speak one protocol version."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Enrolment(Wire):
    """POST /worker/v1/enrol, with an enrolment token (scope `worker`) as the bearer."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    protocol: int
    instance: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Drawn once and kept on the worker's disk: the same worker may enrol again
    under its name; another one gets a name with a number behind it."""


class Enrolled(Wire):
    name: str
    token: str
    """The worker's own token, shown once, for every later call."""


class CheckIn(Wire):
    """POST /worker/v1/check-in, with the worker's own token, at start and every heartbeat."""

    protocol: int
    version: Annotated[Word, Field(max_length=100)]
    slots: Annotated[int, Field(ge=1, le=256)]
    platforms: Annotated[list[Word], Field(min_length=1, max_length=50)]
    containerd_store: bool
    engine: dict[Word, Word]
    """Facts for people: versions of the engine, buildx, git, the kernel."""
    engine_ok: bool = True
    """False while the engine does not answer: nothing is placed here."""
    disk_free: ByteCount
    disk_total: ByteCount
    stopping: bool = False
    """True with the last words of a worker that shuts down: place nothing here until it
    checks in again without."""


class CheckedIn(Wire):
    name: str
    queue: str
    broker_url: str
    heartbeat_s: float
    lease_s: float
    draining: bool


class GitCredential(Wire):
    username: str
    password: str


class RegistryCredential(Wire):
    host: str
    username: str
    password: str


class Credentials(Wire):
    """For one attempt only; never written anywhere but its own private folder."""

    git: GitCredential | None = None
    registries: list[RegistryCredential] = []
    secrets: dict[str, str] = {}
    """Stored name -> value; the BuildKit id of a secret is its stored name."""


class PublishedImage(Wire):
    """What an earlier attempt published: only its tags are still to be PUT."""

    digest: Digest
    size: int | None


class ClaimAnswer(Wire):
    """What a worker gets with its claim."""

    build_id: str
    part_id: int
    attempt: int
    platform: str | None
    """None: the worker's own."""
    project_id: int
    spec: BuildSpec
    sha: str | None
    """The commit, where somebody named it or an earlier attempt resolved it."""
    trusted_host: bool = False
    """An admin registered the repository: its host may be a private address."""
    credentials: Credentials
    farm_labels: dict[str, str]
    """Labels that the farm puts on every image; the project's own win."""
    timeout_s: float
    """What is left of the build's timeout."""
    log_limit: int
    published: PublishedImage | None
    lease_s: float
    heartbeat_s: float


class Resolved(Wire):
    """The commit that this attempt found: the first report wins."""

    sha: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    commit_date: Moment


class Commit(Wire):
    """The build's commit: what every attempt must build."""

    sha: str
    commit_date: Moment


class Heartbeat(Wire):
    phase: Phase


class Carried(Wire):
    """The answer to a heartbeat or to steps."""

    cancel: bool
    lease_s: float


class StepReport(Wire):
    """One BuildKit vertex; reported again whenever it changes."""

    number: Annotated[int, Field(ge=1, le=100_000)]
    name: Text
    status: StepStatus
    cached: bool
    started_at: Moment | None
    duration_s: Duration | None


class Steps(Wire):
    steps: Annotated[list[StepReport], Field(max_length=1000)]


class LogReceived(Wire):
    """The answer to POST …/log?offset=N with the bytes as the body.

    `size` is what the control plane has: send on from there, also when it is less
    than was sent before.
    """

    size: int
    next_ms: int
    cancel: bool


class Publish(Wire):
    """The image is in the registry under the slot's own tag (or, unpushed, in the engine)."""

    digest: Digest
    size: ByteCount | None


class DesiredTag(Wire):
    """What a name in a registry should point to; None: the farm does not know."""

    reference: str
    digest: str | None


class PublishAnswer(Wire):
    """Recorded: from here the build can no longer be cancelled.

    `owned` tags are to be PUT by digest and read back, then *publish* is asked
    again until the answer is unchanged; `others` belong to newer builds.
    """

    owned: list[str]
    others: list[DesiredTag]


class Finish(Wire):
    """How the attempt ended. An outcome other than `succeeded` needs a reason."""

    outcome: Outcome
    reason: Reason | None = None
    message: Text = ""
    digest: Digest | None = None
    size: ByteCount | None = None
    log_size: ByteCount = 0
    phases: dict[Word, Duration] = {}
    """Seconds spent in each part of the recipe, for the timeline."""


class HandBack(Wire):
    """The worker stops or drains: the part is queued again, no attempt is burnt."""

    message: Text = ""
