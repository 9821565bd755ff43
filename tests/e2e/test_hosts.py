"""Several Docker hosts, each a network namespace with an engine: spreading, vanishing, leaving."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from farm.protocol import PROTOCOL
from scripts.sample.processes import CHECKOUT, wait_until
from scripts.sample.repositories import Repository
from tests.drill import checker
from tests.services.farm import Pace, RunningFarm, processes_with, running_farm
from tests.services.gitserver import GitServer
from tests.services.hosts import Host, Network, docker_hosts, loopback_everywhere
from tests.services.images import BASE_IMAGE
from tests.services.redis import RedisServer
from tests.services.registry import Registry
from workers.buildx import plugin_path

pytestmark = pytest.mark.engine
Build = dict[str, Any]
PACE = Pace(heartbeat_s=0.5, lease_s=4, claim_s=2)
BACK_S = 2.0
"""How long a stale run may go on once its host is back."""
AWAY_S = 8.0
"""So long that TCP, left to itself, would not try again for seconds."""
WRONG_CLOCK = """#!{python}
import datetime, re, subprocess, sys

def tomorrow(found):
    moment = datetime.datetime.fromisoformat(found[0].decode()) + datetime.timedelta(days=1)
    return moment.isoformat().encode()

with subprocess.Popen([{real!r}, *sys.argv[1:]], stderr=subprocess.PIPE) as child:
    for line in child.stderr:
        sys.stderr.buffer.write(re.sub(rb"20\\d\\d-\\d\\d-\\d\\dT[0-9:]{{8}}", tomorrow, line))
        sys.stderr.buffer.flush()
sys.exit(child.returncode)
"""


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


def control_plane(
    folder: Path, database: str, redis_server: RedisServer, site: Site
) -> RunningFarm:
    address = site.network.address
    return RunningFarm(
        folder,
        database_url=database,
        redis_url=redis_server.url,
        engine=site.hosts["a"].engine,
        pace=PACE,
        settings={"FARM_WORKER_REDIS_URL": f"redis://{address}:{redis_server.port}/0"},
        address=address,
    )


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
    made = control_plane(tmp_path, database, own_redis, site)
    ports = [own_redis.port, registry.port, int(git_server.url.rpartition(":")[2])]
    with loopback_everywhere(site.network, list(site.hosts.values()), tmp_path, ports=ports):
        try:
            with running_farm(made):
                yield made
                wait_until(lambda: not left(made, site), what="hosts clean")
                stop_workers(made)
                assert checker.check(database, registry.host, []).wrong == []
        finally:
            site.heal()


def stop_workers(farm: RunningFarm) -> None:
    """All at once: each waits a second for its builds."""
    names = [name for name in farm.processes if name not in ("web", "scheduler")]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: farm.processes.pop(name).stop(), names))


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


def start(
    farm: RunningFarm,
    host: Host,
    *,
    slots: int = 1,
    until: Callable[[], bool] | None = None,
    **settings: str,
) -> None:
    farm.start_worker(
        host.name,
        slots=slots,
        engine=host.engine,
        within=host.within,
        settings=settings,
        until=until,
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
        builds.append(farm.submit(repository=git_server.url_of(made), pull_request=1, tags=[tag]))
    ended = [farm.finished(build_id) for build_id in builds]
    assert [build["status"] for build in ended] == ["succeeded"] * 3, ended
    assert {attempts(build)[0][0] for build in ended} == {"a", "b", "c"}


def claimed_elsewhere(farm: RunningFarm, build_id: str) -> float:
    """Seconds from now until another worker has the build."""
    began = time.monotonic()
    farm.wait(build_id, lambda build: len(attempts(build)) == 2, what="claimed elsewhere")
    seconds = time.monotonic() - began
    assert seconds < PACE.lease_s + 5
    return seconds


def stale_run_ended(farm: RunningFarm, host: Host, site: Site, *, away_since: float) -> float:
    """Bring a host back after its time away; seconds until nothing of its run is left."""
    wait_until(lambda: time.monotonic() > away_since + AWAY_S, what="time away over")
    assert host.steps(), "the stale run has ended before its time"
    host.heal()
    began = time.monotonic()
    wait_until(lambda: not host.steps(), what="stale run over")
    seconds = time.monotonic() - began
    wait_until(lambda: not left(farm, site), what="nothing left")
    wait_until(lambda: is_online(farm, host.name), what="back")
    return seconds


@pytest.mark.parametrize(
    ("database", "vanish"),
    [("sqlite", Host.swallow), ("postgres", Host.cut)],
    indirect=["database"],
    ids=["router-dead", "cable-pulled"],
)
def test_the_build_of_a_host_that_vanished_finishes_elsewhere_and_its_stale_run_ends(
    farm: RunningFarm,
    site: Site,
    repository: Repository,
    url: str,
    registry: Registry,
    vanish: Callable[[Host], None],
) -> None:
    dockerfile(repository, 'echo now-in-the-step && { [ "$(cat /host)" != a ] || sleep 300; }')
    build_id = running_on_a(farm, site, url, f"{registry.host}/hosts/vanished:pr-1")
    vanish(site.hosts["a"])
    away_since = time.monotonic()
    elsewhere_s = claimed_elsewhere(farm, build_id)
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert attempts(build)[0] == ("a", "lost")
    assert attempts(build)[1][0] in ("b", "c")

    ended_s = stale_run_ended(farm, site.hosts["a"], site, away_since=away_since)
    sys.stdout.write(f"elsewhere after {elsewhere_s:.2f} s, stale run ended in {ended_s:.2f} s\n")
    assert "attempt_void" in (farm.folder / "a.log").read_text()
    assert farm.build(build_id) == build
    assert registry.digest("hosts/vanished", "pr-1") == build["image"]["digest"]
    assert ended_s < BACK_S


def test_a_stale_worker_whose_image_was_ready_to_push_moves_no_tag(
    farm: RunningFarm, site: Site, repository: Repository, url: str, registry: Registry
) -> None:
    step = 'cat /host > /made && echo now-in-the-step && { [ "$(cat /host)" != a ] || sleep 5; }'
    dockerfile(repository, step)
    build_id = running_on_a(farm, site, url, f"{registry.host}/hosts/ready:pr-1")
    site.hosts["a"].cut()
    build = farm.finished(build_id)
    assert attempts(build)[0] == ("a", "lost")
    wait_until(lambda: not site.hosts["a"].steps(), what="the stale step is done")
    site.hosts["a"].heal()
    wait_until(lambda: not left(farm, site), what="the stale run is over")
    assert farm.build(build_id) == build
    assert registry.digest("hosts/ready", "pr-1") == build["image"]["digest"]


def test_a_host_that_vanishes_for_less_than_the_lease_restarts_nothing(
    farm: RunningFarm, site: Site, repository: Repository, url: str, registry: Registry
) -> None:
    dockerfile(repository, "echo now-in-the-step && sleep 4")
    build_id = running_on_a(farm, site, url, f"{registry.host}/hosts/briefly:pr-1")
    site.hosts["a"].swallow()
    wait_until(lambda: not is_online(farm, "a"), what="seen to be away")
    site.hosts["a"].heal()
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert attempts(build) == [("a", "succeeded")]


def test_two_of_three_hosts_die_under_thirty_builds_and_all_succeed(
    farm: RunningFarm, site: Site, repository: Repository, url: str, registry: Registry
) -> None:
    start_all(farm, site, slots=2)
    builds = []
    for number in range(2, 32):
        repository.open_pull_request(number, {"change": f"{number}\n"})
        dockerfile(repository, "cp /app/change /made && sleep 0.2", pull_request=number)
        tag = f"{registry.host}/hosts/many:pr-{number}"
        builds.append(farm.submit(repository=url, pull_request=number, tags=[tag]))
    wait_until(lambda: on_hosts(farm, builds) == {"a", "b", "c"}, what="all at work", seconds=60)
    site.hosts["a"].cut()
    farm.kill("b")
    site.hosts["b"].kill_engine()

    ended = [farm.finished(build_id, seconds=120) for build_id in builds]
    assert {build["status"] for build in ended} == {"succeeded"}, ended
    outcomes = [outcome for build in ended for _, outcome in attempts(build)]
    assert outcomes.count("succeeded") == len(builds)
    assert outcomes.count("lost") >= 2
    site.heal()
    site.hosts["b"].restart_engine()
    start(farm, site.hosts["b"], slots=2)


def on_hosts(farm: RunningFarm, builds: list[str]) -> set[str]:
    """The workers that run any of the builds right now."""
    found = [farm.build(build_id) for build_id in builds]
    return {w for build in found for w, outcome in attempts(build) if outcome is None}


def test_a_host_whose_clock_is_a_day_off_builds_as_any_other(
    farm: RunningFarm, site: Site, repository: Repository, url: str, registry: Registry
) -> None:
    dockerfile(repository, "sleep 1.5")
    home = farm.folder / "wrong-clock"
    install_buildx_with_a_wrong_clock(home)
    start(farm, site.hosts["a"], HOME=str(home))
    tag = f"{registry.host}/hosts/clock:pr-1"
    build_id = farm.submit(repository=url, pull_request=1, tags=[tag])
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    assert attempts(build) == [("a", "succeeded")]
    assert build["created_at"] <= build["started_at"] <= build["finished_at"]
    assert build["finished_at"] < tomorrow()
    steps = farm.client.get(f"/builds/{build_id}/steps").json()["items"]
    slept = next(step for step in steps if "sleep" in step["name"])
    assert slept["started_at"] > tomorrow(), "the clock was not off"
    assert 1.4 < slept["duration_s"] < 5


def tomorrow() -> str:
    """Half a day from now, as the API writes it."""
    return (datetime.now(UTC) + timedelta(hours=12)).isoformat()


def install_buildx_with_a_wrong_clock(home: Path) -> None:
    """BuildKit's times are all that a worker sends of its host's clock: the wire has no other.

    No namespace holds the time of day, so the host's clock is right and what it tells is not.
    """
    real = plugin_path(str(home))
    plugin = home / ".docker/cli-plugins/docker-buildx"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(WRONG_CLOCK.format(python=sys.executable, real=str(real)))
    plugin.chmod(0o755)


def farm_command(farm: RunningFarm, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The `farm` command as an admin types it."""
    return subprocess.run(
        [sys.executable, "-m", "farm.cli.main", *arguments],
        env={"FARM_SERVER": farm.url, "FARM_TOKEN": farm.token, "HOME": str(farm.folder)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_workers_are_drained_resumed_and_removed_from_the_command_line(
    farm: RunningFarm, site: Site, repository: Repository, url: str, registry: Registry
) -> None:
    dockerfile(repository, "echo now-in-the-step && sleep 3")
    start(farm, site.hosts["a"])
    tags = [f"{registry.host}/hosts/drained:pr-1"]
    first = farm.submit(repository=url, pull_request=1, tags=tags)
    farm.says(first, "now-in-the-step")

    assert farm_command(farm, "worker", "drain", "a").returncode == 0
    busy = farm_command(farm, "worker", "rm", "a")
    assert busy.returncode == 2, busy
    assert "drain it first" in busy.stderr
    second = farm.submit(repository=url, pull_request=1, tags=tags)
    assert attempts(farm.finished(first)) == [("a", "succeeded")]
    farm.wait(second, lambda b: b["waiting"]["reason"] != "group_busy", what="held by the drain")
    assert farm.build(second)["status"] == "queued"
    assert "draining" in farm_command(farm, "worker", "ls").stdout

    assert farm_command(farm, "worker", "resume", "a").returncode == 0
    assert attempts(farm.finished(second)) == [("a", "succeeded")]

    farm_command(farm, "worker", "drain", "a")
    stop_workers(farm)
    removed = farm_command(farm, "worker", "rm", "a")
    assert removed.returncode == 0, removed
    assert worker(farm, "a") is None
    assert farm_command(farm, "worker", "rm", "a").returncode == 3
    assert attempts(farm.build(second)) == [("a", "succeeded")], "history forgot who built it"


def test_workers_are_drained_resumed_and_removed_over_the_api(
    farm: RunningFarm, site: Site, repository: Repository, url: str, registry: Registry
) -> None:
    dockerfile(repository, "echo now-in-the-step && sleep 2")
    tag = f"{registry.host}/hosts/api:pr-1"
    build_id = running_on_a(farm, site, url, tag)
    drain(farm, "a")
    busy = farm.client.delete("/workers/a")
    assert (busy.status_code, busy.json()["code"]) == (409, "worker_busy")
    assert attempts(farm.finished(build_id)) == [("a", "succeeded")]
    again = farm.submit(repository=url, pull_request=1, tags=[tag])
    assert attempts(farm.finished(again))[0][0] in ("b", "c"), "warm, but drained"
    stop_workers(farm)
    assert farm.client.delete("/workers/a").status_code == 204
    assert worker(farm, "a") is None
    start(farm, site.hosts["a"])
    assert is_online(farm, "a"), "its name was not free again"


def test_a_worker_of_another_protocol_version_is_refused_and_told_which(
    farm: RunningFarm, site: Site
) -> None:
    other = PROTOCOL + 1
    patch = farm.folder / "other-version"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(f"import farm.protocol as p\np.PROTOCOL = {other}\n")
    says = f"This worker speaks protocol {other}, the farm speaks {PROTOCOL}"
    start(farm, site.hosts["a"])
    farm.kill("a")

    start_refused(farm, site.hosts["a"], patch, says)  # one that it knows
    start_refused(farm, site.hosts["b"], patch, says)  # one that would enrol
    wait_until(lambda: not is_online(farm, "a"), what="not counted as a worker")
    assert worker(farm, "b") is None


def start_refused(farm: RunningFarm, host: Host, patch: Path, says: str) -> None:
    """Start a worker, and wait until its log tells the farm's refusal."""
    log = farm.folder / f"{host.name}.log"
    start(farm, host, until=lambda: says in log.read_text(), PYTHONPATH=str(patch))
