"""Which processes are taken for orphaned steps: none that could be somebody else's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.orphans import end_orphans
from workers.process import identity_of


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that nobody may end: it is in no control group of a step."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def record(records: Path, data: Path, pid: int, **changes: Any) -> None:
    """What runc writes about a step that BuildKit has begun."""
    process = identity_of(pid)
    assert process is not None
    state = {
        "id": "step",
        "init_process_pid": pid,
        "init_process_start": process.started,
        "cgroup_paths": {"": "/sys/fs/cgroup/docker/buildkit/step"},
        "config": {"labels": [f"bundle={data}/buildkit/executor/step"]},
    }
    (records / "step").mkdir()
    (records / "step" / "state.json").write_text(json.dumps({**state, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"init_process_start": 1},
        {"init_process_pid": 2**22 + 1},
        {"config": {"labels": ["bundle=/var/lib/docker/buildkit/executor/step"]}},
        {"config": {"labels": None}},
        {"id": "another"},
        {"cgroup_paths": None},
    ],
    ids=["no such group", "later", "gone", "other engine", "no bundle", "other id", "no groups"],
)
def test_a_process_that_is_no_step_of_this_engine_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], changes: dict[str, Any]
) -> None:
    record(tmp_path, tmp_path / "data", sleeper.pid, **changes)
    assert end_orphans(tmp_path / "data", tmp_path) == []
    assert sleeper.poll() is None
    assert (tmp_path / "step").exists()


def test_records_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    for name, text in {"empty": "", "list": "[]", "half": '{"id": "ha'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text(text)
    assert end_orphans(tmp_path / "data", tmp_path) == []
    assert end_orphans(tmp_path / "data", tmp_path / "nowhere") == []
