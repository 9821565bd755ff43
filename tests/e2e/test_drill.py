"""Random kills under load: nothing is lost, nothing is accepted twice, every tag is right."""

import os
import random
from pathlib import Path

import pytest

from tests.drill.checker import check
from tests.drill.run import SLOTS, WORKERS, Drill, Load, quiet
from tests.services.engine import Engine
from tests.services.farm import Pace, RunningFarm, running_farm
from tests.services.gitserver import GitServer
from tests.services.redis import RedisServer
from tests.services.registry import Registry

BUILDS = int(os.environ.get("FARM_TEST_DRILL_BUILDS", "60"))
SEED = int(os.environ.get("FARM_TEST_DRILL_SEED", "20261124"))
LEASE_S = 4.0


@pytest.mark.timeout(3600)
def test_a_drill_of_random_kills_loses_nothing_and_moves_no_tag_wrongly(
    tmp_path: Path,
    drill_database: str,
    own_redis: RedisServer,
    engine: Engine,
    registry: Registry,
    git_server: GitServer,
    base_image: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository = git_server.make_repository(
        "acme/drill",
        {"Dockerfile": f"FROM {base_image}\nCOPY . /app\nRUN sleep $(cat /app/wait)\n"},
    )
    farm = RunningFarm(
        tmp_path,
        database_url=drill_database,
        redis_url=own_redis.url,
        engine=engine,
        pace=Pace(heartbeat_s=0.7, lease_s=LEASE_S, claim_s=2.5),
        settings={"FARM_MAX_ATTEMPTS": "10"},  # a drill kills more often than a poison build
    )
    chance = random.Random(SEED)
    with running_farm(farm):
        for name in WORKERS:
            farm.start_worker(name, slots=SLOTS)
        drill = Drill(farm, own_redis, chance, LEASE_S)
        url = git_server.url_of(repository)
        load = Load(farm, repository, url, registry.host, BUILDS, chance)
        drill.run(load, every_s=(1.0, 3.0))
        quiet(farm)
    verdict = check(drill_database, registry.host, drill.faults)
    with capsys.disabled():
        print(f"\ndrill, seed {SEED}: {len(drill.faults)} faults; {verdict.report()}")  # noqa: T201
    assert verdict.builds == BUILDS
    assert verdict.wrong == []
