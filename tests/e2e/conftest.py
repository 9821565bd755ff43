"""Whole farms for the end-to-end tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.sample.repositories import Repository
from tests.services.engine import Engine
from tests.services.farm import Pace, RunningFarm, running_farm
from tests.services.gitserver import GitServer
from tests.services.postgres import PostgresCluster
from tests.services.redis import RedisServer


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that this test may kill and empty."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def farm(
    tmp_path: Path, database_url: str, own_redis: RedisServer, engine: Engine
) -> Iterator[RunningFarm]:
    """The control plane alone: the test starts its workers."""
    made = RunningFarm(
        tmp_path,
        database_url=database_url,
        redis_url=own_redis.url,
        engine=engine,
        pace=Pace(heartbeat_s=0.5, lease_s=3, claim_s=2),
    )
    with running_farm(made):
        yield made


@pytest.fixture
def repository(git_server: GitServer) -> Repository:
    """A repository with an open pull request, number 1."""
    made = git_server.make_repository("acme/app", {"README": "the app\n"})
    made.open_pull_request(1, {"change": "one\n"})
    return made


@pytest.fixture
def drill_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, or Postgres where FARM_TEST_DRILL_DATABASE asks for it (make soak)."""
    if os.environ.get("FARM_TEST_DRILL_DATABASE") != "postgres":
        return f"sqlite:///{tmp_path / 'farm.db'}"
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    return cluster.create_database()
