"""A farm of real processes, each of which a test may kill, pause and start again."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from farm import access, db, schema
from scripts.sample.processes import Process, free_port, pid_is_alive, wait_until
from tests.services.engine import Engine

SECRET_KEY = "0123456789abcdef" * 4
Build = dict[str, Any]


@dataclass(frozen=True)
class Pace:
    """The farm's clocks, scaled down together."""

    heartbeat_s: float = 0.5
    lease_s: float = 3.0
    claim_s: float = 2.0


class RunningFarm:
    """web, scheduler and workers, with a folder, a database and an admin's token."""

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str,
        redis_url: str,
        engine: Engine,
        pace: Pace | None = None,
        settings: dict[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self.url = f"http://{address}:{free_port()}"
        self.processes: dict[str, Process] = {}
        pace = pace or Pace()
        self._engine = engine
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "FARM_LISTEN": self.url.removeprefix("http://"),
            "FARM_URL": self.url,
            "FARM_INSECURE_OK": "1",
            "FARM_HEARTBEAT_S": str(pace.heartbeat_s),
            "FARM_LEASE_S": str(pace.lease_s),
            "FARM_CLAIM_S": str(pace.claim_s),
            "FARM_DISK_WATERMARK": "0",
            **(settings or {}),
        }
        self._control = {
            "FARM_DATABASE_URL": database_url,
            "FARM_REDIS_URL": redis_url,
            "FARM_DATA_DIR": str(folder / "data"),
            "FARM_SECRET_KEY": SECRET_KEY,
        }
        schema.upgrade(database_url)
        self.token, self._enrolment = self._tokens()
        self.client = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=10,
        )

    def start(self, *workers: str) -> None:
        """Start the control plane and some workers, and wait until they are there."""
        self.start_web()
        self.start_scheduler()
        for worker in workers:
            self.start_worker(worker)

    def start_web(self) -> None:
        """Start the web process and wait until it answers."""
        self._start("web", ["web"], self._environment | self._control).wait_ready(self.answers)

    def start_scheduler(self) -> None:
        """Start the scheduler."""
        self._start("scheduler", ["scheduler"], self._environment | self._control)

    def start_worker(
        self,
        name: str,
        *,
        slots: int = 1,
        engine: Engine | None = None,
        within: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """Start a worker, new or again, and wait until the farm has heard of this start.

        `within` goes before its command: it runs on another host, with that one's engine.
        `until` is waited for instead, with a worker that the farm will not hear of.
        """
        seen = self._seen(name)
        environment = self._environment | {
            "DOCKER_HOST": (engine or self._engine).host,
            "FARM_SERVER": self.url,
            "FARM_WORKER_TOKEN": self._enrolment,
            "FARM_WORKER_NAME": name,
            "FARM_WORKER_SLOTS": str(slots),
            "FARM_WORKER_DIR": str(self.folder / name),
            "FARM_WORKER_TMP": str(self.tmp_of(name)),
            "FARM_DRAIN_S": "1",
            **(settings or {}),
        }
        self.tmp_of(name).mkdir(exist_ok=True)
        process = self._start(name, ["worker"], environment, within=within)
        process.wait_ready(until or (lambda: self._seen(name) not in (None, seen)))

    def tmp_of(self, worker: str) -> Path:
        """Where a worker keeps what belongs to running attempts."""
        return self.folder / f"{worker}-tmp"

    def answers(self) -> bool:
        """Whether the web process is ready."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self, name: str) -> None:
        """kill -9 of one process, and of nothing else."""
        self.processes.pop(name).kill()

    def signal_all(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and everything that it has started."""
        for pid in descendants(self.processes[name].pid):
            os.kill(pid, number)

    def stop(self) -> None:
        """End every process, workers first."""
        for name in reversed(list(self.processes)):
            self.processes.pop(name).stop()
        self.client.close()

    def submit(self, **body: object) -> str:
        """Ask for a build; returns its id."""
        answer = self.client.post("/builds", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def build(self, build_id: str) -> Build:
        """The build as the API shows it."""
        answer = self.client.get(f"/builds/{build_id}")
        assert answer.status_code == 200, answer.text
        found: Build = answer.json()
        return found

    def log(self, build_id: str, **parameters: int) -> str:
        """The log as the API shows it."""
        return self.client.get(f"/builds/{build_id}/log", params=parameters).text

    def wait(
        self, build_id: str, is_so: Callable[[Build], bool], *, what: str, seconds: float = 60
    ) -> Build:
        """Wait until a build is as wanted, and return it."""
        wait_until(lambda: is_so(self.build(build_id)), what=what, seconds=seconds)
        return self.build(build_id)

    def finished(self, build_id: str, *, seconds: float = 90) -> Build:
        """Wait until a build is over, and return it."""
        return self.wait(
            build_id, lambda build: build["finished_at"] is not None, what="over", seconds=seconds
        )

    def says(self, build_id: str, text: str, *, seconds: float = 60) -> None:
        """Wait until the log has a text."""
        wait_until(lambda: text in self.log(build_id), what=f"log says {text}", seconds=seconds)

    def _start(
        self,
        name: str,
        verb: list[str],
        environment: dict[str, str],
        *,
        within: Sequence[str] = (),
    ) -> Process:
        process = Process(
            [*within, sys.executable, "-m", "farm.cli.main", *verb],
            log=self.folder / f"{name}.log",
            env=environment,
        )
        self.processes[name] = process
        return process

    def _seen(self, worker: str) -> str | None:
        workers = self.client.get("/workers").json()["items"]
        return next((w["last_seen_at"] for w in workers if w["name"] == worker), None)

    def _tokens(self) -> tuple[str, str]:
        database = db.Database(self.database_url)
        with database.write() as session:
            now = db.now(session)
            admin = access.create_token(session, name="test", scopes=["admin"], now=now)
            worker = access.create_token(session, name="workers", scopes=["worker"], now=now)
        database.dispose()
        return admin, worker


@contextmanager
def running_farm(farm: RunningFarm, *workers: str) -> Iterator[RunningFarm]:
    """A farm that is started here and ended at the end, whatever happens."""
    try:
        farm.start(*workers)
        yield farm
    finally:
        for name in farm.processes:
            farm.signal_all(name, signal.SIGCONT)
        farm.stop()


def descendants(pid: int) -> list[int]:
    """A process and all that it has started, itself first."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return [child for child in found if pid_is_alive(child)]


def processes_with(text: str) -> list[int]:
    """The processes whose arguments or environment hold a text, but not this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in seen:
                found.append(int(entry.name))
    return found
