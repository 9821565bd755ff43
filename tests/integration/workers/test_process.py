"""The worker as a process, with a real Redis and engine: how it starts, stops and dies."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.broker import Dispatcher
from farm.protocol import ClaimAnswer, Credentials
from farm.reasons import Reason
from farm.spec import BuildSpec
from farm.states import Outcome
from farm.wakeups import Wakeups
from scripts.sample.processes import wait_until
from tests.integration.workers.fake_control import (
    ENROLMENT_TOKEN,
    FakeAttempt,
    FakeControlPlane,
)
from tests.services.engine import Engine
from tests.services.farm import descendants, processes_with
from tests.services.gitserver import GitServer
from tests.services.redis import RedisServer

pytestmark = pytest.mark.engine


class RunningWorker:
    """`farm worker`, started as people start it."""

    def __init__(
        self, folder: Path, plane: FakeControlPlane, engine: Engine, redis: RedisServer
    ) -> None:
        plane.broker_url = redis.url
        self.plane = plane
        self.folder = folder
        self.tmp = folder / "tmp"
        self.tmp.mkdir()
        self.dispatcher = Dispatcher(redis.url)
        self.settings = {"FARM_DRAIN_S": "30"}
        self._engine = engine
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0

    def start(self, **settings: str) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "DOCKER_HOST": self._engine.host,
            "FARM_SERVER": self.plane.url,
            "FARM_WORKER_TOKEN": ENROLMENT_TOKEN,
            "FARM_WORKER_NAME": "one",
            "FARM_WORKER_SLOTS": "1",
            "FARM_WORKER_DIR": str(self.folder / "worker"),
            "FARM_WORKER_TMP": str(self.tmp),
            "FARM_INSECURE_OK": "1",
            **self.settings,
            **settings,
        }
        with (self.folder / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "farm.cli.main", "worker"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def text(self) -> str:
        return (self.folder / "worker.log").read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def pool(self) -> list[int]:
        """The pool processes."""
        return [
            pid
            for pid in descendants(self.process.pid)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            == str(self.process.pid)
        ]

    def send(self, spec: BuildSpec, *, heartbeat_s: float = 0.2) -> FakeAttempt:
        self._number += 1
        attempt = self.plane.add(
            ClaimAnswer(
                build_id=str(self._number),
                part_id=self._number,
                attempt=1,
                platform=None,
                project_id=1,
                spec=spec,
                sha=None,
                credentials=Credentials(secrets={"token": "a-secret-value"}),
                farm_labels={},
                timeout_s=60,
                log_limit=1024**2,
                published=None,
                lease_s=60,
                heartbeat_s=heartbeat_s,
            )
        )
        self.dispatcher.send("one", self._number, 1)
        return attempt

    def clean(self, mark: str) -> bool:
        """No process, file or credential of an attempt is left."""
        files = [path for path in self.tmp.rglob("*") if path.is_file()]
        return not (files or processes_with(mark) or processes_with(str(self.tmp) + "/farm-"))


@pytest.fixture
def worker(
    tmp_path: Path, plane: FakeControlPlane, engine: Engine, fresh_redis: RedisServer
) -> Iterator[RunningWorker]:
    found = RunningWorker(tmp_path, plane, engine, fresh_redis)
    yield found
    found.kill()
    found.dispatcher.close()


def sleeping(git_server: GitServer, base_image: str, seconds: str) -> BuildSpec:
    dockerfile = f"FROM {base_image}\nRUN --mount=type=secret,id=token echo now; sleep {seconds}\n"
    repository = git_server.make_repository("team/app", {"Dockerfile": dockerfile})
    return BuildSpec(repository=git_server.url_of(repository), secrets=["token"], no_cache=True)


def in_the_step(attempt: FakeAttempt) -> None:
    wait_until(lambda: " now\n" in attempt.text, what="in the step")


def test_a_worker_waits_for_the_control_plane_enrols_once_and_keeps_its_token_private(
    worker: RunningWorker, plane: FakeControlPlane
) -> None:
    plane.silent = True
    worker.start()
    wait_until(lambda: len(plane.requests) > 2, what="asked more than once")
    assert worker.process.poll() is None
    plane.silent = False
    wait_until(lambda: bool(plane.check_ins), what="checked in")
    identity = worker.folder / "worker" / "identity.json"
    assert stat.S_IMODE(identity.stat().st_mode) == 0o600
    assert json.loads(identity.read_text())["name"] == "one"
    facts = plane.check_ins[0]
    assert facts.engine_ok
    assert "linux/amd64" in facts.platforms
    assert facts.disk_total > 0
    assert {"engine", "buildx", "git", "kernel"} <= set(facts.engine)
    enrolments = plane.requests.count("/worker/v1/enrol")
    worker.signal(signal.SIGTERM)
    assert worker.process.wait(20) == 0
    worker.start()
    wait_until(lambda: len(plane.check_ins) > 3, what="checked in again")
    assert plane.requests.count("/worker/v1/enrol") == enrolments


def test_a_worker_whose_token_was_revoked_enrols_again(
    worker: RunningWorker, plane: FakeControlPlane
) -> None:
    worker.start()
    wait_until(lambda: bool(plane.check_ins), what="checked in")
    plane.workers.clear()
    plane.check_ins.clear()
    wait_until(lambda: bool(plane.check_ins), what="checked in again")
    assert list(plane.workers.values()) == ["one"]


def test_a_wrong_enrolment_token_is_said_at_once(worker: RunningWorker) -> None:
    worker.start(FARM_WORKER_TOKEN="nobody-knows-it")
    assert worker.process.wait(20) == 1
    assert "FARM_WORKER_TOKEN" in worker.text
    assert "nobody-knows-it" not in worker.text


def test_a_stop_lets_the_running_build_finish_and_takes_no_other(
    worker: RunningWorker, git_server: GitServer, base_image: str, plane: FakeControlPlane
) -> None:
    worker.start()
    spec = sleeping(git_server, base_image, "2.625")
    running = worker.send(spec)
    in_the_step(running)
    worker.signal(signal.SIGTERM)
    wait_until(lambda: plane.check_ins[-1].stopping, what="said that it stops")
    waiting = worker.send(spec)
    assert worker.process.wait(20) == 0
    assert running.finish is not None
    assert running.finish.outcome is Outcome.SUCCEEDED
    assert waiting.claim is None
    assert list(worker.tmp.iterdir()) == []


@pytest.mark.parametrize("how", ["drained", "second signal", "quit"])
def test_a_stop_hands_the_running_build_back_when_its_time_is_up(
    worker: RunningWorker, git_server: GitServer, base_image: str, how: str
) -> None:
    worker.start(FARM_DRAIN_S="0.5" if how == "drained" else "30")
    attempt = worker.send(sleeping(git_server, base_image, "63.125"))
    in_the_step(attempt)
    began = time.monotonic()
    worker.signal(signal.SIGQUIT if how == "quit" else signal.SIGTERM)
    if how == "second signal":
        time.sleep(0.2)
        worker.signal(signal.SIGTERM)
    assert worker.process.wait(20) == 0
    assert time.monotonic() - began < 8
    assert attempt.handed_back is not None
    assert attempt.finish is None
    wait_until(lambda: worker.clean("sleep 63.125"), what="host clean", seconds=10)


def test_a_killed_pool_process_is_reported_and_leaves_nothing(
    worker: RunningWorker, git_server: GitServer, base_image: str
) -> None:
    worker.start()
    attempt = worker.send(sleeping(git_server, base_image, "64.125"))
    in_the_step(attempt)
    for pid in worker.pool():
        os.kill(pid, signal.SIGKILL)
    assert attempt.ended.wait(10), worker.text
    assert attempt.finish is not None
    assert (attempt.finish.outcome, attempt.finish.reason) == (Outcome.LOST, Reason.WORKER_LOST)
    wait_until(lambda: worker.clean("sleep 64.125"), what="host clean", seconds=10)
    after = worker.send(sleeping_again(attempt))
    wait_until(lambda: after.claim is not None, what="a new pool process claims")


def sleeping_again(attempt: FakeAttempt) -> BuildSpec:
    return attempt.answer.spec


def test_a_killed_worker_leaves_no_process_and_its_successor_says_what_was_lost(
    worker: RunningWorker, git_server: GitServer, base_image: str
) -> None:
    worker.start()
    attempt = worker.send(sleeping(git_server, base_image, "65.125"))
    in_the_step(attempt)
    pool = worker.pool()
    worker.kill()
    wait_until(
        lambda: not (processes_with("sleep 65.125") or any(map(_is_alive, pool))),
        what="everything ended",
        seconds=10,
    )
    assert (attempt.finish, attempt.handed_back) == (None, None)
    worker.start()
    assert attempt.ended.wait(20), worker.text
    assert attempt.finish is not None
    assert attempt.finish.outcome is Outcome.LOST
    wait_until(lambda: worker.clean("sleep 65.125"), what="host clean", seconds=10)


def _is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_cancel_comes_through_redis_at_once(
    worker: RunningWorker, git_server: GitServer, base_image: str, fresh_redis: RedisServer
) -> None:
    worker.start()
    attempt = worker.send(sleeping(git_server, base_image, "66.125"), heartbeat_s=60)
    in_the_step(attempt)
    began = time.monotonic()
    attempt.cancel = True
    with Wakeups(fresh_redis.url) as wakeups:
        wakeups.cancel("one", attempt.answer.part_id, 1)
        assert attempt.ended.wait(10)
    assert time.monotonic() - began < 2
    assert attempt.finish is not None
    assert attempt.finish.outcome is Outcome.CANCELLED


def test_a_forged_cancel_only_makes_the_worker_ask(
    worker: RunningWorker, git_server: GitServer, base_image: str, fresh_redis: RedisServer
) -> None:
    worker.start()
    attempt = worker.send(sleeping(git_server, base_image, "3.125"), heartbeat_s=60)
    in_the_step(attempt)
    with Wakeups(fresh_redis.url) as wakeups:
        for _ in range(50):
            wakeups.cancel("one", attempt.answer.part_id, 1)
            time.sleep(0.02)
        wait_until(lambda: attempt.heartbeats > 0, what="asked")
    assert attempt.ended.wait(20)
    assert attempt.finish is not None
    assert attempt.finish.outcome is Outcome.SUCCEEDED
    assert attempt.heartbeats < 15


def test_a_redis_that_restarts_stops_neither_the_build_nor_the_worker(
    worker: RunningWorker, git_server: GitServer, base_image: str, fresh_redis: RedisServer
) -> None:
    worker.start()
    spec = sleeping(git_server, base_image, "2.125")
    attempt = worker.send(spec)
    in_the_step(attempt)
    fresh_redis.restart()
    assert attempt.ended.wait(20), worker.text
    assert attempt.finish is not None
    assert attempt.finish.outcome is Outcome.SUCCEEDED
    again = worker.send(spec)
    assert again.ended.wait(40), worker.text
    assert worker.process.poll() is None
