"""A worker's tools against a real engine, registry and git server; the control plane is a fake."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farm.protocol import ClaimAnswer, Credentials
from farm.settings import Settings
from farm.spec import BuildSpec
from tests.integration.workers.fake_control import FakeAttempt, FakeControlPlane
from tests.services.engine import Engine
from tests.services.registry import Login, Registry
from workers.identity import Identity
from workers.runner import Attempt
from workers.toolbox import Layout, Toolbox, make_toolbox


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    found = FakeControlPlane()
    found.start()
    yield found
    found.stop()


class Bench:
    """One pool process's worth of a worker, run by the test's own thread."""

    def __init__(self, folder: Path, plane: FakeControlPlane, engine: Engine) -> None:
        self.plane = plane
        self.engine = engine
        self.tmp = folder / "tmp"
        self.settings = Settings(
            worker_dir=folder / "worker",
            worker_tmp=self.tmp,
            worker_name="bench",
            server=plane.url,
            insecure_ok=True,
        )
        self.layout = Layout.of(self.settings)
        plane.workers["own"] = "bench"
        Identity("bench", "own", "0" * 32, plane.url).write(self.layout.identity_file)
        self.shutdown, self.shutdown_writer = os.pipe()
        environment = {"DOCKER_HOST": engine.host, "HOME": str(folder)}
        self.tools: Toolbox = make_toolbox(
            self.settings,
            self.layout,
            environment,
            broker_url=plane.broker_url,
            slot=0,
            shutdown=self.shutdown,
        )
        self.tools.git.prepare()
        self.tools.spool.prepare()
        self._number = 0

    def close(self) -> None:
        self.tools.cancels.close()
        self.tools.registry_client.close()
        self.tools.control.close()
        os.close(self.shutdown)
        self.hand_back()

    def hand_back(self) -> None:
        """As the main process does when it stops."""
        if self.shutdown_writer >= 0:
            os.close(self.shutdown_writer)
            self.shutdown_writer = -1

    def order(
        self,
        spec: BuildSpec,
        *,
        sha: str | None = None,
        credentials: Credentials | None = None,
        timeout_s: float = 60,
        log_limit: int = 1024**2,
        **more: object,
    ) -> FakeAttempt:
        """Let the control plane have an attempt that this worker may claim."""
        self._number += 1
        answer = ClaimAnswer(
            build_id=str(self._number),
            part_id=self._number,
            attempt=1,
            platform=None,
            project_id=1,
            spec=spec,
            sha=sha,
            credentials=credentials or Credentials(),
            farm_labels={"farm.build.id": "x"},
            timeout_s=timeout_s,
            log_limit=log_limit,
            published=None,
            lease_s=60,
            heartbeat_s=0.2,
        ).model_copy(update=more)
        return self.plane.add(answer)

    def run(self, attempt: FakeAttempt) -> FakeAttempt:
        """Carry it out, here and now."""
        Attempt(self.tools, attempt.answer.part_id, attempt.answer.attempt).carry_out()
        return attempt

    @contextmanager
    def running(self, attempt: FakeAttempt) -> Iterator[FakeAttempt]:
        """Carry it out in a thread, which has ended at the end."""
        thread = threading.Thread(target=self.run, args=[attempt])
        thread.start()
        try:
            yield attempt
        finally:
            thread.join(60)
            assert not thread.is_alive()

    def leftovers(self) -> list[str]:
        """Files of attempts that are still on the disk."""
        return [str(path) for path in self.layout.tmp.rglob("*")]


@pytest.fixture
def bench(tmp_path: Path, plane: FakeControlPlane, engine: Engine) -> Iterator[Bench]:
    found = Bench(tmp_path, plane, engine)
    yield found
    found.close()


@pytest.fixture
def private_registry(tmp_path: Path) -> Iterator[Registry]:
    found = Registry(tmp_path / "private-registry", login=Login("pusher", "registry-pass-1234"))
    found.start()
    yield found
    found.stop()
