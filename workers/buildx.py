"""BuildKit, over the docker-buildx plugin run directly: a spec in, a digest or a typed error out.

The plugin itself, not `docker buildx`: 20 to 40 ms less of every build. Its
environment is rebuilt from nothing and it finds no git: buildx would run git inside
the context, where a hostile repository's config is code (docs/security.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from farm.errors import AttemptError
from farm.protocol import DIGEST_PATTERN, StepReport
from farm.reasons import Reason
from farm.spec import BuildSpec
from workers.attemptdir import AttemptDir
from workers.diagnosis import NO_SPACE, diagnose
from workers.process import Child
from workers.rawjson import Decoder, Report
from workers.steps import Progress
from workers.stop import Stop

PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
READ_BYTES = 256 * 1024
SETTLE_S = 0.1
"""How long the end of a step may wait for a sign that it started again."""
LOOK_AGAIN_S = 0.5
TEXT_LINES = 200
"""How many lines outside every step are kept to tell why a build failed."""

PASSED_ON = frozenset(
    {
        *("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    }
)
"""The worker's own variables that reach buildx: which engine, and how out to a registry."""


@cache
def plugin_path(home: str) -> Path:
    """Where the buildx plugin is, in the docker client's order of search.

    Raises AttemptError (engine_unavailable) when this host has none.
    """
    for folder in (f"{home}/.docker/cli-plugins", *PLUGIN_FOLDERS):
        path = Path(folder, "docker-buildx")
        if os.access(path, os.X_OK) and path.is_file():
            return path
    found = shutil.which("docker-buildx") or shutil.which("buildx")
    if found is None:
        raise AttemptError(Reason.ENGINE_UNAVAILABLE, "this worker has no docker-buildx plugin")
    return Path(found)


@dataclass(frozen=True)
class BuildOrder:
    """All that one call of buildx depends on; every value was checked before."""

    spec: BuildSpec
    platform: str | None
    context: Path
    """An absolute path that we made; a relative or foreign one is never passed."""
    dockerfile: Path
    labels: Mapping[str, str]
    names: Sequence[str]
    """What the image is called in the engine and, pushed, in each registry: slot tags alone."""
    secrets: Mapping[str, Path]
    """BuildKit id -> a 0600 file in the attempt's folder."""


@dataclass(frozen=True)
class Built:
    """What came out: the digest from the metadata file, never from log text."""

    digest: str


def arguments(order: BuildOrder, metadata: Path) -> list[str]:
    """The argument list after `docker-buildx`, options in a fixed order."""
    spec = order.spec
    options = [
        *("build", "--builder", "default", "--progress=rawjson", "--metadata-file", str(metadata)),
        *("--provenance=false", "--file", str(order.dockerfile)),
    ]
    options += ["--target", spec.target] if spec.target else []
    options += ["--platform", order.platform] if order.platform else []
    options += ["--pull"] if spec.pull else []
    options += ["--no-cache"] if spec.no_cache else []
    for name, value in sorted(spec.build_args.items()):
        # Never `--build-arg NAME` alone: that copies the worker's environment into the build.
        options += ["--build-arg", f"{name}={value}"]
    for name, value in sorted(order.labels.items()):
        options += ["--label", f"{name}={value}"]
    for name, path in sorted(order.secrets.items()):
        options += ["--secret", f"id={name},src={path}"]
    for entry in spec.cache_from:
        options += ["--cache-from", entry]
    for entry in spec.cache_to:
        options += ["--cache-to", entry]
    for name in order.names:
        options += ["--tag", name]
    options += ["--push"] if spec.push else ["--output", "type=docker"]
    return [*options, str(order.context)]


def labels_of(
    spec: BuildSpec, farm_labels: Mapping[str, str], *, sha: str, commit_date: datetime
) -> dict[str, str]:
    """The image's labels: what only the commit knows, the farm's, and the project's, which win.

    `created` is the commit's date: a build that is cached from end to end then has the
    same manifest again, byte for byte.
    """
    return {
        "org.opencontainers.image.revision": sha,
        "org.opencontainers.image.source": spec.repository,
        "org.opencontainers.image.created": commit_date.isoformat().replace("+00:00", "Z"),
        **farm_labels,
        **spec.labels,
    }


def environment(folder: AttemptDir, own: Mapping[str, str]) -> dict[str, str]:
    """Buildx's whole environment (docs/security.md; BUILDX_GIT_INFO=false is what counts)."""
    return {
        **{name: value for name, value in own.items() if name in PASSED_ON},
        "PATH": str(folder.empty),
        "HOME": str(folder.empty),
        "LC_ALL": "C.UTF-8",
        "DOCKER_CONFIG": str(folder.docker_config),
        "BUILDX_CONFIG": str(folder.buildx_config),
        "GIT_CONFIG_GLOBAL": str(folder.git_config),
        "GIT_CONFIG_NOSYSTEM": "1",
        "BUILDX_GIT_INFO": "false",
        "BUILDX_GIT_LABELS": "0",
        "BUILDX_GIT_CHECK_DIRTY": "0",
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        "BUILDX_DEFAULT_POLICY": "1",
    }


class Buildx:
    """Runs builds on the engine that the worker's environment names."""

    def __init__(
        self, own_environment: Mapping[str, str], *, disk_is_full: Callable[[], bool]
    ) -> None:
        self._own = own_environment
        self._disk_is_full = disk_is_full

    def build(
        self,
        order: BuildOrder,
        folder: AttemptDir,
        stop: Stop,
        *,
        patterns: tuple[bytes, ...],
        on_line: Callable[[str], None],
        on_step: Callable[[StepReport], None],
    ) -> Built:
        """Build, and push under the slot's tags if the spec says so.

        Raises AttemptError with the reason, or what `stop` says. Lines and steps come
        masked, from the calling thread.
        """
        disk = DiskWatch(self._disk_is_full)
        progress = Progress(on_line=disk.listening(on_line), on_step=on_step, patterns=patterns)
        metadata = folder.new_metadata_file()
        command = [
            str(plugin_path(self._own.get("HOME", "/root"))),
            *arguments(order, metadata),
        ]
        with (
            Child(command, env=environment(folder, self._own), cwd=folder.empty) as child,
            stop.watching(child),
        ):
            folder.record(child.identity)
            text = _follow(child, progress)
            code = child.wait()
        stop.check()
        if code != 0:
            raise diagnose(code, progress.steps, text, disk_was_full=disk.was_full)
        return Built(_digest(metadata))


class DiskWatch:
    """Looks at the disk when a step says that it is full: later, the step's files are gone."""

    def __init__(self, is_full: Callable[[], bool]) -> None:
        self._is_full = is_full
        self._looked_at = 0.0
        self.was_full = False

    def listening(self, on_line: Callable[[str], None]) -> Callable[[str], None]:
        """The same, and it looks out for the words."""

        def heard(line: str) -> None:
            on_line(line)
            if not self.was_full and NO_SPACE.search(line):
                self._look()

        return heard

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_AGAIN_S:  # a step may say it a million times
            self._looked_at = now
            self.was_full = self._is_full()


def _follow(child: Child, progress: Progress) -> list[str]:
    """Read buildx's stderr to its end; the plain text in it comes back."""
    decoder = Decoder()
    text: list[str] = []

    def take(items: Iterator[Report | str]) -> None:
        for item in items:
            if isinstance(item, Report):
                progress.take(item)
            else:
                progress.text(item)
                text[:] = [*text[1 - TEXT_LINES :], item]

    stream = child.process.stderr
    if stream is None:
        return text
    with contextlib.closing(selectors.DefaultSelector()) as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(SETTLE_S):
                progress.settle()
                continue
            chunk = os.read(stream.fileno(), READ_BYTES)
            if not chunk:
                break
            take(decoder.feed(chunk))
    take(decoder.close())
    progress.close()
    return text


def _digest(metadata: Path) -> str:
    try:
        found = json.loads(metadata.read_bytes()).get("containerimage.digest", "")
    except (OSError, ValueError) as exc:
        raise AttemptError(Reason.UNKNOWN, "buildx wrote no metadata file") from exc
    if not re.match(DIGEST_PATTERN, str(found)):
        raise AttemptError(Reason.UNKNOWN, "buildx reported no image digest")
    return str(found)
