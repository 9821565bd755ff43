"""From an HTTP POST to an image in a registry, through every process, on both databases."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.sample.registry import Login
from scripts.sample.repositories import Repository
from tests.services.engine import Engine
from tests.services.farm import RunningFarm, processes_with, running_farm
from tests.services.gitserver import Credentials, GitServer
from tests.services.postgres import PostgresCluster
from tests.services.redis import RedisServer
from tests.services.registry import Registry

CANARY = "canary-7f3a9c1e5b"
Build = dict[str, Any]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def farm(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: RedisServer,
    engine: Engine,
) -> Iterator[RunningFarm]:
    """One farm with one worker for all the tests of this module."""
    folder = tmp_path_factory.mktemp("farm")
    url = f"sqlite:///{folder / 'farm.db'}"
    if request.param == "postgres":
        cluster: PostgresCluster = request.getfixturevalue("postgres")
        url = cluster.create_database()
    made = RunningFarm(folder, database_url=url, redis_url=redis_server.url, engine=engine)
    with running_farm(made, "one"):
        yield made


@pytest.fixture
def app(git_server: GitServer, base_image: str) -> Repository:
    """A repository with an open pull request that builds in a second."""
    made = git_server.make_repository("acme/app", {"Dockerfile": f"FROM {base_image}\n"})
    made.open_pull_request(
        1,
        {
            "Dockerfile": f"FROM {base_image}\nCOPY words /words\nRUN grep -q hello /words\n",
            "words": "hello\n",
        },
    )
    return made


def test_a_pull_request_becomes_the_image_that_the_registry_has(
    farm: RunningFarm, app: Repository, git_server: GitServer, registry: Registry
) -> None:
    head = app.push_to_pull_request(1, {"words": "hello again\n"})
    tag = f"{registry.host}/e2e/app:pr-1"
    build_id = farm.submit(repository=git_server.url_of(app), pull_request=1, tags=[tag])
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", farm.log(build_id)
    assert build["sha"] == head
    assert build["image"]["digest"] == registry.digest("e2e/app", "pr-1")
    assert build["image"]["tags"] == [tag]
    config = registry.image_config("e2e/app", "pr-1")["config"]
    assert isinstance(config, dict)
    assert config["Labels"]["org.opencontainers.image.revision"] == head
    assert config["Labels"]["farm.build.id"] == build_id


def test_its_steps_log_and_events_tell_one_story(
    farm: RunningFarm, app: Repository, git_server: GitServer, registry: Registry
) -> None:
    build_id = farm.submit(
        repository=git_server.url_of(app),
        pull_request=1,
        tags=[f"{registry.host}/e2e/story:pr-1"],
        no_cache=True,
    )
    events = follow(farm, build_id)
    build = farm.build(build_id)
    steps = farm.client.get(f"/builds/{build_id}/steps").json()["items"]
    assert [kind for kind, _ in events][-1] == "done"
    assert events[-1][1] == build
    assert "".join(data["text"] for kind, data in events if kind == "log") == farm.log(build_id)
    last = {data["number"]: data for kind, data in events if kind == "step"}
    assert [last[step["number"]] for step in steps] == steps
    run = next(step for step in steps if "RUN grep" in step["name"])
    assert (run["status"], run["cached"]) == ("succeeded", False)
    assert build["steps"]["total"] == len(steps)


def follow(farm: RunningFarm, build_id: str) -> list[tuple[str, Any]]:
    events = []
    headers = {"Authorization": f"Bearer {farm.token}"}
    address = f"{farm.url}/api/v1/builds/{build_id}/events"
    with httpx.stream("GET", address, headers=headers, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((kind, json.loads(line.removeprefix("data: "))))
    return events


def test_private_things_work_and_leave_no_trace(
    farm: RunningFarm,
    git_server: GitServer,
    base_image: str,
    engine: Engine,
    tmp_path: Path,
) -> None:
    git_token, password = f"git-{CANARY}", f"registry-{CANARY}"
    app = git_server.make_repository(
        "acme/private",
        {
            "Dockerfile": f"FROM {base_image}\n"
            "RUN --mount=type=secret,id=PIP_TOKEN cat /run/secrets/PIP_TOKEN && echo seen\n"
        },
        credentials=Credentials("robot", git_token),
    )
    (tmp_path / "registry").mkdir()
    registry = Registry(tmp_path / "registry", login=Login("pusher", password))
    registry.start()
    try:
        url = git_server.url_of(app)
        post(farm, "/secrets", name="PIP_TOKEN", value=f"pip-{CANARY}")
        post(farm, "/registries", host=registry.host, username="pusher", password=password)
        post(
            farm,
            "/projects",
            name="acme/private",
            repository=url,
            git_username="robot",
            git_token=git_token,
        )
        build_id = farm.submit(
            project="acme/private",
            ref="main",
            tags=[f"{registry.host}/e2e/private:main"],
            secrets=["PIP_TOKEN"],
            no_cache=True,
        )
        build = farm.finished(build_id)
        assert build["status"] == "succeeded", farm.log(build_id)
        assert registry.digest("e2e/private", "main") == build["image"]["digest"]
        assert "seen" in farm.log(build_id)
        assert sinks_with(CANARY, farm, engine, registry, build_id) == []
    finally:
        registry.stop()


def post(farm: RunningFarm, path: str, **body: object) -> None:
    answer = farm.client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    assert CANARY not in answer.text


def sinks_with(
    canary: str, farm: RunningFarm, engine: Engine, registry: Registry, build_id: str
) -> list[str]:
    """Every place that a secret must not reach, and did."""
    found = [
        str(path)
        for path in farm.folder.rglob("*")
        if path.is_file() and canary.encode() in path.read_bytes()
    ]
    texts = {
        "log": farm.log(build_id),
        "build": json.dumps(farm.build(build_id)),
        "steps": farm.client.get(f"/builds/{build_id}/steps").text,
        "image": json.dumps(registry.image_config("e2e/private", "main")),
        "lists": "".join(
            farm.client.get(path).text for path in ("/secrets", "/registries", "/projects")
        ),
    }
    found += [name for name, text in texts.items() if canary in text]
    return found + [f"process {pid}" for pid in processes_with(canary)]


def test_a_wrong_registry_password_fails_before_building_and_says_where(
    farm: RunningFarm, app: Repository, git_server: GitServer, tmp_path: Path
) -> None:
    (tmp_path / "registry").mkdir()
    registry = Registry(tmp_path / "registry", login=Login("pusher", "the-right-one"))
    registry.start()
    try:
        post(farm, "/registries", host=registry.host, username="pusher", password="the-wrong-one")
        tags = [f"{registry.host}/e2e/refused:pr-1"]
        build_id = farm.submit(repository=git_server.url_of(app), pull_request=1, tags=tags)
        build = farm.finished(build_id)
        assert (build["status"], build["reason"]) == ("failed", "registry_unauthorized")
        assert registry.host in build["message"]
        assert "farm registry login" in build["cure"]
        assert build["steps"]["total"] == 0
        post(farm, "/registries", host=registry.host, username="pusher", password="the-right-one")
        again = farm.client.post(f"/builds/{build_id}/retry")
        assert again.status_code == 202
        retried = farm.finished(again.json()["id"])
        assert (retried["status"], retried["retry_of"]) == ("succeeded", build_id)
    finally:
        registry.stop()


def test_a_failing_step_is_the_projects_fault_and_is_named(
    farm: RunningFarm, app: Repository, git_server: GitServer, registry: Registry
) -> None:
    app.push_to_pull_request(1, {"words": "goodbye\n"})
    build_id = farm.submit(
        repository=git_server.url_of(app), pull_request=1, tags=[f"{registry.host}/e2e/no:1"]
    )
    build = farm.finished(build_id)
    assert (build["status"], build["reason"]) == ("failed", "step_failed")
    assert "grep" in build["message"]
    assert len(build["parts"][0]["attempts"]) == 1
    assert registry.digest("e2e/no", "1") is None


def test_without_a_push_there_is_a_digest_and_no_tag(
    farm: RunningFarm, app: Repository, git_server: GitServer
) -> None:
    build_id = farm.submit(repository=git_server.url_of(app), pull_request=1)
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", farm.log(build_id)
    assert build["image"]["digest"].startswith("sha256:")
    assert build["image"]["tags"] == []


def test_a_cancelled_build_stops_within_two_seconds(
    farm: RunningFarm, app: Repository, git_server: GitServer, base_image: str
) -> None:
    slow = f"FROM {base_image}\nRUN echo going && sleep 31.25\n"
    app.push_to_pull_request(1, {"Dockerfile": slow})
    build_id = farm.submit(repository=git_server.url_of(app), pull_request=1)
    farm.says(build_id, "going")
    assert farm.client.post(f"/builds/{build_id}/cancel").status_code == 202
    build = farm.finished(build_id, seconds=5)
    assert (build["status"], build["reason"]) == ("cancelled", "requested")
    assert processes_with("sleep 31.25") == []
    assert farm.client.post(f"/builds/{build_id}/cancel").status_code == 409


def test_a_build_past_its_timeout_ends_and_takes_its_steps_with_it(
    farm: RunningFarm, app: Repository, git_server: GitServer, base_image: str
) -> None:
    stubborn = f"FROM {base_image}\nRUN trap '' TERM INT && sleep 41.75\n"
    app.push_to_pull_request(1, {"Dockerfile": stubborn})
    build_id = farm.submit(repository=git_server.url_of(app), pull_request=1, timeout_s=2)
    build = farm.finished(build_id, seconds=20)
    assert (build["status"], build["reason"]) == ("failed", "timed_out")
    assert processes_with("sleep 41.75") == []


def test_an_older_commits_build_that_ends_later_does_not_move_the_tag(
    farm: RunningFarm, app: Repository, git_server: GitServer, registry: Registry
) -> None:
    url, tag = git_server.url_of(app), f"{registry.host}/e2e/newest:main"
    first = app.sha("refs/heads/main")
    second = app.commit({"more": "words\n"}, message="Second")
    newer = farm.submit(repository=url, ref="main", sha=first, tags=[tag])
    farm.finished(newer)
    newest = farm.finished(farm.submit(repository=url, ref="main", sha=second, tags=[tag]))
    older = farm.finished(farm.submit(repository=url, ref="main", sha=first, tags=[tag]))
    assert older["status"] == "succeeded"
    assert older["image"]["tags"] == []
    assert registry.digest("e2e/newest", "main") == newest["image"]["digest"]
