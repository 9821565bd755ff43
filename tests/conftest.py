"""Real services for whoever asks. A program that is missing fails the test, and names the cure."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.engine import Engine, engine_for_tests
from tests.services.gitserver import GitServer
from tests.services.images import base_image as make_base_image
from tests.services.postgres import PostgresCluster
from tests.services.redis import RedisServer
from tests.services.registry import Registry


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for the session; a test that kills or empties it says `fresh_redis` or starts its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def fresh_redis(redis_server: RedisServer) -> RedisServer:
    """The session's server, running and empty."""
    if not redis_server.answers():
        redis_server.restart()
    redis_server.flush()
    return redis_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """A cluster; `create_database()` gives the URL of an empty database."""
    cluster = PostgresCluster()
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind: a test that asks for this runs on both."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'farm.db'}"
        return
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    url = cluster.create_database()
    yield url
    cluster.drop_database(url)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without login, for names of a test's own; `Registry(folder, login=)` has one."""
    server = Registry(tmp_path_factory.mktemp("registry"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker Engine with buildx."""
    found = engine_for_tests()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    """The name of an image with busybox, for FROM."""
    return make_base_image(engine)


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    """A forge's git side with no repositories yet; cheap, so every test has one of its own."""
    server = GitServer(tmp_path / "repositories")
    server.start()
    yield server
    server.stop()
