"""Several Docker hosts, each a network namespace with an engine: spreading, vanishing, leaving."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farm.protocol import PROTOCOL
from scripts.sample.processes import CHECKOUT, Process, wait_until
from scripts.sample.repositories import Repository
from tests.drill import checker
from tests.services.farm import Pace, RunningFarm, processes_with, running_farm
from tests.services.gitserver import GitServer
from tests.services.hosts import Host, Network, docker_hosts, loopback_everywhere
from tests.services.images import BASE_IMAGE
from tests.services.redis import RedisServer
from tests.services.registry import Registry

pytestmark = pytest.mark.engine
Build = dict[str, Any]
PACE = Pace(heartbeat_s=0.5, lease_s=4, claim_s=2)
BACK_S = 2.0
"""How long a stale run may go on once its host is back."""


@dataclass(frozen=True)
class Site:
    """Where the farm of this file lives."""

    network: Network
    hosts: dict[str, Host]

    def heal(self) -> None:
        for host in self.hosts.values():
            host.heal()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Three hosts with their engines; what a test breaks it mends."""
    with docker_hosts("a", "b", "c") as (network, hosts):
        with ThreadPoolExecutor() as pool:
            list(pool.map(Host.base_image, hosts))
        yield Site(network, {host.name: host for host in hosts})


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, or what a test's `parametrize` says."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'farm.db'}"
    url: str = request.getfixturevalue("postgres").create_database()
    return url


@pytest.fixture
def farm(
    tmp_path: Path,
    database: str,
    site: Site,
    own_redis: RedisServer,
    git_server: GitServer,
    registry: Registry,
) -> Iterator[RunningFarm]:
    """The control plane at the bridge's address; the test starts workers.

    Whatever the test does, afterwards database and registry agree and every host is clean.
    """
    address = site.network.address
    made = RunningFarm(
        tmp_path,
        database_url=database,
        redis_url=own_redis.url,
        engine=site.hosts["a"].engine,
        pace=PACE,
        settings={"FARM_WORKER_REDIS_URL": f"redis://{address}:{own_redis.port}/0"},
        address=address,
    )
    ports = [own_redis.port, registry.port, int(git_server.url.rpartition(":")[2])]
    with loopback_everywhere(site.network, list(site.hosts.values()), tmp_path, ports=ports):
        try:
            with running_farm(made):
                yield made
                wait_until(lambda: not left(made, site), what=f"clean: {left(made, site)}")
                assert checker.check(database, registry.host, []).wrong == []
        finally:
            site.heal()


def left(farm: RunningFarm, site: Site) -> list[str]:
    """What attempts have left on the hosts: files, credentials, processes, containers."""
    found = []
    for name, host in site.hosts.items():
        found += [str(p) for p in farm.tmp_of(name).rglob("*") if p.is_file()]
        found += [str(p) for p in (farm.folder / name / "spool").glob("*")]
        found += [f"{name}: RUN {pid}" for pid in host.steps()]
        found += [f"{name}: container {c}" for c in host.engine.docker("ps", "-aq").split()]
        found += [f"{name}: buildx {p}" for p in processes_with(f"{farm.tmp_of(name)}/farm")]
    return found


def start(farm: RunningFarm, host: Host, *, slots: int = 1, **settings: str) -> None:
    farm.start_worker(
        host.name, slots=slots, engine=host.engine, within=host.within, settings=settings
    )


def start_all(farm: RunningFarm, site: Site, *, slots: int = 1) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: start(farm, host, slots=slots), site.hosts.values()))


def drain(farm: RunningFarm, *workers: str, draining: bool = True) -> None:
    for worker in workers:
        answer = farm.client.patch(f"/workers/{worker}", json={"draining": draining})
        assert answer.status_code == 200, answer.text


def worker(farm: RunningFarm, name: str) -> dict[str, Any] | None:
    listed = farm.client.get("/workers").json()["items"]
    return next((one for one in listed if one["name"] == name), None)


def is_online(farm: RunningFarm, name: str) -> bool:
    found = worker(farm, name)
    return found is not None and bool(found["online"])


def attempts(build: Build) -> list[tuple[str, str | None]]:
    """Worker and outcome of every attempt, in their order."""
    return [(a["worker"], a["outcome"]) for part in build["parts"] for a in part["attempts"]]


def dockerfile(repository: Repository, *steps: str, pull_request: int = 1) -> None:
    lines = [f"FROM {BASE_IMAGE}", "COPY . /app", *(f"RUN {step}" for step in steps)]
    repository.push_to_pull_request(pull_request, {"Dockerfile": "\n".join(lines) + "\n"})


def running_on_a(farm: RunningFarm, site: Site, url: str, tag: str) -> str:
    """Start all workers and a build on host a, and return once it is in its step."""
    start_all(farm, site)
    drain(farm, "b", "c")
    build_id = farm.submit(repository=url, pull_request=1, tags=[tag])
    farm.says(build_id, "now-in-the-step")
    drain(farm, "b", "c", draining=False)
    return build_id


@pytest.fixture
def url(git_server: GitServer, repository: Repository) -> str:
    return git_server.url_of(repository)


def test_builds_spread_over_the_hosts(
    farm: RunningFarm, site: Site, git_server: GitServer, registry: Registry
) -> None:
    start_all(farm, site)
    builds = []
    for name in ("acme/one", "acme/two", "acme/three"):
        made = git_server.make_repository(name, {"README": f"{name}\n"})
        made.open_pull_request(1, {"change": "one\n"})
        dockerfile(made, "cat /host > /made && sleep 2")
        tag = f"{registry.host}/spread/{name}:pr-1"
        builds.append(
            farm.submit(repository=git_server.url_of(made), pull_request=1, tags=[tag])
        )
    ended = [farm.finished(build_id) for build_id in builds]
    assert [build["status"] for build in ended] == ["succeeded"] * 3, ended
    assert {attempts(build)[0][0] for build in ended} == {"a", "b", "c"}


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_the_build_of_a_host_that_vanished_finishes_elsewhere_and_its_stale_run_ends(
    farm: RunningFarm,
    site: Site,
    repository: Repository,
    url: str,
    registry: Registry,
    record_property: pytest.RecordProperty,
) -> None:
    dockerfile(repository, 'echo now-in-the-step && { [ "$(cat /host)" != a ] || sleep 300; }')
    build_id = running_on_a(farm, site, url, f"{registry.host}/hosts/vanished:pr-1")
    site.hosts["a"].cut()
    cut_at = time.monotonic()
    farm.wait(build_id, lambda build: len(attempts(build)) == 2, what="claimed elsewhere")
    elsewhere_s = time.monotonic() - cut_at
    assert elsewhere_s < PACE.lease_s + 5
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert attempts(build)[0] == ("a", "lost")
    assert attempts(build)[1][0] in ("b", "c")
    assert site.hosts["a"].steps(), "the stale run has ended before its time"

    site.hosts["a"].heal()
    healed_at = time.monotonic()
    wait_until(lambda: not site.hosts["a"].steps(), what="stale run over", seconds=20)
    back_s = time.monotonic() - healed_at
    record_property("claimed_elsewhere_s", round(elsewhere_s, 2))
    record_property("stale_run_ended_s", round(back_s, 2))
    print(f"claimed elsewhere after {elsewhere_s:.2f} s, stale run ended {back_s:.2f} s after")
    wait_until(lambda: is_online(farm, "a"), what="a is back")
    assert farm.build(build_id) == build
    assert registry.digest("hosts/vanished", "pr-1") == build["image"]["digest"]
    assert back_s < BACK_S
