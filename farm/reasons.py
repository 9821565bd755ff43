"""Why a build ended or waits: one enum, each member with a sentence of cause and of cure.

Pages, the command line and the API all show these sentences; `workers` choose a
reason, `farm.attempts` decides from its fault what happens next. What nobody
foresaw is UNKNOWN, shown with what was seen: never guessed, never retried.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class Fault(Enum):
    """Whose fault a reason is, and so what the farm does about it."""

    PROJECT = "project"
    """The build fails and is not tried again."""
    FARM = "farm"
    """Tried again, elsewhere if it can be, until its attempts are used up."""
    WAIT = "wait"
    """Tried again later without burning an attempt, up to the build's timeout."""
    PEOPLE = "people"
    """Somebody said so."""


class Reason(StrEnum):
    """Why a build, or one attempt at it, ended as it did."""

    STEP_FAILED = "step_failed"
    CHECK_FAILED = "check_failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    NO_SPACE = "no_space"
    REGISTRY_UNAUTHORIZED = "registry_unauthorized"
    REGISTRY_RATE_LIMITED = "registry_rate_limited"
    REGISTRY_UNAVAILABLE = "registry_unavailable"
    REPOSITORY_UNAUTHORIZED = "repository_unauthorized"
    REPOSITORY_UNAVAILABLE = "repository_unavailable"
    REF_NOT_FOUND = "ref_not_found"
    COMMIT_MOVED = "commit_moved"
    SOURCE_REFUSED = "source_refused"
    DOCKERFILE_INVALID = "dockerfile_invalid"
    BASE_IMAGE_UNAVAILABLE = "base_image_unavailable"
    CONFIGURATION_INVALID = "configuration_invalid"
    SECRET_MISSING = "secret_missing"  # noqa: S105
    WORKER_LOST = "worker_lost"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    WORKER_STOPPED = "worker_stopped"
    WORKER_FAULT = "worker_fault"
    UNSCHEDULABLE = "unschedulable"
    WAITED_TOO_LONG = "waited_too_long"
    SUPERSEDED = "superseded"
    REQUESTED = "requested"
    UNKNOWN = "unknown"

    @property
    def fault(self) -> Fault:
        """Whose fault it is."""
        return _EXPLAINED[self].fault

    @property
    def cause(self) -> str:
        """One sentence on what happened."""
        return _EXPLAINED[self].cause

    @property
    def cure(self) -> str:
        """One sentence on what to do."""
        return _EXPLAINED[self].cure


@dataclass(frozen=True)
class _Explanation:
    fault: Fault
    cause: str
    cure: str


_EXPLAINED = {
    Reason.STEP_FAILED: _Explanation(
        Fault.PROJECT,
        "A step of the Dockerfile ended with an error.",
        "Read the last lines of that step in the log, mend it and push a new commit.",
    ),
    Reason.CHECK_FAILED: _Explanation(
        Fault.PROJECT,
        "A check that runs in the built image failed, so no tag was moved.",
        "Open the check's output in the log, mend it and push a new commit.",
    ),
    Reason.TIMED_OUT: _Explanation(
        Fault.PROJECT,
        "The build took longer than its timeout.",
        "Raise timeout_s, or look for the step that hangs or misses its cache.",
    ),
    Reason.OUT_OF_MEMORY: _Explanation(
        Fault.PROJECT,
        "A step was killed because it used more memory than its slot may.",
        "Make the step need less memory, or send the build to a larger worker with runs_on.",
    ),
    Reason.NO_SPACE: _Explanation(
        Fault.FARM,
        "The worker's disk was full.",
        "The farm tries another worker; an operator should free disk on the one named here.",
    ),
    Reason.REGISTRY_UNAUTHORIZED: _Explanation(
        Fault.PROJECT,
        "The registry refused the credentials, or there are none for it.",
        "Set them with `farm registry login <host>` and retry the build.",
    ),
    Reason.REGISTRY_RATE_LIMITED: _Explanation(
        Fault.WAIT,
        "The registry asks to be called less often.",
        "The farm tries again by itself; credentials or a mirror raise the limit.",
    ),
    Reason.REGISTRY_UNAVAILABLE: _Explanation(
        Fault.WAIT,
        "The registry did not answer, or answered with an error of its own.",
        "The farm tries again by itself; check that the registry runs if this goes on.",
    ),
    Reason.REPOSITORY_UNAUTHORIZED: _Explanation(
        Fault.PROJECT,
        "The git server refused the credentials, or the repository is private or gone.",
        "Give the project a token that may read it: `farm project update NAME --git-token-stdin`.",
    ),
    Reason.REPOSITORY_UNAVAILABLE: _Explanation(
        Fault.FARM,
        "The git server did not answer.",
        "Check that the worker can reach the git server, then retry the build.",
    ),
    Reason.REF_NOT_FOUND: _Explanation(
        Fault.PROJECT,
        "The repository has no such branch, tag or pull request.",
        "Check the name or the number, then submit the build again.",
    ),
    Reason.COMMIT_MOVED: _Explanation(
        Fault.PROJECT,
        "The commit asked for is no longer part of its branch or pull request.",
        "Build the newer commit: submit again without sha, or with the new one.",
    ),
    Reason.SOURCE_REFUSED: _Explanation(
        Fault.PROJECT,
        "The commit holds files that the farm refuses to hand to a build.",
        "Remove what the message names from the commit; docs/security.md has the limits.",
    ),
    Reason.DOCKERFILE_INVALID: _Explanation(
        Fault.PROJECT,
        "The Dockerfile is missing or cannot be understood.",
        "Mend the line that the message names, or set file to the right path.",
    ),
    Reason.BASE_IMAGE_UNAVAILABLE: _Explanation(
        Fault.PROJECT,
        "An image that the Dockerfile builds on does not exist or may not be read.",
        "Check the name after FROM, or give credentials for its registry.",
    ),
    Reason.CONFIGURATION_INVALID: _Explanation(
        Fault.PROJECT,
        "The build's configuration does not fit the repository.",
        "Mend the field that the message names and submit again.",
    ),
    Reason.SECRET_MISSING: _Explanation(
        Fault.PROJECT,
        "The build asks for a secret that is not stored.",
        "Store it with `farm secret set <name>` and retry the build.",
    ),
    Reason.WORKER_LOST: _Explanation(
        Fault.FARM,
        "The worker fell silent while it was building.",
        "The farm tries elsewhere by itself; look at the worker if this goes on.",
    ),
    Reason.ENGINE_UNAVAILABLE: _Explanation(
        Fault.FARM,
        "The worker's Docker Engine stopped or does not answer.",
        "The farm tries again by itself; check the engine on the worker named here.",
    ),
    Reason.WORKER_STOPPED: _Explanation(
        Fault.WAIT,
        "The worker was stopped or drained while it was building.",
        "Nothing to do: the build goes to another worker, no attempt is burnt.",
    ),
    Reason.WORKER_FAULT: _Explanation(
        Fault.FARM,
        "The worker ran into an error of its own.",
        "The farm tries again by itself; the worker's own log has the details.",
    ),
    Reason.UNSCHEDULABLE: _Explanation(
        Fault.FARM,
        "No worker of the farm could ever take this build.",
        "Add a worker with the platform, labels and zone that the message names.",
    ),
    Reason.WAITED_TOO_LONG: _Explanation(
        Fault.FARM,
        "The build was queued for longer than the farm lets a build wait.",
        "Add workers, or look at what it waited for; then retry the build.",
    ),
    Reason.SUPERSEDED: _Explanation(
        Fault.PEOPLE,
        "A newer commit of the same pull request took this build's place.",
        "Nothing to do: look at the newer build.",
    ),
    Reason.REQUESTED: _Explanation(
        Fault.PEOPLE,
        "Somebody cancelled the build.",
        "Retry it if it is wanted after all.",
    ),
    Reason.UNKNOWN: _Explanation(
        Fault.PROJECT,
        "The build ended in a way that the farm does not know.",
        "Read what was seen in the message and the log; tell us if the farm should know it.",
    ),
}


class WaitReason(StrEnum):
    """Why a queued part has not started yet; the first rule that stops it."""

    NEW = "new"
    READING_CONFIGURATION = "reading_configuration"
    RETRY_LATER = "retry_later"
    NO_WORKER = "no_worker"
    UNSCHEDULABLE = "unschedulable"
    WORKERS_OFFLINE = "workers_offline"
    WORKERS_DRAINING = "workers_draining"
    DISK_LOW = "disk_low"
    PROJECT_CAP = "project_cap"
    SAME_GROUP = "same_group"
    SLOTS_BUSY = "slots_busy"
    WARM_WORKER_BUSY = "warm_worker_busy"
    NO_BROKER = "no_broker"
    PLACED = "placed"

    @property
    def sentence(self) -> str:
        """The reason for people."""
        return _SENTENCES[self]


_SENTENCES = {
    WaitReason.NEW: "Just submitted: placement looks at it within a second.",
    WaitReason.READING_CONFIGURATION: "The farm is reading the commit's configuration.",
    WaitReason.RETRY_LATER: "The farm waits before it tries again.",
    WaitReason.NO_WORKER: "No worker is connected.",
    WaitReason.UNSCHEDULABLE: "No worker has the zone, platform and labels that this build needs.",
    WaitReason.WORKERS_OFFLINE: "The workers that could take it are offline.",
    WaitReason.WORKERS_DRAINING: "The workers that could take it are draining.",
    WaitReason.DISK_LOW: "The workers that could take it are short of disk.",
    WaitReason.PROJECT_CAP: "The project already runs as many builds as it may.",
    WaitReason.SAME_GROUP: "Another build of the same pull request is running: one at a time.",
    WaitReason.SLOTS_BUSY: "Every slot of the workers that could take it is busy.",
    WaitReason.WARM_WORKER_BUSY: "It waits for the worker that holds its cache: that is quicker than a cold start.",
    WaitReason.NO_BROKER: "The farm cannot reach Redis, which carries work to its workers.",
    WaitReason.PLACED: "Sent to a worker that has not started it yet.",
}
