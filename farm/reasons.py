"""Why a build ended or waits: one enum, each member with a sentence of cause and of cure.

Pages, the command line and the API all show these sentences; `workers` choose a
reason, `farm.attempts` decides from its fault what happens next. What nobody
foresaw is UNKNOWN, shown with what was seen: never guessed, never retried.
"""

from __future__ import annotations

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

    fault: Fault
    cause: str
    cure: str

    def __new__(cls, code: str, fault: Fault, cause: str, cure: str) -> Reason:
        member = str.__new__(cls, code)
        member._value_ = code
        member.fault = fault
        member.cause = cause
        member.cure = cure
        return member

    STEP_FAILED = (
        "step_failed",
        Fault.PROJECT,
        "A step of the Dockerfile ended with an error.",
        "Read the last lines of that step in the log, mend it and push a new commit.",
    )
    CHECK_FAILED = (
        "check_failed",
        Fault.PROJECT,
        "A check that runs in the built image failed, so no tag was moved.",
        "Open the check's output in the log, mend it and push a new commit.",
    )
    TIMED_OUT = (
        "timed_out",
        Fault.PROJECT,
        "The build took longer than its timeout.",
        "Raise timeout_s, or look for the step that hangs or misses its cache.",
    )
    OUT_OF_MEMORY = (
        "out_of_memory",
        Fault.PROJECT,
        "A step was killed because it used more memory than its slot may.",
        "Make the step need less memory, or send the build to a larger worker with runs_on.",
    )
    NO_SPACE = (
        "no_space",
        Fault.FARM,
        "The worker's disk was full.",
        "The farm tries another worker; an operator should free disk on the one named here.",
    )
    REGISTRY_UNAUTHORIZED = (
        "registry_unauthorized",
        Fault.PROJECT,
        "The registry refused the credentials, or there are none for it.",
        "Set them with `farm registry login <host>` and retry the build.",
    )
    REGISTRY_RATE_LIMITED = (
        "registry_rate_limited",
        Fault.WAIT,
        "The registry asks to be called less often.",
        "The farm tries again by itself; credentials or a mirror raise the limit.",
    )
    REGISTRY_UNAVAILABLE = (
        "registry_unavailable",
        Fault.WAIT,
        "The registry did not answer, or answered with an error of its own.",
        "The farm tries again by itself; check that the registry runs if this goes on.",
    )
    REPOSITORY_UNAUTHORIZED = (
        "repository_unauthorized",
        Fault.PROJECT,
        "The git server refused the credentials, or the repository is private or gone.",
        "Give the project a token that may read it: `farm project add --git-token`.",
    )
    REPOSITORY_UNAVAILABLE = (
        "repository_unavailable",
        Fault.FARM,
        "The git server did not answer.",
        "Check that the worker can reach the git server, then retry the build.",
    )
    REF_NOT_FOUND = (
        "ref_not_found",
        Fault.PROJECT,
        "The repository has no such branch, tag or pull request.",
        "Check the name or the number, then submit the build again.",
    )
    COMMIT_MOVED = (
        "commit_moved",
        Fault.PROJECT,
        "The commit asked for is no longer part of its branch or pull request.",
        "Build the newer commit: submit again without sha, or with the new one.",
    )
    SOURCE_REFUSED = (
        "source_refused",
        Fault.PROJECT,
        "The commit holds files that the farm refuses to hand to a build.",
        "Remove what the message names from the commit; docs/security.md has the limits.",
    )
    DOCKERFILE_INVALID = (
        "dockerfile_invalid",
        Fault.PROJECT,
        "The Dockerfile is missing or cannot be understood.",
        "Mend the line that the message names, or set file to the right path.",
    )
    BASE_IMAGE_UNAVAILABLE = (
        "base_image_unavailable",
        Fault.PROJECT,
        "An image that the Dockerfile builds on does not exist or may not be read.",
        "Check the name after FROM, or give credentials for its registry.",
    )
    CONFIGURATION_INVALID = (
        "configuration_invalid",
        Fault.PROJECT,
        "The build's configuration does not fit the repository.",
        "Mend the field that the message names and submit again.",
    )
    SECRET_MISSING = (
        "secret_missing",
        Fault.PROJECT,
        "The build asks for a secret that is not stored.",
        "Store it with `farm secret set <name>` and retry the build.",
    )
    WORKER_LOST = (
        "worker_lost",
        Fault.FARM,
        "The worker fell silent while it was building.",
        "The farm tries elsewhere by itself; look at the worker if this goes on.",
    )
    ENGINE_UNAVAILABLE = (
        "engine_unavailable",
        Fault.FARM,
        "The worker's Docker Engine stopped or does not answer.",
        "The farm tries again by itself; check the engine on the worker named here.",
    )
    WORKER_STOPPED = (
        "worker_stopped",
        Fault.WAIT,
        "The worker was stopped or drained while it was building.",
        "Nothing to do: the build goes to another worker, no attempt is burnt.",
    )
    WORKER_FAULT = (
        "worker_fault",
        Fault.FARM,
        "The worker ran into an error of its own.",
        "The farm tries again by itself; the worker's own log has the details.",
    )
    UNSCHEDULABLE = (
        "unschedulable",
        Fault.FARM,
        "No worker of the farm could ever take this build.",
        "Add a worker with the platform, labels and zone that the message names.",
    )
    SUPERSEDED = (
        "superseded",
        Fault.PEOPLE,
        "A newer commit of the same pull request took this build's place.",
        "Nothing to do: look at the newer build.",
    )
    REQUESTED = (
        "requested",
        Fault.PEOPLE,
        "Somebody cancelled the build.",
        "Retry it if it is wanted after all.",
    )
    UNKNOWN = (
        "unknown",
        Fault.PROJECT,
        "The build ended in a way that the farm does not know.",
        "Read what was seen in the message and the log; tell us if the farm should know it.",
    )


class WaitReason(StrEnum):
    """Why a queued part has not started yet; the first rule that stops it."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> WaitReason:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    NEW = ("new", "Just submitted: placement looks at it within a second.")
    READING_CONFIGURATION = (
        "reading_configuration",
        "The farm is reading the commit's configuration.",
    )
    RETRY_LATER = ("retry_later", "The farm waits before it tries again.")
    NO_WORKER = ("no_worker", "No worker is connected.")
    UNSCHEDULABLE = (
        "unschedulable",
        "No worker has the zone, platform and labels that this build needs.",
    )
    WORKERS_OFFLINE = ("workers_offline", "The workers that could take it are offline.")
    WORKERS_DRAINING = ("workers_draining", "The workers that could take it are draining.")
    DISK_LOW = ("disk_low", "The workers that could take it are short of disk.")
    PROJECT_CAP = ("project_cap", "The project already runs as many builds as it may.")
    SAME_GROUP = (
        "same_group",
        "An earlier build of the same pull request or branch is running.",
    )
    SLOTS_BUSY = ("slots_busy", "Every slot of the workers that could take it is busy.")
    WARM_WORKER_BUSY = (
        "warm_worker_busy",
        "It waits for the worker that holds its cache: that is quicker than a cold start.",
    )
    PLACED = ("placed", "Sent to a worker that has not started it yet.")
