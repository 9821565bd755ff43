"""Faults of the control plane around builds: Redis, web, scheduler, messages, the database."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.broker import Dispatcher
from scripts.sample.processes import free_port, wait_until
from scripts.sample.repositories import Repository
from tests.e2e.one_host import NOW, SAY_NOW, dockerfile, nothing_is_left, outcomes, part_of
from tests.services.dropping_proxy import DroppingProxy
from tests.services.engine import Engine
from tests.services.farm import Pace, RunningFarm, running_farm
from tests.services.gitserver import GitServer
from tests.services.postgres import PostgresCluster
from tests.services.redis import RedisServer
from tests.services.registry import Registry

pytestmark = pytest.mark.engine
PACE = Pace(heartbeat_s=0.5, lease_s=3, claim_s=2)
sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LOCKED_S = 10.0
LOCKER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def url(git_server: GitServer, repository: Repository) -> str:
    return git_server.url_of(repository)


@pytest.fixture
def silent_redis(own_redis: RedisServer) -> Iterator[DroppingProxy]:
    proxy = DroppingProxy(own_redis.port)
    yield proxy
    proxy.close()


@pytest.fixture
def farm_behind_proxy(
    tmp_path: Path, silent_redis: DroppingProxy, engine: Engine
) -> Iterator[RunningFarm]:
    made = RunningFarm(
        tmp_path,
        database_url=f"sqlite:///{tmp_path / 'farm.db'}",
        redis_url=f"redis://127.0.0.1:{silent_redis.port}/0",
        engine=engine,
        pace=PACE,
    )
    with running_farm(made, "one"):
        yield made


def test_a_redis_that_falls_silent_only_delays_builds(
    farm_behind_proxy: RunningFarm,
    silent_redis: DroppingProxy,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    farm = farm_behind_proxy
    dockerfile(repository, base_image, f"{SAY_NOW} && sleep 3.125")
    tags = [f"{registry.host}/one-host/silent:pr-1"]
    silent_redis.drop()
    before = farm.submit(repository=url, pull_request=1, tags=tags, no_cache=True)
    assert silent_redis.dropped.wait(30), "nobody tried a new connection"
    assert farm.build(before)["status"] == "queued"
    silent_redis.heal()
    farm.says(before, NOW)
    silent_redis.drop()
    build = farm.finished(before)
    assert (build["status"], outcomes(build)) == ("succeeded", ["succeeded"]), build
    silent_redis.heal()
    after = farm.finished(farm.submit(repository=url, pull_request=1, tags=tags))
    assert (after["status"], outcomes(after)) == ("succeeded", ["succeeded"]), after
    nothing_is_left(farm, registry, engine, mark="sleep 3.125")


@sqlite_only
def test_a_cancel_without_redis_arrives_with_the_next_heartbeat(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
    own_redis: RedisServer,
) -> None:
    dockerfile(repository, base_image, f"{SAY_NOW} && sleep 61.125")
    farm.start_worker("one")
    build_id = farm.submit(repository=url, pull_request=1, no_cache=True)
    farm.says(build_id, NOW)
    own_redis.kill()
    assert farm.client.post(f"/builds/{build_id}/cancel").status_code == 202
    build = farm.finished(build_id, seconds=PACE.heartbeat_s + 2)
    assert build["status"] == "cancelled", build
    nothing_is_left(farm, registry, engine, mark="sleep 61.125", ended=[build_id])
    own_redis.start()


@sqlite_only
def test_a_build_whose_wakeup_was_lost_with_its_web_process_is_built(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
    own_redis: RedisServer,
) -> None:
    dockerfile(repository, base_image, "true")
    farm.start_worker("one")
    farm.kill("web")
    nowhere = {
        "FARM_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "FARM_WORKER_REDIS_URL": own_redis.url,
    }
    environment = farm._environment | farm._control | nowhere
    farm._start("web", ["web"], environment).wait_ready(farm.answers)
    tags = [f"{registry.host}/one-host/wakeup:pr-1"]
    build_id = farm.submit(repository=url, pull_request=1, tags=tags)
    farm.kill("web")
    farm.start_web()
    build = farm.finished(build_id)
    assert (build["status"], outcomes(build)) == ("succeeded", ["succeeded"]), build
    nothing_is_left(farm, registry, engine)


@sqlite_only
def test_a_web_that_is_away_longer_than_a_lease_requeues_nothing(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    dockerfile(repository, base_image, f"{SAY_NOW} && sleep 2.125")
    farm.start_worker("one")
    tags = [f"{registry.host}/one-host/away:pr-1"]
    pushed = farm.submit(repository=url, pull_request=1, tags=tags, no_cache=True)
    farm.says(pushed, NOW)
    farm.kill("web")
    away_since = time.monotonic()
    wait_until(
        lambda: time.monotonic() > away_since + 2 * PACE.lease_s, what="away longer than a lease"
    )
    farm.start_web()
    build = farm.finished(pushed)
    assert (build["status"], outcomes(build)) == ("succeeded", ["succeeded"]), build
    assert registry.digest("one-host/away", "pr-1") == build["image"]["digest"]
    nothing_is_left(farm, registry, engine, mark="sleep 2.125")


@sqlite_only
def test_a_second_scheduler_takes_over_from_a_killed_one(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    dockerfile(repository, base_image, "true")
    environment = farm._environment | farm._control
    farm._start("stand-by", ["scheduler"], environment)
    farm.start_worker("one")
    tags = [f"{registry.host}/one-host/scheduler:pr-1"]
    first = farm.finished(farm.submit(repository=url, pull_request=1, tags=tags))
    assert first["status"] == "succeeded", first
    farm.kill("scheduler")
    build = farm.finished(farm.submit(repository=url, pull_request=1, tags=tags))
    assert (build["status"], outcomes(build)) == ("succeeded", ["succeeded"]), build
    assert farm.processes["stand-by"].is_running()
    nothing_is_left(farm, registry, engine)


@sqlite_only
def test_doubled_and_dead_messages_start_nothing(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
    own_redis: RedisServer,
) -> None:
    dockerfile(repository, base_image, f"{SAY_NOW} && sleep 2.375")
    farm.start_worker("one", slots=2)
    tags = [f"{registry.host}/one-host/twice:pr-1"]
    build_id = farm.submit(repository=url, pull_request=1, tags=tags, no_cache=True)
    farm.says(build_id, NOW)
    part = part_of(farm.build(build_id))
    sender = Dispatcher(own_redis.url)
    try:
        for attempt in (1, 1, 2, 0):
            sender.send("one", part, attempt)
        build = farm.finished(build_id)
        for attempt in (1, 2):
            sender.send("one", part, attempt)
        sender.send("one", part + 1000, 1)
    finally:
        sender.close()
    log = farm.folder / "one.log"
    wait_until(lambda: log.read_text().count("claim_void") == 7, what="seven claims void")
    assert (build["status"], outcomes(build)) == ("succeeded", ["succeeded"]), build
    assert farm.build(build_id) == build
    nothing_is_left(farm, registry, engine, mark="sleep 2.375")


@sqlite_only
def test_a_sqlite_file_that_another_process_locks_loses_nothing(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    dockerfile(repository, base_image, f"{SAY_NOW} && sleep 2.625")
    farm.start_worker("one")
    tags = [f"{registry.host}/one-host/locked:pr-1"]
    build_id = farm.submit(repository=url, pull_request=1, tags=tags, no_cache=True)
    farm.says(build_id, NOW)
    path = farm.database_url.removeprefix("sqlite:///")
    command = [sys.executable, "-c", LOCKER, path, str(LOCKED_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == b"locked\n"
        assert locker.wait(60) == 0
    build = farm.finished(build_id)
    assert (build["status"], outcomes(build)) == ("succeeded", ["succeeded"]), build
    nothing_is_left(farm, registry, engine, mark="sleep 2.625")


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    made = PostgresCluster()
    made.start()
    yield made
    made.stop()


def test_a_postgres_that_is_stopped_and_started_loses_nothing(
    tmp_path: Path,
    cluster: PostgresCluster,
    own_redis: RedisServer,
    engine: Engine,
    repository: Repository,
    url: str,
    base_image: str,
    registry: Registry,
) -> None:
    dockerfile(repository, base_image, f"{SAY_NOW} && sleep 2.875")
    farm = RunningFarm(
        tmp_path,
        database_url=cluster.create_database(),
        redis_url=own_redis.url,
        engine=engine,
        pace=PACE,
    )
    tags = [f"{registry.host}/one-host/postgres:pr-1"]
    with running_farm(farm, "one"):
        build_id = farm.submit(repository=url, pull_request=1, tags=tags, no_cache=True)
        farm.says(build_id, NOW)
        cluster.halt()
        halted_at = time.monotonic()
        assert farm.client.get(f"/builds/{build_id}").status_code == 503
        wait_until(
            lambda: time.monotonic() > halted_at + 2 * PACE.lease_s, what="away longer than a lease"
        )
        cluster.start()
        wait_until(farm.answers, what="web ready again")
        build = farm.finished(build_id)
        assert (build["status"], outcomes(build)) == ("succeeded", ["succeeded"]), build
        again = farm.finished(farm.submit(repository=url, pull_request=1, tags=tags))
        assert again["status"] == "succeeded", again
        nothing_is_left(farm, registry, engine, mark="sleep 2.875")
