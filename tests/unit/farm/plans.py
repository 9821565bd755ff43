"""Short ways to say what waits, what works and what is held, for tests of placement."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from farm.placement import Held, Plan, WaitingPart, Warmth, WorkerState, place
from farm.states import Priority, Zone

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NO_WARMTH: dict[str, dict[int, Warmth]] = {}


def part(number: int, **fields: Any) -> WaitingPart:
    plain: dict[str, Any] = {
        "part_id": number,
        "project_id": 1,
        "owner": "acme",
        "group_key": "",
        "cache_key": f"key-{number}",
        "platform": None,
        "zone": Zone.TRUSTED,
        "labels": frozenset(),
        "priority": Priority.NORMAL,
        "since": NOW - timedelta(seconds=60) + timedelta(milliseconds=number),
    }
    return WaitingPart(**plain | fields)


def worker(number: int, **fields: Any) -> WorkerState:
    plain: dict[str, Any] = {
        "worker_id": number,
        "name": f"w{number}",
        "zone": Zone.TRUSTED,
        "labels": frozenset(),
        "slots": 1,
        "platforms": frozenset({"linux/amd64"}),
    }
    return WorkerState(**plain | fields)


def held(worker_id: int, **fields: Any) -> Held:
    plain: dict[str, Any] = {
        "worker_id": worker_id,
        "project_id": 99,
        "owner": "others",
        "group_key": "",
        "cache_key": "elsewhere",
        "since": NOW,
    }
    return Held(**plain | fields)


def plan(
    parts: Sequence[WaitingPart],
    workers: Sequence[WorkerState],
    busy: Sequence[Held] = (),
    warm: Mapping[str, Mapping[int, Warmth]] | None = None,
    *,
    project_cap: int = 0,
) -> Plan:
    return place(parts, workers, busy, warm or NO_WARMTH, now=NOW, project_cap=project_cap)
