"""What `farm doctor` says about a Docker host: git, the engine, buildx, room for sources."""

from __future__ import annotations

import re
from collections.abc import Iterator

from farm.errors import SettingsError
from farm.findings import Finding

OLDEST_GIT = (2, 38)
"""The first with `safe.bareRepository`; CVE-2024-32002 and its kin are mended in 2.45.1."""
OLDEST_ENGINE = (23, 0)
"""The first with BuildKit as the builder."""
OLDEST_BUILDX = (0, 13)
"""The first with --progress=rawjson."""


def worker_host() -> Iterator[Finding]:
    """Whether a worker can build here; looks, and changes nothing."""
    from farm.settings import process_environment
    from workers.engine import Engine, buildx_version, git_version

    environment = process_environment()
    yield _tool("git", git_version(), OLDEST_GIT, "Install git 2.38 or later.")
    yield _tool(
        "docker-buildx",
        buildx_version(environment),
        OLDEST_BUILDX,
        "Install the buildx plugin 0.13 or later; `scripts/setup` does.",
    )
    facts = Engine(environment).facts()
    if not facts.ok:
        yield Finding(
            "docker engine",
            ok=False,
            detail="does not answer",
            cure="Start it, or set DOCKER_HOST to where it listens.",
        )
    else:
        yield _tool(
            "docker engine",
            facts.versions.get("engine", ""),
            OLDEST_ENGINE,
            "Install Docker Engine 23 or later; `scripts/setup` does.",
        )
    yield from _folders()


def _folders() -> Iterator[Finding]:
    from farm import settings as farm_settings
    from workers.toolbox import TMPFS

    try:
        settings = farm_settings.load().settings
    except SettingsError:
        return  # the control plane's finding says it already
    if settings.worker_tmp is None:
        yield Finding(
            "source folder",
            ok=TMPFS.is_dir(),
            detail=f"{TMPFS} {'is' if TMPFS.is_dir() else 'is not'} there",
            cure="Set FARM_WORKER_TMP to a folder on tmpfs: builds start faster.",
        )


def _tool(name: str, version: str, oldest: tuple[int, int], cure: str) -> Finding:
    found = re.search(r"(\d+)\.(\d+)", version)
    if found is None:
        return Finding(name, ok=False, detail="is not there", cure=cure)
    recent = (int(found[1]), int(found[2])) >= oldest
    return Finding(name, ok=recent, detail=f"version {version}", cure=cure)
