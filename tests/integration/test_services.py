"""The services that other tests stand on do what those tests believe of them."""

import gzip
import subprocess
from pathlib import Path

import httpx
import psycopg
import pytest
import redis
from sqlalchemy import create_engine, text

from scripts.sample.processes import ServiceError, pid_is_alive, program
from tests.services.engine import Engine
from tests.services.gitserver import Credentials, GitServer
from tests.services.images import base_image_in_registry
from tests.services.postgres import PostgresCluster
from tests.services.redis import RedisServer
from tests.services.registry import Login, Registry

DOCKERFILE = "FROM {base}\nRUN echo built > /made\nLABEL seen=yes\n"


def git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_missing_program_names_the_cure() -> None:
    with pytest.raises(ServiceError, match=r"run scripts/setup --test"):
        program("no-such-program-anywhere")


def test_a_killed_redis_comes_back_empty_on_the_same_port(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    pid, url = server.pid, server.url
    with redis.Redis.from_url(url) as client:
        client.set("a", "b")
    server.restart()
    try:
        assert server.url == url
        assert not pid_is_alive(pid)
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 0
    finally:
        server.stop()
    assert not server.answers()


def test_a_fresh_redis_is_empty(fresh_redis: RedisServer) -> None:
    with redis.Redis.from_url(fresh_redis.url) as client:
        assert client.dbsize() == 0


def test_every_test_has_an_empty_database_of_each_kind(database_url: str) -> None:
    database = create_engine(database_url)
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE only_here (id integer)"))
        connection.execute(text("INSERT INTO only_here VALUES (1)"))
        assert connection.execute(text("SELECT count(*) FROM only_here")).scalar_one() == 1
    database.dispose()


def test_a_dropped_database_is_gone_though_somebody_was_connected(
    postgres: PostgresCluster,
) -> None:
    url = postgres.create_database()
    plain = url.replace("+psycopg", "")
    with psycopg.connect(plain):
        postgres.drop_database(url)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(plain)


def test_a_pull_request_is_fetched_by_its_ref_and_by_its_commit(
    git_server: GitServer, tmp_path: Path
) -> None:
    repository = git_server.make_repository(
        "acme/app", {"Dockerfile": "FROM scratch\n", "old": "x"}
    )
    head = repository.open_pull_request(7, {"new": b"\x00\xff", "old": None})
    url = git_server.url_of(repository)
    git("init", "--quiet", ".", cwd=tmp_path)
    git("fetch", "--quiet", "--depth=1", url, "refs/pull/7/head", cwd=tmp_path)
    assert git("rev-parse", "FETCH_HEAD", cwd=tmp_path) == head
    assert git("ls-tree", "--name-only", "FETCH_HEAD", cwd=tmp_path).split() == [
        "Dockerfile",
        "new",
    ]
    newer = repository.push_to_pull_request(7, {"new": "again"})
    assert newer != head
    assert repository.sha("refs/pull/7/head") == newer
    git("fetch", "--quiet", "--depth=1", url, newer, cwd=tmp_path)
    assert git("show", "FETCH_HEAD:new", cwd=tmp_path) == "again"


def test_a_commit_that_no_ref_names_can_be_refused(tmp_path: Path) -> None:
    git_server = GitServer(tmp_path / "repositories", protocol_v2=False)
    git_server.start()
    repository = git_server.make_repository("acme/app", {"a": "1"})
    lost = repository.commit({"a": "2"}, branch="gone")
    repository.git("update-ref", "-d", "refs/heads/gone")
    git("init", "--quiet", ".", cwd=tmp_path)
    git("fetch", git_server.url_of(repository), lost, cwd=tmp_path)
    repository.configure("uploadpack.allowAnySHA1InWant", "false")
    with pytest.raises(subprocess.CalledProcessError):
        git("fetch", "--refetch", git_server.url_of(repository), lost, cwd=tmp_path)
    git_server.stop()


def test_a_private_repository_asks_for_its_token(git_server: GitServer, tmp_path: Path) -> None:
    repository = git_server.make_repository(
        "acme/private", {"a": "1"}, credentials=Credentials("bot", "t0ken")
    )
    url = git_server.url_of(repository)
    git_without_prompt = {"GIT_TERMINAL_PROMPT": "0", "PATH": "/usr/bin:/bin"}
    refused = subprocess.run(
        ["git", "ls-remote", url], env=git_without_prompt, capture_output=True, check=False
    )
    assert refused.returncode != 0
    assert git("ls-remote", url.replace("://", "://bot:t0ken@"), "HEAD", cwd=tmp_path)
    assert {request.status for request in git_server.requests} == {200, 401}
    assert "bot" in {request.username for request in git_server.requests}


def test_a_push_with_a_chunked_body_arrives(git_server: GitServer, tmp_path: Path) -> None:
    repository = git_server.make_repository(
        "acme/app", {"a": "1"}, credentials=Credentials("bot", "t0ken")
    )
    url = git_server.url_of(repository).replace("://", "://bot:t0ken@")
    git("clone", "--quiet", url, "clone", cwd=tmp_path)
    clone = tmp_path / "clone"
    # More than http.postBuffer: git sends it in chunks.
    (clone / "big").write_bytes(bytes(range(256)) * 1000)
    git("add", ".", cwd=clone)
    git(
        "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=big", cwd=clone
    )
    git("-c", "http.postBuffer=1024", "-c", "core.compression=0", "push", "--quiet", cwd=clone)
    assert repository.sha("refs/heads/main") == git("rev-parse", "HEAD", cwd=clone)


def test_a_compressed_body_is_understood(git_server: GitServer) -> None:
    repository = git_server.make_repository("acme/app", {"a": "1"})
    body = gzip.compress(b"0014command=ls-refs\n00010009peel\n0000")
    answer = httpx.post(
        f"{git_server.url_of(repository)}/git-upload-pack",
        content=body,
        headers={
            "Content-Type": "application/x-git-upload-pack-request",
            "Content-Encoding": "gzip",
            "Git-Protocol": "version=2",
        },
    )
    assert answer.status_code == 200
    assert repository.sha("HEAD").encode() in answer.content


def test_an_unknown_repository_is_not_found(git_server: GitServer) -> None:
    for path in ("/acme/none.git/info/refs", "/../../etc/passwd", "/"):
        assert httpx.get(git_server.url + path).status_code == 404


def test_a_registry_with_a_login_lets_only_that_login_in(tmp_path: Path) -> None:
    server = Registry(tmp_path, login=Login("ada", "s3cret"))
    server.start()
    try:
        assert httpx.get(f"{server.url}/v2/").status_code == 401
        assert httpx.get(f"{server.url}/v2/", auth=("ada", "wrong")).status_code == 401
        assert httpx.get(f"{server.url}/v2/", auth=("ada", "s3cret")).status_code == 200
        assert server.tags("none") == []
        assert server.digest("none", "latest") is None
    finally:
        server.stop()


@pytest.mark.engine
def test_an_image_is_built_without_a_pull_and_read_back_from_the_registry(
    engine: Engine, base_image: str, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(base=base_image))
    name = "services/built"
    reference = f"{registry.host}/{name}:one"
    engine.docker(
        "buildx", "build", "--provenance=false", "--push", "--tag", reference, str(tmp_path)
    )
    digest = registry.digest(name, "one")
    assert digest is not None
    assert digest.startswith("sha256:")
    registry.put_manifest(name, "two", of=digest)
    assert registry.tags(name) == ["one", "two"]
    assert registry.digest(name, "two") == digest
    config = registry.image_config(name, "one")["config"]
    assert isinstance(config, dict)
    assert config["Labels"] == {"seen": "yes"}
    assert f"/v2/{name}/manifests/" in registry.access_log.read_text()
    engine.docker("image", "rm", reference)


@pytest.mark.engine
def test_a_base_image_can_be_pulled_from_the_registry(
    engine: Engine, registry: Registry, tmp_path: Path
) -> None:
    base = base_image_in_registry(engine, registry)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    engine.docker("buildx", "build", "--pull", "--quiet", str(tmp_path))
