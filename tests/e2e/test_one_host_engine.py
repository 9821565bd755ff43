"""Faults of the engine and of its client, mid-build, with an engine of this file's own."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.sample.engine import start_engine
from scripts.sample.processes import pid_is_alive, wait_until
from scripts.sample.repositories import Repository
from tests.e2e.one_host import NOW, SAY_NOW, dockerfile, is_buildx, nothing_is_left, outcomes
from tests.services.engine import Engine
from tests.services.farm import RunningFarm, processes_with, running_farm
from tests.services.gitserver import GitServer
from tests.services.images import base_image as make_base_image
from tests.services.redis import RedisServer
from tests.services.registry import Registry

pytestmark = pytest.mark.engine
ONCE = (
    "--mount=type=cache,target=/seen,id={mark} [ -e /seen/it ] || {{ touch /seen/it && {step}; }}"
)
"""A step that is slow the first time only: a cache mount outlives the engine's death."""


class MortalEngine:
    """An engine that a test may end, and must start again."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="farm-engine-", dir="/var/tmp"))
        self.engine: Engine = start_engine(self._folder)
        self.base_image = make_base_image(self.engine)

    def end(self, number: signal.Signals) -> None:
        """Send its daemon a signal, and wait until it is gone."""
        run = Path(self.engine.host.removeprefix("unix://")).parent
        pid = int((run / "docker.pid").read_text())
        os.kill(pid, number)
        wait_until(lambda: not pid_is_alive(pid), what="engine gone")

    def start(self) -> None:
        """Start it again, with what it had."""
        start_engine(self._folder)


@pytest.fixture(scope="module")
def mortal() -> Iterator[MortalEngine]:
    made = MortalEngine()
    yield made
    made.engine.stop()


@pytest.fixture
def farm(tmp_path: Path, own_redis: RedisServer, mortal: MortalEngine) -> Iterator[RunningFarm]:
    made = RunningFarm(
        tmp_path,
        database_url=f"sqlite:///{tmp_path / 'farm.db'}",
        redis_url=own_redis.url,
        engine=mortal.engine,
    )
    with running_farm(made, "one"):
        yield made


@pytest.mark.parametrize(
    ("number", "mark"),
    [(signal.SIGKILL, "sleep 300.625"), (signal.SIGTERM, "sleep 300.375")],
    ids=["killed", "stopped"],
)
def test_an_engine_that_ends_mid_build_loses_no_build_and_leaves_no_step(
    farm: RunningFarm,
    mortal: MortalEngine,
    repository: Repository,
    git_server: GitServer,
    registry: Registry,
    number: signal.Signals,
    mark: str,
) -> None:
    step = ONCE.format(mark=mark.split()[1], step=f"{SAY_NOW} && {mark}")
    dockerfile(repository, mortal.base_image, step)
    build_id = farm.submit(
        repository=git_server.url_of(repository),
        pull_request=1,
        tags=[f"{registry.host}/one-host/engine:{number.name.lower()}"],
    )
    farm.says(build_id, NOW)
    mortal.end(number)
    try:
        wait_until(lambda: not processes_with(mark), what="the step that outlived it ended")
    finally:
        mortal.start()
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert outcomes(build) == ["errored", "succeeded"]
    assert build["parts"][0]["attempts"][0]["reason"] == "engine_unavailable"
    assert "orphaned_step_ended" in (farm.folder / "one.log").read_text()
    nothing_is_left(farm, registry, mortal.engine, mark=mark)


def test_a_killed_buildx_is_the_farms_fault_and_its_build_is_tried_again(
    farm: RunningFarm,
    mortal: MortalEngine,
    repository: Repository,
    git_server: GitServer,
    registry: Registry,
) -> None:
    mark = "sleep 300.875"
    step = ONCE.format(mark=mark.split()[1], step=f"{SAY_NOW} && {mark}")
    dockerfile(repository, mortal.base_image, step)
    build_id = farm.submit(
        repository=git_server.url_of(repository),
        pull_request=1,
        tags=[f"{registry.host}/one-host/buildx:pr-1"],
    )
    farm.says(build_id, NOW)
    os.kill(next(p for p in processes_with(str(farm.tmp_of("one"))) if is_buildx(p)), 9)
    wait_until(lambda: not processes_with(mark), what="its step ended")
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert outcomes(build) == ["errored", "succeeded"]
    assert build["parts"][0]["attempts"][0]["reason"] == "worker_fault"
    nothing_is_left(farm, registry, mortal.engine, mark=mark)
