"""compose.yml as docs/compose.md tells a person to use it, on a real engine of its own.

Images that cannot be pulled are replaced by stand-ins of the same names (standins.py). All else
is the real thing: the Dockerfile of the farm, the secrets, the networks, a pull request from a
git server to an image in the registry.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.sample.engine import Engine, start_engine
from scripts.sample.processes import CHECKOUT, free_port, program, wait_until
from scripts.sample.registry import manifest_digest
from scripts.sample.repositories import Repository
from tests.e2e import standins
from tests.services.images import base_image as make_base_image

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

FARM_IMAGE = "docker-build-farm:local"
TERMINAL = {"succeeded", "failed", "errored", "cancelled", "skipped"}
# What a clone of the repository has that compose.yml and the Dockerfile use.
USED = ["compose.yml", "Dockerfile", ".dockerignore", "deploy", "requirements", "pyproject.toml"]
USED += ["README.md", "farm", "web", "workers"]


@dataclass(frozen=True)
class Farm:
    """A checkout of its own on an engine of its own, and what compose runs there."""

    engine: Engine
    folder: Path
    web_port: int
    registry_port: int

    @property
    def registry(self) -> str:
        """The registry's name, for the engine, the worker and us."""
        return f"localhost:{self.registry_port}"

    def bring_up(self) -> None:
        """Start it; a failure tells what every container last said."""
        try:
            self.compose("up", "--detach", "--build")
        except pytest.fail.Exception:
            print(self.compose("ps", "--all"))  # noqa: T201  pytest shows it with the failure
            print(self.compose("logs", "--no-color", "--tail", "20"))  # noqa: T201
            for container in self.engine.docker("ps", "--quiet").split():
                said = "{{.Name}} {{json .State.Health}}"
                print(self.engine.docker("inspect", "--format", said, container))  # noqa: T201
            raise

    def run(self, *command: str) -> str:
        """A command in the checkout; what it printed, or a failure that tells all."""
        own = {"WEB_PORT": str(self.web_port), "REGISTRY_PORT": str(self.registry_port)}
        inherited = {
            k: v for k, v in self.engine.env.items() if not k.startswith(("FARM_", "COMPOSE_"))
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**inherited, **own, "BUILDKIT_PROGRESS": "plain"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout.strip()

    def compose(self, *arguments: str) -> str:
        """`docker compose ...`."""
        return self.run(program("docker"), "compose", *arguments)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine says of a service's containers."""
        names = self.compose("ps", "--all", "--quiet", service).split()
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", *names))
        return found

    def health(self) -> dict[str, str]:
        """Of every service that is to go on running."""
        lines = self.compose(
            "ps", "--all", "--format", "{{.Service}} {{.State}} {{.Health}}"
        ).splitlines()
        states = dict(line.split(" ", 1) for line in lines)
        return {
            service: state
            for service, state in states.items()
            if service not in {"migrate", "enrol"}
        }

    def client(self, token: str) -> httpx.Client:
        """The farm's API, for the holder of a token."""
        headers = {"Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{self.web_port}/api/v1"
        return httpx.Client(base_url=url, headers=headers, timeout=30)


def clone(folder: Path) -> None:
    """The files of this checkout that are used, as a person's clone would have them."""
    for name in USED:
        source = CHECKOUT / name
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "secrets")
            shutil.copytree(source, folder / name, ignore=unwanted)
        else:
            shutil.copy2(source, folder / name)
    # Only here: a mirror or proxy on this machine's loopback interface is reached while building.
    built = ["migrate", "enrol", "web", "scheduler", "worker"]
    override = {"services": {name: {"build": {"network": "host"}} for name in built}}
    (folder / "compose.override.yml").write_text(json.dumps(override))


@pytest.fixture(scope="module")
def own_engine() -> Iterator[Engine]:
    """Never somebody's own: the stand-ins bear the names of real images."""
    folder = Path(tempfile.mkdtemp(prefix="farm-compose-", dir="/var/tmp"))
    engine = start_engine(folder)
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def farm(own_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Up, by the two documented commands."""
    standins.make(own_engine)
    folder = tmp_path_factory.mktemp("checkout")
    clone(folder)
    stand = Farm(own_engine, folder, web_port=free_port(), registry_port=free_port())
    stand.run("./deploy/init-secrets")
    try:
        stand.bring_up()
        yield stand
    finally:
        stand.compose("down", "--volumes", "--timeout", "5")
    left = own_engine.docker("ps", "--all", "--quiet") + own_engine.docker(
        "volume", "ls", "--quiet"
    )
    assert left == ""


@pytest.fixture(scope="module")
def api(farm: Farm) -> Iterator[httpx.Client]:
    """For the first administrator, whose token is made as documented."""
    token = farm.compose(
        "exec", "-T", "web", "farm", "token", "create", "admin", "--scope", "admin", "--local"
    )
    with farm.client(token) as client:
        yield client


@pytest.fixture
def repository_url(farm: Farm, tmp_path: Path) -> Iterator[str]:
    """A git server that the worker reaches as `localhost`: it shares the worker's network."""
    base = make_base_image(farm.engine)
    steps = 'COPY greeting /greeting\nRUN cat /greeting > /answer\nCMD ["cat", "/answer"]\n'
    dockerfile = f"FROM {base}\n{steps}"
    repository = Repository.create(
        tmp_path, "acme/app", {"Dockerfile": dockerfile, "greeting": "old"}
    )
    repository.open_pull_request(1, {"greeting": "from a pull request"})
    worker = farm.containers("worker")[0]["Id"]
    port = free_port()
    server = farm.engine.docker(
        *("run", "--detach", "--network", f"container:{worker}", "--user", str(os.getuid())),
        *(
            "--volume",
            f"{tmp_path}:/repositories:ro",
            "--volume",
            f"{CHECKOUT / 'scripts'}:/src/scripts:ro",
        ),
        *("--workdir", "/src", "--entrypoint", "python", FARM_IMAGE),
        *("-m", "scripts.sample.gitserver", "--root", "/repositories", "--port", str(port)),
    )
    yield f"http://localhost:{port}/acme/app.git"
    farm.engine.docker("rm", "--force", "--volumes", server)


def finished(
    api: httpx.Client, build: Mapping[str, Any], *, within_s: float = 120
) -> dict[str, Any]:
    """The build when it is over."""
    deadline = time.monotonic() + within_s
    while True:
        answer: dict[str, Any] = api.get(f"/builds/{build['id']}").raise_for_status().json()
        if answer["status"] in TERMINAL:
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


def workers_online(api: httpx.Client) -> set[str]:
    items = api.get("/workers").raise_for_status().json()["items"]
    return {worker["name"] for worker in items if worker["online"]}


def test_every_image_that_is_not_built_here_has_a_stand_in(farm: Farm) -> None:
    named = set(farm.compose("config", "--images").split())
    assert named - {FARM_IMAGE} == set(standins.SERVICES)
    assert f"ARG BASE={standins.BASE}\n" in (farm.folder / "Dockerfile").read_text()


def test_a_pull_request_becomes_an_image_in_the_registry(
    farm: Farm, api: httpx.Client, repository_url: str
) -> None:
    tag = f"{farm.registry}/acme/app:pr-1"
    body = {"repository": repository_url, "pull_request": 1, "tags": [tag]}
    answer = api.post("/builds", json=body)
    assert answer.status_code == 202, answer.text
    build = finished(api, answer.json())
    log = api.get(f"/builds/{build['id']}/log").text
    assert build["status"] == "succeeded", f"{build}\n{log}"
    assert build["image"]["digest"] == manifest_digest(farm.registry, "acme/app", "pr-1")
    assert build["parts"][0]["attempts"][0]["worker"] == "worker-1"
    assert farm.engine.docker("run", "--rm", "--pull", "always", tag) == "from a pull request"


def test_every_service_becomes_healthy(farm: Farm) -> None:
    def all_healthy() -> bool:
        return set(farm.health().values()) == {"running healthy"}

    wait_until(all_healthy, what="every service healthy", seconds=60)
    assert set(farm.health()) == {"web", "scheduler", "worker", "redis", "postgres", "registry"}


def test_replicas_of_the_worker_have_names_of_their_own(farm: Farm, api: httpx.Client) -> None:
    farm.compose("up", "--detach", "--no-recreate", "--scale", "worker=2", "worker")
    wait_until(
        lambda: workers_online(api) >= {"worker-1", "worker-2"}, what="two workers", seconds=60
    )
    farm.compose("up", "--detach", "--no-recreate", "--scale", "worker=1", "worker")


def test_only_the_web_and_the_registry_can_be_reached_and_only_from_this_machine(
    farm: Farm,
) -> None:
    published = {}
    for service in farm.health():
        ports = farm.containers(service)[0]["NetworkSettings"]["Ports"] or {}
        if addresses := {entry["HostIp"] for entries in ports.values() for entry in entries or []}:
            published[service] = addresses
    assert published == {"web": {"127.0.0.1"}, "registry": {"127.0.0.1"}}


def test_a_build_host_reaches_no_database_and_holds_no_key(farm: Farm) -> None:
    worker = farm.containers("worker")[0]
    mounts = {mount["Destination"] for mount in worker["Mounts"]}
    assert not any(path.startswith("/run/secrets") for path in mounts)
    assert set(worker["NetworkSettings"]["Networks"]) == {"farm_default"}
    assert set(farm.containers("postgres")[0]["NetworkSettings"]["Networks"]) == {"farm_database"}


def test_containers_hold_no_privilege_that_they_do_not_need(farm: Farm) -> None:
    for service in farm.health():
        host = farm.containers(service)[0]["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
    assert farm.compose("exec", "-T", "worker", "id", "--user") != "0"


def test_no_secret_is_in_an_image_or_among_arguments_and_variables(farm: Farm) -> None:
    names = ["secret_key", "postgres_password", "redis_password"]
    values = [(farm.folder / "deploy/secrets" / name).read_text() for name in names]
    told = farm.engine.docker("history", "--no-trunc", FARM_IMAGE)
    told += json.dumps([farm.containers(service) for service in farm.health()])
    told += "".join(farm.compose("exec", "-T", "redis", "sh", "-c", "cat /proc/[0-9]*/cmdline"))
    assert not any(value in told for value in values)


def test_secrets_are_made_once_and_for_nobody_else(farm: Farm) -> None:
    folder = farm.folder / "deploy/secrets"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    environment = (farm.folder / ".env").read_text()
    farm.run("./deploy/init-secrets")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (farm.folder / ".env").read_text() == environment
    assert folder.stat().st_mode & 0o777 == 0o700
