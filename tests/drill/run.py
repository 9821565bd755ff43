"""One drill: builds under load while a seeded hand kills what it likes."""

import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass, field

import httpx

from scripts.sample.processes import ServiceError, wait_until
from scripts.sample.repositories import Repository
from tests.drill.checker import Fault
from tests.services.farm import RunningFarm, descendants
from tests.services.redis import RedisServer

WORKERS = ("one", "two", "three")
SLOTS = 2


@dataclass
class Load:
    """Builds of many pull requests, some of them pushed to again while they are built."""

    farm: RunningFarm
    repository: Repository
    url: str
    registry: str
    count: int
    random: random.Random
    builds: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """How many builds are still to be asked for."""
        return self.count - len(self.builds)

    def submit_some(self) -> None:
        """Ask for none, one or two more builds."""
        for _ in range(min(self.left, self.random.choice((0, 1, 1, 2)))):
            self.builds.append(self._submit(len(self.builds)))

    def _submit(self, place: int) -> str:
        pulls = max(1, self.count * 2 // 3)
        number = place % pulls + 1
        change = {"change": f"{place}\n", "wait": f"{self.random.uniform(0.2, 2.5):.2f}\n"}
        push = self.repository.push_to_pull_request
        (self.repository.open_pull_request if place < pulls else push)(number, change)
        tags = [f"{self.registry}/drill/app:pr-{number}"]
        return self.farm.submit(repository=self.url, pull_request=number, tags=tags)


@dataclass
class Drill:
    """Deals faults one after the other; everything that died is started again, as by a
    supervisor."""

    farm: RunningFarm
    redis: RedisServer
    random: random.Random
    lease_s: float
    faults: list[Fault] = field(default_factory=list)

    def run(self, load: Load, *, every_s: tuple[float, float]) -> None:
        """Submit the whole load, dealing faults until all of it is over."""
        next_fault = time.monotonic() + self.random.uniform(*every_s)
        while load.left or not self._all_over(load.builds):
            with contextlib.suppress(httpx.HTTPError):  # web is down: a client asks again
                load.submit_some()
            if time.monotonic() >= next_fault:
                self.deal()
                next_fault = time.monotonic() + self.random.uniform(*every_s)
            time.sleep(0.2)

    def deal(self) -> None:
        """One fault of a kind that the seed chooses."""
        kinds = [
            self._kill_worker,
            self._kill_worker,
            self._kill_pool_process,
            self._kill_buildx,
            self._pause_past_the_lease,
            self._empty_redis,
            self._kill_web,
            self._kill_scheduler,
            self._stop_worker,
        ]
        self.random.choice(kinds)()

    def _all_over(self, builds: list[str]) -> bool:
        try:
            return all(self.farm.build(build)["finished_at"] for build in builds)
        except httpx.HTTPError:
            return False

    def _worker(self) -> str:
        return self.random.choice(WORKERS)

    def _dealt(self, kind: str, worker: str | None = None) -> None:
        self.faults.append(Fault(kind, time.time(), worker))

    def _kill_worker(self) -> None:
        name = self._worker()
        self._dealt("worker killed", name)
        self.farm.kill(name)
        self.farm.start_worker(name, slots=SLOTS)

    def _stop_worker(self) -> None:
        name = self._worker()
        self._dealt("worker stopped")
        self.farm.processes.pop(name).stop(patience=30)
        self.farm.start_worker(name, slots=SLOTS)

    def _kill_pool_process(self) -> None:
        name = self._worker()
        pool = descendants(self.farm.processes[name].pid)[1:]
        if pool:
            self._dealt("pool process killed", name)
            self._kill(self.random.choice(pool))

    def _kill_buildx(self) -> None:
        name = self._worker()
        for pid in descendants(self.farm.processes[name].pid)[1:]:
            if b"docker-buildx" in _command(pid):
                self._dealt("buildx killed")
                self._kill(pid)
                return

    def _pause_past_the_lease(self) -> None:
        name = self._worker()
        self._dealt("worker paused", name)
        self.farm.signal_all(name, signal.SIGSTOP)
        time.sleep(self.lease_s + 1.5)
        self.farm.signal_all(name, signal.SIGCONT)

    def _empty_redis(self) -> None:
        self._dealt("redis killed")
        self.redis.restart()

    def _kill_web(self) -> None:
        self._dealt("web killed")
        self.farm.kill("web")
        self.farm.start_web()

    def _kill_scheduler(self) -> None:
        self._dealt("scheduler killed")
        self.farm.kill("scheduler")
        self.farm.start_scheduler()

    @staticmethod
    def _kill(pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it ended by itself just now


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def quiet(farm: RunningFarm) -> None:
    """Wait until no worker holds anything of an attempt."""

    def clean() -> bool:
        return not any(path.is_file() for name in WORKERS for path in farm.tmp_of(name).rglob("*"))

    try:
        wait_until(clean, what="hosts clean", seconds=30)
    except ServiceError:
        left = [str(p) for name in WORKERS for p in farm.tmp_of(name).rglob("*") if p.is_file()]
        raise AssertionError(f"left on the hosts: {left}") from None
