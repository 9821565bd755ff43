"""A day of a hundred workers, by the product's own placement and by a shared queue."""

import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from farm.placement import Held, WaitingPart, Warmth, WorkerState, place
from tests.unit.farm.plans import NOW, part, worker

WORKERS = 100
KEYS = 80
BUILDS = 1000
WARM_S, COLD_S = 30.0, 120.0
EVERY_S = 1.3
"""Mean seconds between two builds: a quarter of the slots is busy when all is warm, nearly all when nothing is."""

Policy = Callable[
    [list[WaitingPart], list[WorkerState], list[Held], Mapping[str, dict[int, Warmth]], float],
    Mapping[int, int],
]


def ours(
    waiting: list[WaitingPart],
    staff: list[WorkerState],
    busy: list[Held],
    warm: Mapping[str, dict[int, Warmth]],
    at_s: float,
) -> Mapping[int, int]:
    return place(waiting, staff, busy, warm, now=NOW + timedelta(seconds=at_s)).assignments


def shared_queue(
    waiting: list[WaitingPart],
    staff: list[WorkerState],
    busy: list[Held],
    warm: Mapping[str, dict[int, Warmth]],
    at_s: float,
) -> Mapping[int, int]:
    """Plain Celery: whoever is free takes the oldest."""
    taken = {each.worker_id for each in busy}
    free = [each.worker_id for each in staff if each.worker_id not in taken]
    random.Random(f"{at_s}{len(warm)}").shuffle(free)
    return dict(zip((each.part_id for each in waiting), free, strict=False))


@dataclass
class Day:
    """One simulated day; only the policy decides who builds what."""

    policy: Policy
    at_s: float = 0.0
    waiting: list[WaitingPart] = field(default_factory=list)
    running: dict[int, tuple[Held, float, bool]] = field(default_factory=dict)
    warm: dict[str, dict[int, Warmth]] = field(default_factory=lambda: defaultdict(dict))
    hits: list[bool] = field(default_factory=list)
    ends: list[tuple[float, int]] = field(default_factory=list)

    def run(self) -> list[bool]:
        dice = random.Random(11)
        arrivals: list[float] = []
        for _ in range(BUILDS):
            arrivals.append((arrivals[-1] if arrivals else 0.0) + dice.expovariate(1 / EVERY_S))
        weights = [1 / (n + 10) for n in range(KEYS)]  # a few are asked for much more often
        keys = [f"key-{n}" for n in dice.choices(range(KEYS), weights, k=BUILDS)]
        staff = [worker(n) for n in range(1, WORKERS + 1)]
        for number, (self.at_s, key) in enumerate(zip(arrivals, keys, strict=True), 1):
            self._end_until(self.at_s, staff)
            since = NOW + timedelta(seconds=self.at_s)
            self.waiting.append(part(number, cache_key=key, owner=key, since=since))
            self._start(staff)
        self._end_until(float("inf"), staff)
        assert len(self.hits) == BUILDS
        return self.hits

    def _end_until(self, moment_s: float, staff: list[WorkerState]) -> None:
        while self.ends and self.ends[0][0] <= moment_s:
            self.at_s, number = heapq.heappop(self.ends)
            slot, took_s, hit = self.running.pop(number)
            known = self.warm[slot.cache_key].get(slot.worker_id, Warmth(None, None))
            self.warm[slot.cache_key][slot.worker_id] = (
                Warmth(took_s, known.cold_s) if hit else Warmth(known.warm_s, took_s)
            )
            self._start(staff)

    def _start(self, staff: list[WorkerState]) -> None:
        if not self.waiting:
            return
        busy = [slot for slot, _, _ in self.running.values()]
        chosen = self.policy(self.waiting, staff, busy, self.warm, self.at_s)
        for each in [each for each in self.waiting if each.part_id in chosen]:
            worker_id = chosen[each.part_id]
            hit = worker_id in self.warm[each.cache_key]
            took_s = WARM_S if hit else COLD_S
            since = NOW + timedelta(seconds=self.at_s)
            slot = Held(worker_id, 1, each.owner, "", each.cache_key, since)
            self.running[each.part_id] = (slot, took_s, hit)
            heapq.heappush(self.ends, (self.at_s + took_s, each.part_id))
            self.hits.append(hit)
        self.waiting = [each for each in self.waiting if each.part_id not in chosen]


def test_after_warm_up_nearly_every_build_finds_its_cache_and_a_shared_queue_does_not() -> None:
    warm_up = BUILDS // 2
    with_us = Day(ours).run()[warm_up:]
    with_a_queue = Day(shared_queue).run()[warm_up:]
    share, queue_share = (sum(hits) / len(hits) for hits in (with_us, with_a_queue))
    assert share >= 0.95
    assert queue_share < share - 0.2
