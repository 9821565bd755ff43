"""What the tests of faults on one host share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.sample.processes import wait_until
from scripts.sample.repositories import Repository
from tests.drill import checker
from tests.services.engine import Engine
from tests.services.farm import RunningFarm, processes_with
from tests.services.registry import Registry

Build = dict[str, Any]

NOW = "now-in-the-step"
SAY_NOW = "echo now-in-the-st''ep"
"""Only its output says it: the step's name is in the log before the step runs."""


def dockerfile(repository: Repository, base_image: str, *steps: str) -> None:
    """Give pull request 1 a Dockerfile with these RUN steps."""
    lines = [f"FROM {base_image}", "COPY . /app", *(f"RUN {step}" for step in steps)]
    repository.push_to_pull_request(1, {"Dockerfile": "\n".join(lines) + "\n"})


def outcomes(build: Build) -> list[str | None]:
    """How the attempts of a build ended, in their order."""
    return [attempt["outcome"] for part in build["parts"] for attempt in part["attempts"]]


def workers_of(build: Build) -> list[str]:
    """Who had the attempts of a build, in their order."""
    return [attempt["worker"] for part in build["parts"] for attempt in part["attempts"]]


def part_of(build: Build) -> int:
    """The id of its only part."""
    return int(build["parts"][0]["id"])


def nothing_is_left(
    farm: RunningFarm,
    registry: Registry,
    engine: Engine,
    *,
    mark: str = "no such process",
    workers: Sequence[str] = ("one",),
    ended: Sequence[str] = (),
) -> None:
    """No build is lost, none was accepted twice, the registry is as the database says, and no
    process, folder, credential, result or container is left on the host.

    `mark` is a text of the RUN processes; `ended` names the builds that were not to succeed.
    """
    wait_until(
        lambda: _left(farm, engine, mark, workers) == [],
        what=f"host clean of {_left(farm, engine, mark, workers)}",
        seconds=15,
    )
    wrong = checker.check(farm.database_url, registry.host, []).wrong
    excused = tuple(f"build {build_id} is " for build_id in ended)
    assert [line for line in wrong if not (excused and line.startswith(excused))] == []


def _left(farm: RunningFarm, engine: Engine, mark: str, workers: Sequence[str]) -> list[str]:
    found = [f"RUN {pid}" for pid in processes_with(mark)]
    found += [f"container {name}" for name in engine.docker("ps", "-aq").split()]
    for name in workers:
        found += [str(p) for p in farm.tmp_of(name).rglob("*") if p.is_file()]
        found += [str(p) for p in (farm.folder / name / "spool").glob("*")]
        found += [f"buildx {p}" for p in processes_with(str(farm.tmp_of(name))) if is_buildx(p)]
    return found


def is_buildx(pid: int) -> bool:
    """Whether a process is a buildx that works."""
    try:
        return b"docker-buildx" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
