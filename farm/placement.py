"""Which worker gets which part, and why not yet: a pure function over plain values.

No I/O and no clock of its own, so that the scheduler, the page that answers "why
does my build wait?", property tests and a simulation of a thousand workers all run
this code. The order of the rules is DESIGN section 7; what they are worth was
simulated before it was written (docs/adr/0003).
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b

from farm.reasons import WaitReason
from farm.states import Priority, Zone

DEFAULT_COLD_EXTRA_S = 30.0
"""What a cold start is thought to cost more than a warm one until a key has a history."""
DEFAULT_BUILD_S = 60.0
OVERDUE = timedelta(minutes=5)
"""From this age on a part goes strictly in its turn: no warm line may pass it for ever."""

_RANK = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}


@dataclass(frozen=True)
class WaitingPart:
    """A queued part that no worker holds."""

    part_id: int
    project_id: int
    owner: str
    group_key: str
    """Empty: in no concurrency group."""
    cache_key: str
    platform: str | None
    zone: Zone
    labels: frozenset[str]
    priority: Priority
    since: datetime
    not_before: datetime | None = None
    needs_containerd_store: bool = False
    avoid: frozenset[int] = frozenset()
    """Workers that this part was lost on: only when there is no other."""


@dataclass(frozen=True)
class WorkerState:
    """A worker as it last reported itself."""

    worker_id: int
    name: str
    zone: Zone
    labels: frozenset[str]
    slots: int
    platforms: frozenset[str]
    containerd_store: bool = False
    online: bool = True
    draining: bool = False
    disk_ok: bool = True


@dataclass(frozen=True)
class Held:
    """A slot that is taken: a running part, or one that was sent and is not claimed yet."""

    worker_id: int
    project_id: int
    owner: str
    group_key: str
    cache_key: str
    since: datetime


@dataclass(frozen=True)
class Warmth:
    """What is known of one cache on one worker."""

    warm_s: float | None
    cold_s: float | None


@dataclass(frozen=True)
class Why:
    """Why a part stays where it is."""

    reason: WaitReason
    position: int | None = None
    eta_s: tuple[float, float] | None = None


@dataclass(frozen=True)
class Plan:
    """The answer: who goes where, and why everybody else stays."""

    assignments: Mapping[int, int]
    waiting: Mapping[int, Why]


@dataclass
class _Floor:
    """The state of play while a plan is being made."""

    workers: Mapping[int, WorkerState]
    warm: Mapping[str, Mapping[int, Warmth]]
    now: datetime
    project_cap: int
    free: dict[int, int]
    frees_in_s: dict[int, list[float]]
    owners: Counter[str]
    projects: Counter[int]
    groups: set[str]
    lines: Counter[int] = field(default_factory=Counter)
    """Parts that wait for a warm worker, by worker."""
    assignments: dict[int, int] = field(default_factory=dict)

    def take(self, part: WaitingPart, worker_id: int) -> None:
        self.assignments[part.part_id] = worker_id
        self.free[worker_id] -= 1
        self.frees_in_s[worker_id].append(_mean_s(self.warm.get(part.cache_key, {})))
        self.owners[part.owner] += 1
        self.projects[part.project_id] += 1
        if part.group_key:
            self.groups.add(part.group_key)


def place(
    parts: Sequence[WaitingPart],
    workers: Sequence[WorkerState],
    held: Sequence[Held],
    warm: Mapping[str, Mapping[int, Warmth]],
    *,
    now: datetime,
    project_cap: int = 0,
) -> Plan:
    """Assign waiting parts to free slots, and say why each of the others waits.

    `warm` maps a cache key to the workers that hold it. Never more parts than free
    slots go to a worker, and none to a worker that is not eligible for it.
    """
    floor = _open_floor(workers, held, warm, now=now, project_cap=project_cap)
    waiting: dict[int, Why] = {}
    eligible: dict[int, list[WorkerState]] = {}
    able: list[WaitingPart] = []
    for part in parts:
        eligible[part.part_id], reason = _eligible(part, workers, now)
        if reason is None:
            able.append(part)
        else:
            waiting[part.part_id] = Why(reason)
    stay: list[tuple[WaitingPart, WaitReason]] = []
    for rank in sorted({_RANK[part.priority] for part in able}):
        stay += _place_class([p for p in able if _RANK[p.priority] == rank], eligible, floor)
    slots_s = [seconds for line in floor.frees_in_s.values() for seconds in line]
    for position, (part, reason) in enumerate(stay, start=1):
        mean_s = _mean_s(warm.get(part.cache_key, {}))
        waiting[part.part_id] = Why(reason, position, _eta(slots_s, mean_s))
    return Plan(floor.assignments, waiting)


def cold_order(cache_key: str, workers: Iterable[WorkerState]) -> list[WorkerState]:
    """The key's rendezvous ranking: a worker that comes or goes moves only its own share."""

    def weight(worker: WorkerState) -> bytes:
        return blake2b(f"{cache_key}\0{worker.name}".encode(), digest_size=8).digest()

    return sorted(workers, key=weight, reverse=True)


def _open_floor(
    workers: Sequence[WorkerState],
    held: Sequence[Held],
    warm: Mapping[str, Mapping[int, Warmth]],
    *,
    now: datetime,
    project_cap: int,
) -> _Floor:
    busy = Counter(h.worker_id for h in held)
    frees: dict[int, list[float]] = defaultdict(list)
    for h in held:
        ran_s = (now - h.since).total_seconds()
        frees[h.worker_id].append(max(1.0, _mean_s(warm.get(h.cache_key, {})) - ran_s))
    return _Floor(
        workers={w.worker_id: w for w in workers},
        warm=warm,
        now=now,
        project_cap=project_cap,
        free={w.worker_id: w.slots - busy[w.worker_id] for w in workers},
        frees_in_s=frees,
        owners=Counter(h.owner for h in held),
        projects=Counter(h.project_id for h in held),
        groups={h.group_key for h in held if h.group_key},
    )


def _eligible(
    part: WaitingPart, workers: Sequence[WorkerState], now: datetime
) -> tuple[list[WorkerState], WaitReason | None]:
    """Rule 1: the workers that could take a part now, or why there are none."""
    if part.not_before and part.not_before > now:
        return [], WaitReason.RETRY_LATER
    if not workers:
        return [], WaitReason.NO_WORKER
    rules = (
        (WaitReason.UNSCHEDULABLE, lambda w: _could_ever(part, w)),
        (WaitReason.WORKERS_OFFLINE, lambda w: w.online),
        (WaitReason.WORKERS_DRAINING, lambda w: not w.draining),
        (WaitReason.DISK_LOW, lambda w: w.disk_ok),
    )
    left = list(workers)
    for reason, rule in rules:
        left = [worker for worker in left if rule(worker)]
        if not left:
            return [], reason
    others = [worker for worker in left if worker.worker_id not in part.avoid]
    return others or left, None


def _could_ever(part: WaitingPart, worker: WorkerState) -> bool:
    return (
        worker.zone is part.zone
        and part.labels <= worker.labels
        and (part.platform is None or part.platform in worker.platforms)
        and (worker.containerd_store or not part.needs_containerd_store)
    )


def _place_class(
    parts: Sequence[WaitingPart],
    eligible: Mapping[int, list[WorkerState]],
    floor: _Floor,
) -> list[tuple[WaitingPart, WaitReason]]:
    """Rules 2 to 4 for the parts of one priority; returns who stays, in order.

    A freed slot serves its own line first: the first pass places only where the
    cache is warm (and whoever is overdue, wherever it can), the second the rest.
    """
    stay: list[WaitingPart] = []
    for part in _in_turn(parts, floor):
        if _capped(part, floor) is None:
            worker_id = _warm_and_free(part, eligible[part.part_id], floor)
            if worker_id is None and floor.now - part.since > OVERDUE:
                worker_id = _first_free(part, eligible[part.part_id], floor)
            if worker_id is not None:
                floor.take(part, worker_id)
                continue
        stay.append(part)
    left: list[tuple[WaitingPart, WaitReason]] = []
    for part in _in_turn(stay, floor):
        reason = _capped(part, floor) or _cold_start(part, eligible[part.part_id], floor)
        if reason is not None:
            left.append((part, reason))
    return left


def _in_turn(parts: Sequence[WaitingPart], floor: _Floor) -> Iterable[WaitingPart]:
    """Rule 3: the owner with the fewest running builds first, then age.

    Looks again after every step, because whoever was just placed counts.
    """
    queues: dict[str, list[WaitingPart]] = defaultdict(list)
    for part in sorted(parts, key=lambda p: (p.since, p.part_id), reverse=True):
        queues[part.owner].append(part)
    heap = [
        (floor.owners[owner], queue[-1].since, queue[-1].part_id, owner)
        for owner, queue in queues.items()
    ]
    heapq.heapify(heap)
    while heap:
        running, _, _, owner = heapq.heappop(heap)
        queue = queues[owner]
        if running == floor.owners[owner]:
            yield queue.pop()
        if queue:
            entry = (floor.owners[owner], queue[-1].since, queue[-1].part_id, owner)
            heapq.heappush(heap, entry)


def _capped(part: WaitingPart, floor: _Floor) -> WaitReason | None:
    """Rule 2: one build of a concurrency group, so many of a project."""
    if part.group_key and part.group_key in floor.groups:
        return WaitReason.SAME_GROUP
    if floor.project_cap and floor.projects[part.project_id] >= floor.project_cap:
        return WaitReason.PROJECT_CAP
    return None


def _warm_and_free(part: WaitingPart, eligible: Sequence[WorkerState], floor: _Floor) -> int | None:
    """Rule 4a: the warm worker with the most free slots."""
    warm = floor.warm.get(part.cache_key, {})
    free = [w for w in eligible if w.worker_id in warm and floor.free[w.worker_id] > 0]
    if not free:
        return None
    return max(free, key=lambda w: (floor.free[w.worker_id], -w.worker_id)).worker_id


def _first_free(part: WaitingPart, eligible: Sequence[WorkerState], floor: _Floor) -> int | None:
    ranked = cold_order(part.cache_key, eligible)
    return next((w.worker_id for w in ranked if floor.free[w.worker_id] > 0), None)


def _cold_start(
    part: WaitingPart, eligible: Sequence[WorkerState], floor: _Floor
) -> WaitReason | None:
    """Rule 4b: wait in the shortest warm line while that is cheaper, else start cold."""
    warm = floor.warm.get(part.cache_key, {})
    lines = [w for w in eligible if w.worker_id in warm]
    shortest = min(lines, key=lambda w: _line_s(w, part, floor)) if lines else None
    free = _first_free(part, eligible, floor)
    if free is not None and shortest and _line_s(shortest, part, floor) > _cold_extra_s(warm):
        shortest = None
    if shortest:
        floor.lines[shortest.worker_id] += 1
        return WaitReason.SLOTS_BUSY if free is None else WaitReason.WARM_WORKER_BUSY
    if free is None:
        return WaitReason.SLOTS_BUSY
    floor.take(part, free)
    return None


def _line_s(worker: WorkerState, part: WaitingPart, floor: _Floor) -> float:
    """How long the line of a warm worker is, in seconds until its turn would come."""
    frees = floor.frees_in_s.get(worker.worker_id) or [0.0]
    mean_s = _mean_s(floor.warm.get(part.cache_key, {}))
    return min(frees) + floor.lines[worker.worker_id] * mean_s / max(1, worker.slots)


def _cold_extra_s(warm: Mapping[int, Warmth]) -> float:
    cold = [w.cold_s for w in warm.values() if w.cold_s is not None]
    hot = [w.warm_s for w in warm.values() if w.warm_s is not None]
    if not cold or not hot:
        return DEFAULT_COLD_EXTRA_S
    return max(0.0, sum(cold) / len(cold) - sum(hot) / len(hot))


def _mean_s(warm: Mapping[int, Warmth]) -> float:
    known = [s for w in warm.values() for s in (w.warm_s, w.cold_s) if s is not None]
    return min(known) if known else DEFAULT_BUILD_S


def _eta(slots_s: list[float], mean_s: float) -> tuple[float, float] | None:
    """A range around the moment at which the next slot in line frees; consumes that slot."""
    if not slots_s:
        return None
    heapq.heapify(slots_s)
    starts = heapq.heapreplace(slots_s, slots_s[0] + mean_s)
    return round(starts * 0.5, 1), round(starts * 1.5 + 5.0, 1)
