"""Builds that are cancelled, handed back, poisonous or talkative, on one host."""

import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy

from scripts.sample.processes import wait_until
from scripts.sample.repositories import Repository
from tests.e2e.one_host import (
    NOW,
    SAY_NOW,
    Build,
    dockerfile,
    nothing_is_left,
    outcomes,
    part_of,
    workers_of,
)
from tests.services.dropping_proxy import DroppingProxy
from tests.services.engine import Engine
from tests.services.farm import RunningFarm, processes_with, running_farm
from tests.services.gitserver import GitServer
from tests.services.holding_proxy import HoldingProxy
from tests.services.redis import RedisServer
from tests.services.registry import Registry

pytestmark = [
    pytest.mark.engine,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
SOON_S = 2.0
"""How long a cancel may take."""
LOG_LIMIT = 64 * 1024
MONSTERS = (
    r"printf 'bad \377\376 bytes, a \000 nul and a \033[31mcolour\n'",
    "head -c 300000 /dev/zero | tr '\\0' x && echo",
    "seq 200000 230000",
    "printf 'the-very-end without a line break'",
)


@pytest.fixture
def url(git_server: GitServer, repository: Repository) -> str:
    return git_server.url_of(repository)


@pytest.fixture
def proxy(registry: Registry) -> Iterator[HoldingProxy]:
    held = HoldingProxy(registry.host)
    yield held
    held.close()


@pytest.fixture
def silent_git(git_server: GitServer) -> Iterator[DroppingProxy]:
    made = DroppingProxy(int(git_server.url.rpartition(":")[2]))
    yield made
    made.close()


def cancelled_soon(farm: RunningFarm, build_id: str) -> None:
    """Cancel a build; it is over within two seconds by the database's clock."""
    assert farm.client.post(f"/builds/{build_id}/cancel").status_code == 202
    build = farm.finished(build_id)
    assert (build["status"], build["reason"]) == ("cancelled", "requested"), build
    asked = moment(
        farm,
        "SELECT min(at) FROM events WHERE build_id = :id AND kind = 'cancel_requested'",
        build_id,
    )
    if asked is not None:
        over = datetime.fromisoformat(build["finished_at"]).replace(tzinfo=None)
        assert (over - asked).total_seconds() <= SOON_S


def moment(farm: RunningFarm, question: str, build_id: str) -> datetime | None:
    found = one(farm, question, int(build_id))
    return None if found is None else datetime.fromisoformat(str(found)).replace(tzinfo=None)


def one(farm: RunningFarm, question: str, row_id: int) -> object:
    """What the database itself says."""
    engine = sqlalchemy.create_engine(farm.database_url)
    try:
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text(question), {"id": row_id}).scalar()
    finally:
        engine.dispose()


def test_a_cancel_ends_a_build_soon_while_it_waits(
    farm: RunningFarm, repository: Repository, url: str, base_image: str
) -> None:
    dockerfile(repository, base_image, "true")
    build_id = farm.submit(repository=url, pull_request=1)
    cancelled_soon(farm, build_id)
    assert outcomes(farm.build(build_id)) == []


def test_a_cancel_ends_a_build_soon_while_it_fetches_and_while_it_pushes(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
    proxy: HoldingProxy,
    silent_git: DroppingProxy,
) -> None:
    dockerfile(repository, base_image, "cat /proc/uptime > /made")
    farm.start_worker("one")

    silent_git.drop()
    far = url.replace(url.split("/")[2], f"127.0.0.1:{silent_git.port}")
    fetching = farm.submit(repository=far, pull_request=1)
    assert silent_git.dropped.wait(60), farm.build(fetching)
    cancelled_soon(farm, fetching)

    proxy.hold("PUT", "/manifests/farm-one-0")
    tag = f"{proxy.host}/one-host/pushing:pr-1"
    pushing = farm.submit(repository=url, pull_request=1, tags=[tag], no_cache=True)
    assert proxy.reached.wait(60), farm.log(pushing)
    cancelled_soon(farm, pushing)
    proxy.release()

    assert one(farm, "SELECT count(*) FROM tags WHERE digest IS NOT NULL", 0) == 0
    nothing_is_left(farm, registry, engine, ended=[fetching, pushing])
    build = farm.finished(farm.submit(repository=url, pull_request=1, tags=[tag]))
    assert build["status"] == "succeeded", build
    assert registry.digest("one-host/pushing", "pr-1") == build["image"]["digest"]


def test_a_worker_killed_in_the_fetch_and_in_the_push_loses_no_build(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
    proxy: HoldingProxy,
    silent_git: DroppingProxy,
) -> None:
    dockerfile(repository, base_image, "cat /proc/uptime > /made")
    farm.start_worker("one")
    far = url.replace(url.split("/")[2], f"127.0.0.1:{silent_git.port}")
    tag = f"{proxy.host}/one-host/killed:pr-1"

    silent_git.drop()
    fetching = farm.submit(repository=far, pull_request=1)
    assert silent_git.dropped.wait(60), farm.build(fetching)
    farm.kill("one")
    silent_git.heal()
    farm.start_worker("one")
    build = farm.finished(fetching)
    assert (build["status"], outcomes(build)) == ("succeeded", ["lost", "succeeded"]), build

    proxy.hold("PUT", "/manifests/farm-one-0")
    pushing = farm.submit(repository=url, pull_request=1, tags=[tag], no_cache=True)
    assert proxy.reached.wait(60), farm.log(pushing)
    farm.kill("one")
    proxy.release()
    farm.start_worker("one")
    build = farm.finished(pushing)
    assert (build["status"], outcomes(build)) == ("succeeded", ["lost", "succeeded"]), build
    assert registry.digest("one-host/killed", "pr-1") == build["image"]["digest"]
    nothing_is_left(farm, registry, engine)


def has_attempts(number: int) -> Callable[[Build], bool]:
    return lambda build: len(outcomes(build)) == number


def test_a_poison_build_ends_errored_after_three_attempts_on_different_workers(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    mark = "sleep 62.125"
    dockerfile(repository, base_image, f"{SAY_NOW} && {mark}")
    workers = ["one", "two", "three"]
    for name in workers:
        farm.start_worker(name)
    build_id = farm.submit(repository=url, pull_request=1, no_cache=True)
    for number in (1, 2, 3):
        build = farm.wait(build_id, has_attempts(number), what=f"attempt {number}")
        farm.kill(workers_of(build)[-1])
    build = farm.finished(build_id)
    assert (build["status"], build["reason"]) == ("errored", "worker_lost"), build
    assert outcomes(build) == ["lost"] * 3
    assert len(set(workers_of(build))) == 3
    for name in workers:
        farm.start_worker(name)
    nothing_is_left(farm, registry, engine, mark=mark, workers=workers, ended=[build_id])
    assert farm.build(build_id) == build


def test_a_stopped_worker_finishes_its_build_and_a_second_stop_hands_it_back(
    farm: RunningFarm,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    mark = "sleep 3.625"
    dockerfile(repository, base_image, f"{SAY_NOW} && {mark}")
    tags = [f"{registry.host}/one-host/drained:pr-1"]
    patient = {"FARM_DRAIN_S": "60"}

    def begun() -> str:
        farm.start_worker("one", settings=patient)
        build_id = farm.submit(repository=url, pull_request=1, tags=tags, no_cache=True)
        farm.wait(build_id, lambda b: outcomes(b) == [None], what="claimed")
        farm.says(build_id, NOW)
        return build_id

    drained = begun()
    exits(farm, stops=1)
    build = farm.build(drained)
    assert (build["status"], outcomes(build)) == ("succeeded", ["succeeded"]), build

    back = begun()
    exits(farm, stops=2)
    waiting = farm.build(back)
    assert (waiting["status"], outcomes(waiting)) == ("queued", ["handed_back"]), waiting
    assert one(farm, "SELECT burnt FROM parts WHERE id = :id", part_of(waiting)) == 0
    assert processes_with(mark) == []
    farm.start_worker("one")
    build = farm.finished(back)
    assert (build["status"], outcomes(build)) == ("succeeded", ["handed_back", "succeeded"]), build
    nothing_is_left(farm, registry, engine, mark=mark)


def exits(farm: RunningFarm, *, stops: int) -> None:
    """Send SIGTERM so often; the worker ends by itself, with 0."""
    process = farm.processes.pop("one")
    for _ in range(stops):
        os.kill(process.pid, signal.SIGTERM)
        wait_until(lambda: not is_pending(process.pid, signal.SIGTERM), what="signal taken")
    wait_until(lambda: process.exit_code is not None, what="worker gone", seconds=30)
    assert process.exit_code == 0


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a process has not taken a signal yet: two that are pending are one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd:")]
    return any(int(mask, 16) & 1 << (number - 1) for mask in masks)


def test_a_monstrous_log_is_kept_readable_with_head_and_tail(
    tmp_path: Path,
    database_url: str,
    own_redis: RedisServer,
    repository: Repository,
    url: str,
    base_image: str,
    engine: Engine,
    registry: Registry,
) -> None:
    dockerfile(repository, base_image, *MONSTERS)
    farm = RunningFarm(
        tmp_path,
        database_url=database_url,
        redis_url=own_redis.url,
        engine=engine,
        settings={"FARM_LOG_LIMIT": str(LOG_LIMIT)},
    )
    with running_farm(farm, "one"):
        tags = [f"{registry.host}/one-host/log:pr-1"]
        build_id = farm.submit(repository=url, pull_request=1, tags=tags, no_cache=True)
        build: Build = farm.finished(build_id)
        assert (build["status"], outcomes(build)) == ("succeeded", ["succeeded"]), build
        answer = farm.client.get(f"/builds/{build_id}/log")
        text = answer.content.decode()  # raises for what is no UTF-8
        assert len(answer.content) <= LOG_LIMIT
        assert "bad \ufffd\ufffd bytes" in text
        assert "\0" not in text
        lines = text.splitlines()
        assert lines[0].startswith("#0 fetching ")
        assert [line for line in lines if "left out: the log is longer than its limit" in line]
        assert [line for line in lines if line.endswith("the-very-end without a line break")]
        assert lines[-1].startswith("#0 succeeded")
        nothing_is_left(farm, registry, engine)
