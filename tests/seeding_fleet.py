"""Believable projects and workers, the workers in every state."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from farm.model import Project, Token, Worker
from farm.states import Zone

PROJECTS: Final = ("acme/model-serving", "acme/feature-store", "lab/trainer", "ops/edge-gateway")
WORKERS: Final = {"build-1": 210, "build-2": 64, "gpu-1": 380, "forks-1": 120, "old-1": 0}
"""Names, and the free gigabytes of each one's disk."""


def projects(now: datetime) -> list[Project]:
    """Projects of three owners."""
    return [
        Project(
            name=name,
            owner=name.split("/")[0],
            repository=f"https://git.example.com/{name}",
            repository_key=f"https://git.example.com/{name}",
            created_at=now - timedelta(days=90),
        )
        for name in PROJECTS
    ]


def enrolment(now: datetime) -> Token:
    """The token that the workers came with."""
    return Token(
        name="enrolment",
        token_hash="0" * 64,
        scopes=["worker"],
        zone=Zone.TRUSTED,
        labels=[],
        created_at=now,
    )


def workers(now: datetime, enrolment_id: int) -> list[Worker]:
    """One draining, one whose engine is down, one long gone, two in order."""
    return [
        Worker(
            name=name,
            instance=f"{number:032d}",
            token_hash=f"{number:064d}",
            enrolment_id=enrolment_id,
            zone=Zone.UNTRUSTED if name.startswith("forks") else Zone.TRUSTED,
            labels=["gpu", "disk=nvme"] if name.startswith("gpu") else ["disk=nvme"],
            slots=4,
            platforms=["linux/amd64", "linux/386"],
            engine={"docker": "28.2.2", "buildx": "0.24.0"},
            engine_ok=name != "forks-1",
            version="0.1.0",
            disk_free=free * 10**9 + 5 * 10**8,
            disk_total=500 * 10**9,
            draining=name == "build-2",
            enrolled_at=now - timedelta(days=40),
            last_seen_at=now - timedelta(seconds=26 * 3600 if name == "old-1" else 3 + number),
        )
        for number, (name, free) in enumerate(WORKERS.items(), start=1)
    ]
