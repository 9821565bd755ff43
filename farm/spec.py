"""BuildSpec, what a build is to do, and the request that becomes one.

The one compile step has the API body today; `farm.yml` and workflow files come
into the same BuildSpec (DESIGN section 10). Field names mean what
docker/build-push-action means by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    model_validator,
)

from farm.references import (
    ImageReference,
    check_ref,
    check_repository_path,
    check_storable,
    check_text,
    parse_image_reference,
    parse_repository_url,
)
from farm.states import Priority, Zone

MAX_TIMEOUT_S = 24 * 3600
DEFAULT_TIMEOUT_S = 3600
MAX_ITEMS = 64
MAX_VALUE_BYTES = 4096

PLATFORMS = (
    "linux/386",
    "linux/amd64",
    "linux/arm/v5",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64",
    "linux/loong64",
    "linux/mips64le",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
)
_BUILD_ARG = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
_PROXY_ARGS = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"})
_LABEL = re.compile(r"^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$", re.IGNORECASE)
_RESERVED_LABELS = ("com.docker.", "io.docker.", "io.buildkit.", "org.dockerproject.")
_TARGET = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_SECRET_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$")
_WORKER_LABEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._=/-]{0,62}$")
_CACHE_KEYS = frozenset({"type", "ref", "mode", "compression", "image-manifest", "oci-mediatypes"})


def _check_value(value: str) -> str:
    check_storable(value)
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise ValueError(f"must not be longer than {MAX_VALUE_BYTES} bytes")
    if re.search(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", value):
        raise ValueError("must not contain control characters")
    return value


def _check_build_arg_name(name: str) -> str:
    if not _BUILD_ARG.match(name) or name.endswith("\n"):
        raise ValueError("must be a name of letters, digits and underscores")
    if name.upper().startswith("BUILDKIT_") or name.lower() in _PROXY_ARGS:
        raise ValueError("is set by the farm alone")
    return name


def _check_label_name(name: str) -> str:
    if len(name) > 255 or not _LABEL.match(name) or name.endswith("\n"):
        raise ValueError("must be a label name such as org.example.name")
    if name.lower().startswith(_RESERVED_LABELS):
        raise ValueError("is reserved")
    return name


def _check_pattern(pattern: re.Pattern[str], sentence: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.match(value) or value.endswith("\n"):
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def _check_platform(value: str) -> str:
    if value not in PLATFORMS:
        raise ValueError("must be a platform such as linux/amd64")
    return value


def _check_repository(value: str) -> str:
    parse_repository_url(value)
    return value


def _check_tag(value: str) -> str:
    return str(parse_image_reference(value))


def _check_cache(value: str) -> str:
    """A registry cache only: every other type names files or services of the worker."""
    check_text(value)
    if "=" not in value:
        parse_image_reference(value)
        return f"type=registry,ref={value}"
    pairs = _pairs(value)
    twice = len(pairs) != value.count(",") + 1
    if twice or not set(pairs) <= _CACHE_KEYS or pairs.get("type") not in ("registry", "inline"):
        raise ValueError("must be type=registry,ref=… or type=inline")
    if pairs["type"] == "registry":
        parse_image_reference(pairs.get("ref", ""))
    return value


def _pairs(entry: str) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for pair in entry.split(","))


def _check_sha(value: str) -> str:
    if not value.strip("0"):
        raise ValueError("must be a commit, not git's name for none")
    return value


def cached_images(entries: Iterable[str]) -> list[ImageReference]:
    """The images that cache entries name: addresses that a worker will call, as tags are."""
    named = [_pairs(entry).get("ref") for entry in entries]
    return [parse_image_reference(ref) for ref in named if ref]


RepositoryUrl = Annotated[str, AfterValidator(_check_repository)]
Ref = Annotated[str, AfterValidator(check_ref)]
Sha = Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$"), AfterValidator(_check_sha)]
RepositoryPath = Annotated[str, AfterValidator(check_repository_path)]
Tag = Annotated[str, AfterValidator(_check_tag)]
Platform = Annotated[str, AfterValidator(_check_platform)]
CacheEntry = Annotated[str, AfterValidator(_check_cache)]
Value = Annotated[str, AfterValidator(_check_value)]
BuildArgName = Annotated[str, AfterValidator(_check_build_arg_name)]
LabelName = Annotated[str, AfterValidator(_check_label_name)]
Target = Annotated[str, _check_pattern(_TARGET, "must be the name of a build stage")]
SecretName = Annotated[
    str,
    _check_pattern(_SECRET_NAME, "must be letters, digits, dots, dashes, underscores"),
]
WorkerLabel = Annotated[
    str,
    _check_pattern(_WORKER_LABEL, "must be a worker label such as gpu or disk=nvme"),
]


class BuildSpec(BaseModel):
    """What one build is to do, frozen: nothing in it changes after it is queued."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: RepositoryUrl
    pull_request: int | None = None
    ref: Ref | None = None
    """A branch, a tag or `refs/…`; None with no pull request: the default branch."""
    context: RepositoryPath = "."
    file: RepositoryPath = "Dockerfile"
    target: Target | None = None
    platforms: list[Platform] = []
    """Empty: the worker's own platform."""
    build_args: dict[BuildArgName, Value] = {}
    labels: dict[LabelName, Value] = {}
    tags: list[Tag] = []
    push: bool = False
    no_cache: bool = False
    pull: bool = False
    cache_from: list[CacheEntry] = []
    cache_to: list[CacheEntry] = []
    secrets: list[SecretName] = []
    """Stored names; each is also the secret's id in the Dockerfile."""
    runs_on: list[WorkerLabel] = []
    timeout_s: int = DEFAULT_TIMEOUT_S

    @property
    def git_ref(self) -> str:
        """What to fetch: the one full ref, or `HEAD` for the default branch."""
        if self.pull_request is not None:
            return f"refs/pull/{self.pull_request}/head"
        return self.ref or "HEAD"

    @property
    def needs_containerd_store(self) -> bool:
        """Whether only an engine with the containerd image store can do it."""
        return any("type=registry" in entry for entry in self.cache_to)


class BuildRequest(BaseModel):
    """The body of POST /api/v1/builds; what is not named here is refused."""

    model_config = ConfigDict(extra="forbid")

    repository: RepositoryUrl | None = None
    project: Annotated[str, Field(max_length=255), AfterValidator(check_text)] | None = None
    pull_request: Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)] | None = None
    ref: Ref | None = None
    sha: Sha | None = None
    context: RepositoryPath = "."
    file: RepositoryPath | None = None
    target: Target | None = None
    platforms: Annotated[list[Platform], Field(max_length=MAX_ITEMS)] = []
    build_args: Annotated[dict[BuildArgName, Value], Field(max_length=MAX_ITEMS)] = {}
    labels: Annotated[dict[LabelName, Value], Field(max_length=MAX_ITEMS)] = {}
    tags: Annotated[list[Tag], Field(max_length=MAX_ITEMS)] = []
    push: StrictBool | None = None
    no_cache: StrictBool = False
    pull: StrictBool = False
    cache_from: Annotated[list[CacheEntry], Field(max_length=MAX_ITEMS)] = []
    cache_to: Annotated[list[CacheEntry], Field(max_length=MAX_ITEMS)] = []
    secrets: Annotated[list[SecretName], Field(max_length=MAX_ITEMS)] = []
    timeout_s: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_S, strict=True)] = DEFAULT_TIMEOUT_S
    priority: Priority = Priority.NORMAL
    runs_on: Annotated[list[WorkerLabel], Field(max_length=MAX_ITEMS)] = []
    zone: Zone | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.repository is None) == (self.project is None):
            raise ValueError("name either repository or project")
        if self.pull_request is not None and self.ref is not None:
            raise ValueError("name either pull_request or ref, not both")
        if self.push and not self.tags:
            raise ValueError("push needs at least one tag")
        return self

    def compile(self, repository: str) -> BuildSpec:
        """The frozen spec of the build that is asked for, of the repository named."""
        wanted: dict[str, Any] = self.model_dump(
            include=set(BuildSpec.model_fields),
            exclude={"repository", "file", "push", "tags"},
        )
        context_file = "Dockerfile" if self.context == "." else f"{self.context}/Dockerfile"
        return BuildSpec(
            **wanted,
            repository=repository,
            file=self.file or context_file,
            tags=list(dict.fromkeys(self.tags)),
            push=bool(self.tags) if self.push is None else self.push,
        )
