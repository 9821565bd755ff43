"""Proves the farm's claims from its database, the registry and the faults that were dealt.

Imports nothing of the farm: a bug in its rules must not hide itself here.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import sqlalchemy

_MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Fault:
    """Something that was killed, and when."""

    kind: str
    at: float
    worker: str | None = None
    """The worker that lost what it ran, where one did."""


@dataclass
class Verdict:
    """What is wrong, and what was measured."""

    wrong: list[str] = field(default_factory=list)
    builds: int = 0
    attempts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)

    def report(self) -> str:
        """For people."""
        lines = [f"{self.builds} builds, {self.attempts} attempts: {dict(self.outcomes)}"]
        if self.recoveries_s:
            ordered = sorted(self.recoveries_s)
            p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
            lines.append(
                f"worker lost -> claimed again: n={len(ordered)},"
                f" p50 {statistics.median(ordered):.1f} s, p95 {p95:.1f} s, max {ordered[-1]:.1f} s"
            )
        return "\n".join(lines + self.wrong)


Row = dict[str, Any]


def check(database_url: str, registry: str, faults: Sequence[Fault]) -> Verdict:
    """Read everything and judge it."""
    tables = _read(database_url)
    verdict = Verdict(builds=len(tables["builds"]), attempts=len(tables["attempts"]))
    verdict.outcomes.update(row["outcome"] for row in tables["attempts"])
    _nothing_lost(tables, verdict)
    _nothing_twice(tables, verdict)
    _registry_agrees(tables, registry, verdict)
    _newest_owns(tables, verdict)
    verdict.recoveries_s = _recoveries(tables, faults)
    return verdict


def _read(database_url: str) -> dict[str, list[Row]]:
    url = sqlalchemy.make_url(database_url)
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url)
    found: dict[str, list[Row]] = {}
    with engine.connect() as connection:
        for table in ("builds", "parts", "attempts", "events", "tags", "commits"):
            rows = connection.execute(sqlalchemy.text(f"SELECT * FROM {table}")).mappings()
            found[table] = [dict(row) for row in rows]
    engine.dispose()
    return found


def _nothing_lost(tables: dict[str, list[Row]], verdict: Verdict) -> None:
    for build in tables["builds"]:
        if build["status"] != "succeeded":
            verdict.wrong.append(
                f"build {build['id']} is {build['status']}: {build['reason']} {build['message']}"
            )
    for attempt in tables["attempts"]:
        if attempt["outcome"] is None:
            verdict.wrong.append(f"attempt {attempt['part_id']}.{attempt['number']} never ended")


def _nothing_twice(tables: dict[str, list[Row]], verdict: Verdict) -> None:
    accepted: Counter[int] = Counter()
    numbers: dict[int, list[int]] = defaultdict(list)
    for attempt in tables["attempts"]:
        accepted[attempt["part_id"]] += attempt["outcome"] == "succeeded"
        numbers[attempt["part_id"]].append(attempt["number"])
    endings = Counter(
        event["part_id"]
        for event in tables["events"]
        if event["kind"] == "part" and event["to_status"] == "succeeded"
    )
    for part in tables["parts"]:
        counts = (accepted[part["id"]], endings[part["id"]])
        if part["status"] == "succeeded" and counts != (1, 1):
            verdict.wrong.append(f"part {part['id']} was accepted {counts} times")
        if len(set(numbers[part["id"]])) != len(numbers[part["id"]]):
            verdict.wrong.append(f"part {part['id']} has one attempt number twice")


def _registry_agrees(tables: dict[str, list[Row]], registry: str, verdict: Verdict) -> None:
    digests = {part["build_id"]: part["digest"] for part in tables["parts"]}
    for build in tables["builds"]:
        if build["image_digest"] != digests[build["id"]]:
            verdict.wrong.append(f"build {build['id']} and its part name two digests")
    with httpx.Client(base_url=f"http://{registry}/v2", headers={"Accept": _MANIFESTS}) as client:
        for tag in tables["tags"]:
            name, _, word = tag["reference"].partition("/")[2].rpartition(":")
            answer = client.head(f"/{name}/manifests/{word}")
            found = answer.headers.get("Docker-Content-Digest")
            if found != tag["digest"]:
                verdict.wrong.append(f"{tag['reference']} is {found}, wanted {tag['digest']}")


def _newest_owns(tables: dict[str, list[Row]], verdict: Verdict) -> None:
    """Of the builds that asked for a name, the one of the commit learnt last has it."""
    builds = {build["id"]: build for build in tables["builds"]}
    learnt = {commit["id"]: _seconds(commit["learnt_at"]) for commit in tables["commits"]}
    newest: dict[str, tuple[float, int]] = {}
    for build in tables["builds"]:
        spec = build["spec"] if isinstance(build["spec"], dict) else _json(build["spec"])
        for reference in spec["tags"]:
            place = (learnt[build["commit_id"]], build["id"])
            newest[reference] = max(newest.get(reference, (0.0, 0)), place)
    for tag in tables["tags"]:
        wanted = builds[newest[tag["reference"]][1]]
        if tag["digest"] != wanted["image_digest"]:
            verdict.wrong.append(f"{tag['reference']} belongs to build {wanted['id']}")


def _recoveries(tables: dict[str, list[Row]], faults: Sequence[Fault]) -> list[float]:
    """For every attempt that a worker's death ended: how long until the next was claimed."""
    started = {(a["part_id"], a["number"]): _seconds(a["started_at"]) for a in tables["attempts"]}
    found = []
    for attempt in tables["attempts"]:
        again = started.get((attempt["part_id"], attempt["number"] + 1))
        if attempt["outcome"] != "lost" or again is None:
            continue
        begun = _seconds(attempt["started_at"])
        deaths = [
            fault.at
            for fault in faults
            if fault.worker == attempt["worker_name"] and begun <= fault.at <= again
        ]
        if deaths:
            found.append(again - deaths[0])
    return found


def _json(text: str) -> Row:
    import json

    found: Row = json.loads(text)
    return found


def _seconds(moment: datetime | str) -> float:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
