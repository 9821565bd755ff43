"""The Docker Engine that the tests build on."""

import os
import tempfile
from pathlib import Path

from scripts.sample.engine import Engine, start_engine, usable_engine

__all__ = ["Engine", "engine_for_tests"]


def engine_for_tests(*, containerd_snapshotter: bool = False) -> Engine:
    """The one that FARM_TEST_DOCKER_HOST or DOCKER_HOST names, else one of our own.

    A developer's own engine at the default place is taken only where we cannot start one: tests
    prune and count what is in it.
    """
    for name in ("FARM_TEST_DOCKER_HOST", "DOCKER_HOST"):
        host = os.environ.get(name)
        if host and not containerd_snapshotter and (engine := usable_engine(host)):
            return engine
    if os.geteuid() != 0 and (engine := usable_engine(None)):
        return engine
    # Short, for the socket's sake, and not in memory: /tmp often is a small tmpfs.
    folder = Path(tempfile.mkdtemp(prefix="farm-engine-", dir="/var/tmp"))
    return start_engine(folder, containerd_snapshotter=containerd_snapshotter)
