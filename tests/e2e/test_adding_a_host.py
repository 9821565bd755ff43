"""docs/hosts.md, followed on a host of its own: another root, home, name, network and engine."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.sample.processes import CHECKOUT, Process, program, session_pids, wait_until
from scripts.sample.repositories import Repository
from tests.services.farm import RunningFarm, running_farm
from tests.services.gitserver import GitServer
from tests.services.hosts import Host, Network, docker_hosts, loopback_everywhere
from tests.services.images import BASE_IMAGE
from tests.services.redis import RedisServer
from tests.services.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
PAGE = CHECKOUT / "docs/hosts.md"
NAME = "builder-7"
WITHIN_S = 10
"""From the installed program to a worker on the page."""
OWN = {"root", "home", "tmp", "var", "run", "opt", "mnt", CHECKOUT.parts[1]}
"""Folders of / that a new host has for itself: nothing of this checkout is in the others."""
WAY_OUT = ("PIP_", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
ENTER = """
set -eu
root=$1 name=$2 socket=$3
shift 3
cd "$root"
while read -r folder; do
    mkdir -p ".$folder"
    mount --rbind "$folder" ".$folder"
done <folders
: >run/docker.sock
mount --bind "$socket" run/docker.sock
printf %s "$name" >/proc/sys/kernel/hostname
exec chroot . env -i "$@"
"""


def propagation() -> str:
    """Of the new host's mounts: its own, but in a chroot, whose root is no mount point, as it is."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return "private" if "/" in mounts else "unchanged"


@dataclass
class NewHost:
    """A machine as somebody has just got it, with a Docker Engine."""

    host: Host
    root: Path

    def prepare(self) -> None:
        """Lay its root out: the system's own folders are this machine's, the rest is empty."""
        for name in sorted(OWN | {"var/lib", "var/tmp"}):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "var/run").symlink_to("/run")
        bound = []
        for entry in [*Path("/").iterdir(), *Path("/opt").iterdir()]:
            if entry.is_symlink():
                (self.root / str(entry)[1:]).symlink_to(entry.readlink())
            elif entry.is_dir() and entry.name not in OWN:
                bound.append(str(entry))
        bound.append(sys.base_prefix)  # the Python of this machine, wherever it is
        (self.root / "folders").write_text("\n".join(bound) + "\n")

    def command(self, line: str) -> list[str]:
        """What runs a line on it, as root in a shell; no argument holds the line."""
        script = self.root / "root/line.sh"
        script.touch(0o600)
        script.write_text(line)
        path = f"{sys.base_prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = [f"{k}={v}" for k, v in os.environ.items() if k.upper().startswith(WAY_OUT)]
        return [
            *self.host.within,
            *(program("unshare"), "--mount", "--uts", "--propagation", propagation()),
            *("sh", "-c", ENTER, "sh", str(self.root), NAME),
            self.host.engine.host.removeprefix("unix://"),
            *(*environment, f"PATH={path}", "HOME=/root", "sh", "/root/line.sh"),
        ]

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line to its end."""
        return subprocess.run(self.command(line), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def network_and_host() -> Iterator[tuple[Network, Host]]:
    with docker_hosts("new", outside=True) as (network, hosts):
        hosts[0].base_image()
        yield network, hosts[0]


@pytest.fixture
def new_host(network_and_host: tuple[Network, Host], tmp_path: Path) -> NewHost:
    made = NewHost(network_and_host[1], tmp_path / "new-root")
    made.root.mkdir()
    made.prepare()
    return made


@pytest.fixture
def farm(
    tmp_path: Path,
    network_and_host: tuple[Network, Host],
    own_redis: RedisServer,
    git_server: GitServer,
    registry: Registry,
) -> Iterator[RunningFarm]:
    network, host = network_and_host
    made = RunningFarm(
        tmp_path,
        database_url=f"sqlite:///{tmp_path / 'farm.db'}",
        redis_url=own_redis.url,
        engine=host.engine,
        settings={"FARM_WORKER_REDIS_URL": f"redis://{network.address}:{own_redis.port}/0"},
        address=network.address,
    )
    ports = [own_redis.port, registry.port, int(git_server.url.rpartition(":")[2])]
    with loopback_everywhere(network, [host], tmp_path, ports=ports), running_farm(made):
        yield made


def line_for_a_new_host(farm: RunningFarm) -> str:
    """What the page's first command prints."""
    command = re.search(r"^\$ farm (worker token .+)$", PAGE.read_text(), re.MULTILINE)
    assert command is not None
    return subprocess.run(
        [sys.executable, "-m", "farm.cli.main", *shlex.split(command[1])],
        env={"FARM_SERVER": farm.url, "FARM_TOKEN": farm.token, "HOME": str(farm.folder)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def online(farm: RunningFarm) -> dict[str, Any] | None:
    listed = farm.client.get("/workers").json()["items"]
    return next((w for w in listed if w["name"] == NAME and w["online"]), None)


def test_the_page_makes_a_worker_of_a_new_host(
    farm: RunningFarm,
    new_host: NewHost,
    repository: Repository,
    git_server: GitServer,
    registry: Registry,
) -> None:
    line = line_for_a_new_host(farm)
    shown = re.search(r"^curl .+$", PAGE.read_text(), re.MULTILINE)
    assert shown is not None
    token = line.rpartition("FARM_WORKER_TOKEN=")[2].split()[0]
    assert line == shown[0].replace("https://farm.example.org", farm.url).replace("farm_…", token)

    worker = join(farm, new_host, line)
    try:
        no_argument_holds(token)
        no_file_for_others_holds(token, new_host.root)
        build = build_on(farm, repository, git_server, registry)
        assert build["parts"][0]["attempts"][0]["worker"] == NAME
        digest = registry.digest("added/app", "pr-1")
        assert digest == build["image"]["digest"]
        gives_the_same_wheel(farm, new_host)
    finally:
        press_ctrl_c(worker)
    run_again_it_upgrades(farm, new_host, line.replace(f"FARM_WORKER_TOKEN={token} ", ""))


def run_again_it_upgrades(farm: RunningFarm, new_host: NewHost, line: str) -> None:
    """With what is there made an older version, and without the token."""
    current = new_host.root / "opt/farm-worker/current"
    older = current.with_name("000000000000")
    (current.parent / current.readlink()).rename(older)
    current.unlink()
    current.symlink_to(older.name)
    press_ctrl_c(join(farm, new_host, line))
    assert current.readlink() != Path(older.name)
    assert older.exists(), "an upgrade keeps the version before"
    assert len(farm.client.get("/workers").json()["items"]) == 1, "it came back as another"


def join(farm: RunningFarm, new_host: NewHost, line: str) -> Process:
    """Run the line until the worker is there."""
    log = farm.folder / "new-host.log"
    began = time.monotonic()
    offset = log.stat().st_size if log.exists() else 0
    worker = Process(new_host.command(line), log=log)
    worker.wait_ready(lambda: "source folder" in log.read_text()[offset:], seconds=240)
    installed = time.monotonic()
    worker.wait_ready(
        lambda: "worker_checked_in" in log.read_text()[offset:] and online(farm) is not None,
        seconds=WITHIN_S,
    )
    sys.stdout.write(
        f"installed in {installed - began:.1f} s, on the page {time.monotonic() - installed:.1f} s later\n"
    )
    return worker


def press_ctrl_c(worker: Process) -> None:
    """As in a terminal: everything that the line started hears it."""
    os.killpg(worker.pid, signal.SIGINT)
    wait_until(lambda: not session_pids(worker.pid), what="the worker has ended", seconds=20)
    worker.stop()


def build_on(
    farm: RunningFarm, repository: Repository, git_server: GitServer, registry: Registry
) -> dict[str, Any]:
    repository.push_to_pull_request(1, {"Dockerfile": f"FROM {BASE_IMAGE}\nRUN echo built\n"})
    build_id = farm.submit(
        repository=git_server.url_of(repository),
        pull_request=1,
        tags=[f"{registry.host}/added/app:pr-1"],
    )
    build = farm.finished(build_id)
    assert build["status"] == "succeeded", build
    return build


def no_argument_holds(token: str) -> None:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes()
        except OSError:
            continue
        assert token.encode() not in arguments, arguments


def no_file_for_others_holds(token: str, root: Path) -> None:
    for name in ("opt/farm-worker", "var", "root", "tmp", "home"):
        for path in (root / name).rglob("*"):
            if path.is_file() and path.stat().st_mode & 0o077:
                assert token.encode() not in path.read_bytes(), path


def gives_the_same_wheel(farm: RunningFarm, new_host: NewHost) -> None:
    """Installed from the wheel, the farm makes the very same wheel of itself."""
    script = httpx.get(f"{farm.url}/worker/install.sh").text
    wanted = re.search(r"^wheel_sha256=(\w+)$", script, re.MULTILINE)
    assert wanted is not None
    say = "from web.dist import release; print(release().wheel_sha256)"
    done = new_host.run(f"/opt/farm-worker/current/bin/python -c {shlex.quote(say)}")
    assert done.stdout.strip() == wanted[1], done


def test_a_host_that_lacks_something_is_told_what_and_stays_as_it_was(
    farm: RunningFarm, new_host: NewHost
) -> None:
    tools = new_host.root / "root/few-tools"
    tools.mkdir()
    for tool in ("sh", "id", "cut", "basename", "dirname", "cat", "env"):
        (tools / tool).symlink_to(program(tool))
    (tools / "python3").symlink_to(Path(sys.base_prefix, "bin/python3"))
    script = new_host.root / "root/install.sh"
    script.write_text(httpx.get(f"{farm.url}/worker/install.sh").text)
    line = (
        "PATH=/root/few-tools FARM_WORKER_TOKEN=x DOCKER_HOST=unix:///nowhere sh /root/install.sh"
    )
    done = new_host.run(line)
    assert done.returncode == 3, done
    missing = re.findall(r"^missing: (\w+ ?\w*)", done.stderr, re.MULTILINE)
    assert {"git", "setpriv", "a Docker"} <= set(missing), done.stderr
    assert done.stderr.count("cure: ") == len(missing)
    assert not (new_host.root / "opt/farm-worker").exists()


def test_without_a_token_the_script_says_how_to_get_one(
    farm: RunningFarm, new_host: NewHost
) -> None:
    done = new_host.run(f"curl -fsSL {farm.url}/worker/install.sh | sh")
    assert done.returncode == 3
    assert "farm worker token NAME" in done.stderr
