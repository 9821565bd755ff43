"""The files that README names for one build are the ones it passes, in that order."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from celery import Celery
from werkzeug.serving import make_server

from farm import access, db, schema
from farm.protocol import ATTEMPT_TASK, PROTOCOL, Enrolment
from farm.scheduler import Scheduler
from farm.settings import Settings
from farm.wakeups import Wakeups
from scripts.sample.processes import free_port
from tests.services.engine import Engine
from tests.services.gitserver import GitServer
from tests.services.redis import RedisServer
from tests.services.registry import Registry
from web.app import Presence, create_app
from web.context import EXTENSION
from workers import tasks
from workers.caretaker import CheckIns
from workers.control import Control, enrol, make_client
from workers.engine import Engine as WorkerEngine
from workers.git import Git
from workers.identity import Identity
from workers.spool import Spool
from workers.toolbox import Layout, make_toolbox

ROOT = Path(__file__).parent.parent.parent


def named_in_readme() -> list[str]:
    return re.findall(r"^\d\. \[([\w/.]+)\]\(", (ROOT / "README.md").read_text(), re.MULTILINE)


class Passed:
    """The files of the product whose functions were called, by first call."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            name = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
            if name not in self.files:
                self.files.append(name)


@contextmanager
def traced() -> Iterator[Passed]:
    passed = Passed()
    sys.setprofile(passed)
    threading.setprofile(passed)
    try:
        yield passed
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


class Direct:
    """Carries messages as Celery does, but at once and in this process."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(self, _worker: str, part_id: int, attempt: int) -> None:
        """Run the worker's task."""
        self._app.tasks[ATTEMPT_TASK](part_id, attempt)

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def settings(tmp_path: Path, redis_server: RedisServer) -> Settings:
    port = free_port()
    return Settings(
        redis_url=redis_server.url,
        url=f"http://127.0.0.1:{port}",
        listen=f"127.0.0.1:{port}",
        secret_key="k" * 64,
        data_dir=tmp_path / "data",
        insecure_ok=True,
        disk_watermark=0,
        worker_name="story",
        worker_slots=1,
        worker_tmp=tmp_path,
    )


def worker_app(settings: Settings, engine: Engine, enrolment: str) -> Celery:
    """A worker that has enrolled and checked in, and its task."""
    layout, client = Layout.of(settings), make_client()
    identity = Identity.load(layout.identity_file, name="story", server=settings.url)
    wanted = Enrolment(name="story", protocol=PROTOCOL, instance=identity.instance)
    enrolled = enrol(client, settings.url, enrolment, wanted)
    Identity(**{**vars(identity), "name": enrolled.name, "token": enrolled.token}).write(
        layout.identity_file
    )
    environment = {**os.environ, "DOCKER_HOST": engine.host}
    Spool(layout.spool).prepare()
    Git(layout.home, insecure_ok=True, own_environment=environment).prepare()
    CheckIns(
        Control(client, layout.identity_file),
        WorkerEngine(environment),
        layout,
        slots=1,
        enrol_again=lambda: None,
    ).now()
    reader, _writer = os.pipe()
    tools = make_toolbox(
        settings, layout, environment, broker_url=settings.redis_url, slot=0, shutdown=reader
    )
    app = Celery("story", set_as_current=False)
    tasks.register(app, lambda: tools)
    return app


def test_a_build_passes_the_files_that_readme_names_in_their_order(
    settings: Settings,
    engine: Engine,
    registry: Registry,
    git_server: GitServer,
    base_image: str,
) -> None:
    repository = git_server.make_repository("acme/story", {"Dockerfile": f"FROM {base_image}\n"})
    repository.open_pull_request(1, {"words": "once upon a time\n"})
    schema.upgrade(settings.database)
    app = create_app(settings)
    services: Any = app.extensions[EXTENSION]
    presence = Presence(services.database, lease_s=services.settings.lease_s)
    host, _, port = settings.listen.partition(":")
    server = make_server(host, int(port), app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with services.database.write() as session:
        now = db.now(session)
        admin = access.create_token(session, name="a", scopes=["admin"], now=now)
        enrolment = access.create_token(session, name="w", scopes=["worker"], now=now)
    worker = worker_app(settings, engine, enrolment)
    body = {
        "repository": git_server.url_of(repository),
        "pull_request": 1,
        "tags": [f"{registry.host}/story/app:pr-1"],
    }
    with Wakeups(settings.redis_url) as wakeups, traced() as passed:
        answer = app.test_client().post(
            "/api/v1/builds", json=body, headers={"Authorization": f"Bearer {admin}"}
        )
        Scheduler(settings, services.database, Direct(worker), wakeups).tick()
    build = app.test_client().get(
        answer.headers["Location"], headers={"Authorization": f"Bearer {admin}"}
    )
    server.shutdown()
    presence.close()
    services.close()
    assert build.get_json()["status"] == "succeeded", build.get_json()
    assert registry.digest("story/app", "pr-1") == build.get_json()["image"]["digest"]
    wanted = named_in_readme()
    assert len(wanted) == 7
    assert [name for name in passed.files if name in wanted] == wanted
