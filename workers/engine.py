"""The worker's Docker Engine, over docker-py: does it answer, what can it, how full is it."""

from __future__ import annotations

import os
import platform as host
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import docker
import structlog
from docker.errors import DockerException, ImageNotFound
from requests.exceptions import RequestException

from farm.errors import AttemptError
from workers.buildx import plugin_path
from workers.orphans import end_orphans
from workers.process import tool

log = structlog.get_logger()

TIMEOUT_S = 10
NEARLY_FULL = 0.02
"""The share of a disk, in bytes or in files, below which it is as good as full."""
_ARCHITECTURES = {
    "x86_64": ("linux/amd64", "linux/386"),
    "aarch64": ("linux/arm64",),
    "armv7l": ("linux/arm/v7", "linux/arm/v6"),
    "ppc64le": ("linux/ppc64le",),
    "riscv64": ("linux/riscv64",),
    "s390x": ("linux/s390x",),
}
_EMULATORS = {
    "qemu-aarch64": "linux/arm64",
    "qemu-arm": "linux/arm/v7",
    "qemu-ppc64le": "linux/ppc64le",
    "qemu-riscv64": "linux/riscv64",
    "qemu-s390x": "linux/s390x",
    "qemu-x86_64": "linux/amd64",
}
_BINFMT = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Facts:
    """What a check-in says about the engine."""

    ok: bool
    platforms: list[str]
    containerd_store: bool
    data_root: Path | None
    versions: dict[str, str] = field(default_factory=dict)
    """For people."""


class Engine:
    """The engine that the environment names (DOCKER_HOST); nothing here raises."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._tools: dict[str, str] = {}
        self._data_root: Path | None = None

    def facts(self) -> Facts:
        """What the engine is and can; `ok` is False while it does not answer."""
        try:
            with self._client() as client:
                info = client.info()
        except (DockerException, RequestException, OSError, ValueError) as exc:
            log.warning("engine_silent", error=type(exc).__name__)
            return Facts(False, [_own_platform()], False, None, self._tool_versions())
        snapshotter = any(
            "containerd.snapshotter" in str(value)
            for row in info.get("DriverStatus") or ()
            for value in row
        )
        versions = {
            "engine": str(info.get("ServerVersion", "")),
            "kernel": str(info.get("KernelVersion", "")),
            "store": str(info.get("Driver", "")),
            **self._tool_versions(),
        }
        self._data_root = Path(str(info.get("DockerRootDir", "/var/lib/docker")))
        return Facts(
            ok=True,
            platforms=_platforms(str(info.get("Architecture", ""))),
            containerd_store=snapshotter,
            data_root=self._data_root,
            versions={name: version for name, version in versions.items() if version},
        )

    def end_orphans(self) -> None:
        """End RUN processes that outlived an engine on this host; does not ask the engine."""
        address = self._environment.get("DOCKER_HOST") or "unix://"
        if self._data_root is not None and address.startswith("unix://"):
            end_orphans(self._data_root)

    def disk_is_full(self) -> bool:
        """Whether the disk of the engine's data is nearly full; False where it cannot be seen."""
        if self._data_root is None:
            self.facts()
        try:
            return self._data_root is not None and is_nearly_full(os.statvfs(self._data_root))
        except OSError:  # an engine on another host
            return False

    def image_size(self, name: str) -> int | None:
        """The bytes of an image in the engine; None if it is not there."""
        try:
            with self._client() as client:
                return int(client.images.get(name).attrs.get("Size", 0))
        except (DockerException, RequestException, OSError):
            return None

    def untag(self, name: str) -> None:
        """Take a name from an image; an image that has no other goes. Gone already is fine."""
        try:
            with self._client() as client:
                client.images.remove(name, force=False, noprune=False)
        except ImageNotFound:
            return
        except (DockerException, RequestException, OSError) as exc:
            log.warning("image_not_untagged", image=name, error=type(exc).__name__)

    def untag_local(self, worker: str) -> None:
        """Take the local names of this worker's attempts that were killed."""
        local = re.compile(rf"farm-{re.escape(worker)}-\d+/local:")
        try:
            with self._client() as client:
                names = [tag for image in client.images.list() for tag in image.tags]
        except (DockerException, RequestException, OSError):
            return
        for name in names:
            if local.match(name):
                self.untag(name)

    def _client(self) -> _Closing:
        return _Closing(docker.from_env(timeout=TIMEOUT_S, environment=self._environment))

    def _tool_versions(self) -> dict[str, str]:
        if not self._tools:
            self._tools = {"buildx": buildx_version(self._environment), "git": git_version()}
        return self._tools


class _Closing:
    """A docker client that is closed at the end."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._docker = client

    def __enter__(self) -> docker.DockerClient:
        return self._docker

    def __exit__(self, *_: object) -> None:
        self._docker.close()


def is_nearly_full(disk: os.statvfs_result) -> bool:
    """Whether a file system is as good as full, in bytes or in files."""
    return disk.f_bavail < disk.f_blocks * NEARLY_FULL or disk.f_favail < disk.f_files * NEARLY_FULL


def disk_of(facts: Facts, fallback: Path) -> tuple[int, int]:
    """Free and total bytes where the engine keeps its data; of the worker's own disk otherwise.

    An engine on another host has its data where we cannot look.
    """
    for path in (facts.data_root, fallback):
        if path is not None and path.exists():
            usage = shutil.disk_usage(path)
            return usage.free, usage.total
    return 0, 0


def buildx_version(environment: Mapping[str, str]) -> str:
    """The plugin's version; empty if there is no plugin."""
    try:
        plugin = plugin_path(environment.get("HOME", "/root"))
    except AttemptError:
        return ""
    return " ".join(_said([str(plugin), "version"]).split()[1:2])


def git_version() -> str:
    """Git's version; empty if there is none."""
    try:
        return _said([tool("git"), "version"]).removeprefix("git version ")
    except AttemptError:
        return ""


def _said(command: list[str]) -> str:
    try:
        ended = subprocess.run(  # noqa: S603  our own arguments alone
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.strip()


def _own_platform() -> str:
    return _ARCHITECTURES.get(host.machine(), ("linux/amd64",))[0]


def _platforms(architecture: str) -> list[str]:
    """What the engine runs: its own architecture, and those that this host emulates."""
    own = _ARCHITECTURES.get(architecture, (_own_platform(),))
    emulated = [name for emulator, name in _EMULATORS.items() if (_BINFMT / emulator).exists()]
    return list(dict.fromkeys([*own, *emulated]))
