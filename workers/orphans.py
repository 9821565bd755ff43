"""RUN processes that outlived their engine are ended.

An engine that is killed takes `runc` with it, but not what `runc` had started: the step
goes on, also past the engine's restart, and nobody waits for it. runc's own records
(`/run/runc/<id>/state.json`) say which processes BuildKit had begun. One is ended only if
all of this holds, so that it can be no process of somebody else:

* its bundle lies in `buildkit/executor` of the data of this worker's own engine, so no
  container and no other engine's step is meant;
* the process with the recorded number began at the recorded moment: it is the same one;
* it is in the control group that the record names;
* its parent is not the `runc … <id>` that BuildKit waits for: a step that BuildKit knows
  has it as its parent as long as it runs.

The process is the first of its PID namespace: with it the kernel ends all others of the step.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from workers.process import Identity, identity_of

log = structlog.get_logger()

RUNC = Path("/run/runc")
"""Where BuildKit's runc keeps its records; containers of the engine have another place."""
END_S = 1.0
"""How long a killed process may take to be gone."""


@dataclass(frozen=True)
class Step:
    """A RUN step as runc has recorded it."""

    id: str
    record: Path
    process: Identity
    control_groups: tuple[Path, ...]


def end_orphans(data_root: Path, records: Path = RUNC) -> list[int]:
    """End the steps of an engine that is gone; the processes that were ended. Safe to repeat."""
    ended = []
    for step in _steps(data_root / "buildkit" / "executor", records):
        if _ended(step):
            ended.append(step.process.pid)
            log.warning("orphaned_step_ended", pid=step.process.pid, step=step.id)
    return ended


def _steps(bundles: Path, records: Path) -> Iterator[Step]:
    for record in records.glob("*/state.json"):
        try:
            state = json.loads(record.read_bytes())
            step = _step(state, record.parent, bundles)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # being written, or gone again
        if step is not None:
            yield step


def _step(state: dict[str, Any], record: Path, bundles: Path) -> Step | None:
    name = str(state["id"])
    if f"bundle={bundles / name}" not in state["config"]["labels"] or record.name != name:
        return None
    return Step(
        name,
        record,
        Identity(int(state["init_process_pid"]), int(state["init_process_start"])),
        tuple(Path(path) for path in state["cgroup_paths"].values()),
    )


def _ended(step: Step) -> bool:
    """Kill the step's process if it is an orphan; whether it was."""
    try:
        # Held from here: the number cannot become another process's before the signal.
        held = os.pidfd_open(step.process.pid)
    except OSError:
        return False
    try:
        if not _is_orphan(step):
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
        select.select([held], [], [], END_S)
    except OSError as exc:  # not ours to end: the worker has fewer rights than the engine
        log.warning("orphaned_step_not_ended", step=step.id, error=type(exc).__name__)
        return False
    finally:
        os.close(held)
    shutil.rmtree(step.record, ignore_errors=True)
    for group in step.control_groups:
        with contextlib.suppress(OSError):  # only an empty one goes
            group.rmdir()
    return True


def _is_orphan(step: Step) -> bool:
    process = Path("/proc", str(step.process.pid))
    try:
        groups = (process / "cgroup").read_text(encoding="utf-8", errors="replace")
        parent = (process / "stat").read_text(encoding="utf-8", errors="replace")
        parent_pid = parent.rpartition(")")[2].split()[1]
        waiting = Path("/proc", parent_pid, "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return (
        identity_of(step.process.pid) == step.process
        and any(line.endswith(f"/{step.id}") for line in groups.splitlines())
        and step.id.encode() not in waiting
    )
