"""`make bench`: the first figures, printed as a table.

* idle POST -> the worker's first line, on one host's clock, not from our own fields;
* farm wall / floor wall of the same ten pull requests, new heads for each contender,
  contenders rotated, done when the registry has the tag;
* idle memory (PSS) of every process of the farm, by role.
"""

import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bench.floor import Floor
from scripts.sample.gitserver import GitServer
from scripts.sample.processes import wait_until
from scripts.sample.repositories import Repository
from tests.services.engine import Engine, engine_for_tests
from tests.services.farm import Pace, RunningFarm, descendants, running_farm
from tests.services.images import base_image
from tests.services.redis import RedisServer
from tests.services.registry import Registry

SLOTS = 2
BUILDS = 10
ROUNDS = 5
IDLE_POSTS = 30


class Bench:
    """The services of one run, and the pull requests that it makes up."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        self.engine = engine
        self.redis = RedisServer(_made(folder / "redis"))
        self.registry = Registry(_made(folder / "registry"))
        self.git = GitServer(folder / "repositories")
        for service in (self.redis, self.registry, self.git):
            service.start()
        self.repository = self._repository()
        self.url = self.git.url_of(self.repository)
        self._next = 1

    def stop(self) -> None:
        """End the services."""
        for service in (self.git, self.registry, self.redis):
            service.stop()

    def pull_requests(self, count: int) -> list[int]:
        """Open new pull requests, each with one changed source file."""
        numbers = list(range(self._next, self._next + count))
        self._next += count
        for number in numbers:
            change = f"changed by {number} {time.monotonic_ns()}\n"
            self.repository.open_pull_request(number, {f"src/m{number % 300}.py": change})
        return numbers

    def _repository(self) -> Repository:
        lines = [
            f"FROM {base_image(self.engine)}",
            "COPY vendor /app/vendor",
            "RUN find /app/vendor -type f | sort | xargs sha256sum > /app/vendor.sums",
            "COPY src /app/src",
            "RUN find /app/src -type f | sort | xargs sha256sum > /app/src.sums && sleep 0.4",
        ]
        files = {f"src/m{n}.py": f"value = {n}\n" * 40 for n in range(300)}
        files |= {f"vendor/v{n}.py": f"value = {n}\n" * 200 for n in range(100)}
        return self.git.make_repository(
            "bench/app", {"Dockerfile": "\n".join(lines) + "\n"} | dict(files)
        )


def main() -> None:
    """Measure and print."""
    engine = engine_for_tests()
    with tempfile.TemporaryDirectory(prefix="farm-bench-", dir="/var/tmp") as folder:
        bench = Bench(Path(folder), engine)
        try:
            _measure(bench)
        finally:
            bench.stop()
            engine.stop()


def _measure(bench: Bench) -> None:
    farm = RunningFarm(
        _made(bench.folder / "farm"),
        database_url=f"sqlite:///{bench.folder / 'farm' / 'farm.db'}",
        redis_url=bench.redis.url,
        engine=bench.engine,
        pace=Pace(heartbeat_s=10, lease_s=60, claim_s=30),
    )
    floor = Floor(
        bench.engine,
        _made(bench.folder / "floor"),
        bench.url,
        f"{bench.registry.host}/bench/floor",
        SLOTS,
    )
    floor.prepare()
    with running_farm(farm):
        farm.start_worker("one", slots=SLOTS)
        contenders = {
            "floor": floor.build,
            "farm": lambda numbers: _farm_builds(farm, bench, numbers),
        }
        _print_ratio(bench, contenders)
        _print_idle(farm, bench)
        _print_memory(farm)


def _farm_builds(farm: RunningFarm, bench: Bench, numbers: list[int]) -> None:
    """Submit, and wait until the registry has every tag (its log is not polled per build)."""
    name = "bench/farm"
    ids = [
        farm.submit(
            repository=bench.url, pull_request=n, tags=[f"{bench.registry.host}/{name}:pr-{n}"]
        )
        for n in numbers
    ]
    wanted = [f"PUT /v2/{name}/manifests/pr-{n} " for n in numbers]
    wait_until(
        lambda: _all_in(bench.registry.access_log, wanted) or _any_failed(farm, ids),
        what="the farm's builds in the registry",
        seconds=120,
    )


def _all_in(log: Path, wanted: list[str]) -> bool:
    text = log.read_text(errors="replace")
    return all(line in text for line in wanted)


def _any_failed(farm: RunningFarm, ids: list[str]) -> bool:
    failed = farm.client.get("/builds", params={"status": ["failed", "errored"]}).json()["items"]
    broken = [build for build in failed if build["id"] in ids]
    if broken:
        sys.exit(f"a build failed: {broken[0]['reason']} {broken[0]['message']}")
    return False


def _print_ratio(bench: Bench, contenders: dict[str, Callable[[list[int]], None]]) -> None:
    for build in contenders.values():
        build(bench.pull_requests(SLOTS))  # everybody's cache and mirror are warm
    ratios = []
    for number in range(ROUNDS):
        order = list(contenders) if number % 2 else list(reversed(contenders))
        walls = {name: _wall(contenders[name], bench.pull_requests(BUILDS)) for name in order}
        ratios.append(walls["farm"] / walls["floor"])
        print(f"  round {number + 1}: farm {walls['farm']:.2f} s, floor {walls['floor']:.2f} s")
    print(
        f"farm wall / floor wall, {BUILDS} builds, {SLOTS} slots:"
        f" median {statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def _wall(build: Callable[[list[int]], None], numbers: list[int]) -> float:
    began = time.monotonic()
    build(numbers)
    return time.monotonic() - began


def _print_idle(farm: RunningFarm, bench: Bench) -> None:
    taken = []
    for number in bench.pull_requests(IDLE_POSTS):
        posted = time.time()
        build_id = farm.submit(repository=bench.url, pull_request=number)
        farm.finished(build_id)
        taken.append((_started(farm, build_id) - posted) * 1000)
    ordered = sorted(taken)
    print(
        f"idle POST -> worker's first line, n={len(taken)}:"
        f" p50 {statistics.median(ordered):.0f} ms, max {ordered[-1]:.0f} ms"
    )


def _started(farm: RunningFarm, build_id: str) -> float:
    for line in farm.processes["one"].log.read_text().splitlines():
        if '"attempt_started"' in line:
            event = json.loads(line)
            if event["build"] == build_id:
                return datetime.fromisoformat(event["timestamp"]).timestamp()
    sys.exit(f"the worker's log does not know build {build_id}")


def _print_memory(farm: RunningFarm) -> None:
    total = 0.0
    for name, process in farm.processes.items():
        used = sum(_pss_mb(pid) for pid in descendants(process.pid))
        total += used
        print(f"  {name}: {used:.0f} MB PSS")
    print(f"idle memory of the farm, one worker with {SLOTS} slots: {total:.0f} MB PSS")


def _pss_mb(pid: int) -> float:
    found = re.search(
        r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE
    )
    return int(found[1]) / 1024 if found else 0.0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
