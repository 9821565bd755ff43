"""Garbage on a worker's queue is dropped: the worker goes on, in the same process."""

import base64
import json
import pickle

import pytest
import redis

from scripts.sample.repositories import Repository
from tests.services.farm import RunningFarm
from tests.services.gitserver import GitServer
from tests.services.redis import RedisServer

QUEUE = "worker.one"


def message(arguments: object, /, **changes: object) -> str:
    """A Celery message as kombu lays it on a list, with something wrong in it."""
    whole = {
        "body": base64.b64encode(json.dumps(arguments).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"id": "1.1", "task": "farm.attempt", "lang": "py"},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "tag",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    }
    return json.dumps({**whole, **changes})


ARGUMENTS: list[object] = [
    [[1, 1], {}, {}],
    [["x", None], {}, {}],
    [[2**63, 1], {}, {}],
    [[], {}, {}],
]
GARBAGE = [
    "garbage",
    "[1,2]",
    "null",
    "17",
    '"x"',
    "[" * 100_000,
    *(message(arguments) for arguments in ARGUMENTS),
    message("x"),
    message([[1, 1], {}, {}], properties=None),
    message([[1, 1], {}, {}], properties={"body_encoding": "rot13"}),
    message([[1, 1], {}, {}], body=17),
    message([[1, 1], {}, {}], headers={"id": "1", "task": "os.system", "lang": "py"}),
    message([[1, 1], {}, {}], headers={"id": "1", "task": ["farm.attempt"], "lang": "py"}),
    message(
        None,
        body=base64.b64encode(pickle.dumps([[1, 1], {}, {}])).decode(),
        **{"content-type": "application/x-python-serialize", "content-encoding": "binary"},
    ),
]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_garbage_on_the_queue_does_not_end_the_worker(
    farm: RunningFarm,
    own_redis: RedisServer,
    git_server: GitServer,
    repository: Repository,
    base_image: str,
) -> None:
    repository.push_to_pull_request(1, {"Dockerfile": f"FROM {base_image}\n"})
    url = git_server.url_of(repository)
    farm.start_worker("one")
    pid = farm.processes["one"].pid
    with redis.Redis.from_url(own_redis.url) as client:
        for garbage in GARBAGE:
            client.lpush(QUEUE, garbage)
        build = farm.finished(farm.submit(repository=url, pull_request=1))
        assert build["status"] == "succeeded", build
        client.delete(QUEUE)
        client.set(QUEUE, "no list")
        again = farm.finished(farm.submit(repository=url, pull_request=1))
        assert again["status"] == "succeeded", again
        assert client.llen(QUEUE) == 0
    assert farm.processes["one"].is_running()
    assert farm.processes["one"].pid == pid
