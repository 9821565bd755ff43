"""The faults that shaped the design, with real processes, engine, registry and Redis."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.sample.processes import wait_until
from scripts.sample.repositories import Repository
from tests.services.engine import Engine
from tests.services.farm import RunningFarm, processes_with
from tests.services.gitserver import GitServer
from tests.services.holding_proxy import HoldingProxy
from tests.services.redis import RedisServer
from tests.services.registry import Registry

Build = dict[str, Any]

NOW = "now-in-the-step"
SAY_NOW = "echo now-in-the-st''ep"
"""Only its output says it: the step's name is in the log before the step runs."""


@pytest.fixture
def url(git_server: GitServer, repository: Repository) -> str:
    return git_server.url_of(repository)


@pytest.fixture
def proxy(registry: Registry) -> Iterator[HoldingProxy]:
    held = HoldingProxy(registry.host)
    yield held
    held.close()


def dockerfile(repository: Repository, base_image: str, *steps: str) -> None:
    """Give pull request 1 a Dockerfile with these RUN steps."""
    lines = [f"FROM {base_image}", "COPY . /app", *(f"RUN {step}" for step in steps)]
    repository.push_to_pull_request(1, {"Dockerfile": "\n".join(lines) + "\n"})


def outcomes(build: Build) -> list[str]:
    return [attempt["outcome"] for part in build["parts"] for attempt in part["attempts"]]


def nothing_left(farm: RunningFarm, worker: str, engine: Engine, mark: str) -> bool:
    """No process, folder, credential or container of an attempt is left on the host."""
    attempts = [p for p in farm.tmp_of(worker).rglob("*") if p.is_file()]
    buildx = [p for p in processes_with(str(farm.tmp_of(worker))) if _is_buildx(p)]
    return not (attempts or buildx or processes_with(mark) or engine.docker("ps", "-aq").strip())


def _is_buildx(pid: int) -> bool:
    try:
        return b"docker-buildx" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_worker_killed_while_building_loses_no_build(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    dockerfile(repository, base_image, f"{SAY_NOW} && sleep 6.125")
    farm.client.post("/secrets", json={"name": "token", "value": "hush-hush-hush"})
    farm.start_worker("one")
    tag = f"{registry.host}/faults/killed:pr-1"
    build_id = farm.submit(
        repository=url, pull_request=1, tags=[tag], secrets=["token"], no_cache=True
    )
    farm.says(build_id, NOW)
    farm.kill("one")
    farm.start_worker("one")
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert outcomes(build) == ["lost", "succeeded"]
    assert registry.digest("faults/killed", "pr-1") == build["image"]["digest"]
    wait_until(
        lambda: nothing_left(farm, "one", engine, "sleep 6.125"), what="host clean", seconds=10
    )


def test_a_pool_process_killed_while_building_loses_no_build_and_leaves_nothing(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    dockerfile(repository, base_image, f"{SAY_NOW} && sleep 4.375")
    farm.start_worker("one")
    tag = f"{registry.host}/faults/child:pr-1"
    build_id = farm.submit(repository=url, pull_request=1, tags=[tag], no_cache=True)
    farm.says(build_id, NOW)
    buildx = next(p for p in processes_with(str(farm.tmp_of("one"))) if _is_buildx(p))
    child = int(Path(f"/proc/{buildx}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{buildx}").exists(), what="buildx ended", seconds=10)
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert outcomes(build)[-1] == "succeeded"
    assert len(outcomes(build)) == 2
    wait_until(
        lambda: nothing_left(farm, "one", engine, "sleep 4.375"), what="host clean", seconds=10
    )


def test_redis_emptied_while_a_build_waits_only_delays_it(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    registry: Registry,
    own_redis: RedisServer,
) -> None:
    dockerfile(repository, base_image, "true")
    farm.start_worker("one")
    farm.signal_all("one", signal.SIGSTOP)
    build_id = farm.submit(
        repository=url, pull_request=1, tags=[f"{registry.host}/faults/waits:pr-1"]
    )
    farm.wait(build_id, lambda b: b["waiting"]["reason"] == "placed", what="placed")
    own_redis.restart()
    farm.signal_all("one", signal.SIGCONT)
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert outcomes(build) == ["succeeded"]


def test_redis_emptied_while_a_build_runs_does_not_touch_it(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    registry: Registry,
    own_redis: RedisServer,
) -> None:
    dockerfile(repository, base_image, f"{SAY_NOW} && sleep 4")
    farm.start_worker("one")
    tags = [f"{registry.host}/faults/runs:pr-1"]
    build_id = farm.submit(repository=url, pull_request=1, tags=tags, no_cache=True)
    farm.says(build_id, NOW)
    own_redis.restart()
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert outcomes(build) == ["succeeded"]
    again = farm.submit(repository=url, pull_request=1, tags=tags)
    assert farm.finished(again)["status"] == "succeeded"


def test_a_worker_paused_past_its_lease_is_refused_when_it_wakes(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    dockerfile(repository, base_image, f"cat /proc/uptime > /made && {SAY_NOW} && sleep 2")
    farm.start_worker("one")
    tag = f"{registry.host}/faults/paused:pr-1"
    build_id = farm.submit(repository=url, pull_request=1, tags=[tag], no_cache=True)
    farm.says(build_id, NOW)
    farm.signal_all("one", signal.SIGSTOP)
    farm.start_worker("two")
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert outcomes(build) == ["lost", "succeeded"]
    assert [a["worker"] for a in build["parts"][0]["attempts"]] == ["one", "two"]
    farm.signal_all("one", signal.SIGCONT)
    wait_until(
        lambda: nothing_left(farm, "one", engine, "no such process"), what="stale ended", seconds=20
    )
    after = farm.build(build_id)
    assert after == build
    assert registry.digest("faults/paused", "pr-1") == build["image"]["digest"]


def test_a_worker_killed_between_publish_and_finish_ends_succeeded_once(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    registry: Registry,
    proxy: HoldingProxy,
) -> None:
    dockerfile(repository, base_image, "cat /proc/uptime > /made")
    farm.start_worker("one")
    proxy.hold("PUT", "/v2/faults/published/manifests/pr-1")
    build_id = farm.submit(
        repository=url, pull_request=1, tags=[f"{proxy.host}/faults/published:pr-1"], no_cache=True
    )
    assert proxy.reached.wait(60), farm.log(build_id)
    farm.kill("one")
    proxy.release()
    too_late = farm.client.post(f"/builds/{build_id}/cancel")
    assert (too_late.status_code, too_late.json()["code"]) == (409, "too_late")
    farm.start_worker("one")
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert outcomes(build) == ["lost", "succeeded"]
    assert registry.digest("faults/published", "pr-1") == build["image"]["digest"]
    assert "RUN" not in farm.log(build_id, attempt=2), "the second attempt built again"
