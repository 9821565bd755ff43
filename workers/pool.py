"""The Celery worker of this process and its pool: how it starts, how a pool process starts,
and how both end without losing a build.

A stop (SIGTERM, SIGINT) takes no new builds and waits for the running ones; after
`drain_s`, or at once on a second signal or SIGQUIT, they are handed back. The word
travels over a pipe: the main process closes the writing end, which it alone holds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import warnings
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import structlog
from billiard import current_process
from celery import Celery, bootsteps, signals
from celery.apps.worker import Worker
from celery.exceptions import SecurityWarning
from celery.worker import state

from farm import logging as farm_logging
from farm.settings import Settings
from workers.toolbox import Layout, Toolbox, make_toolbox

log = structlog.get_logger()

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


class Shutdown:
    """The main process's side of stopping."""

    def __init__(self, drain_s: float) -> None:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)
        self._drain_s = drain_s
        self._begun = False
        self._closed = False
        self.on_begin: Callable[[], None] = lambda: None

    def handle(self, number: int, _frame: FrameType | None = None) -> None:
        """The signal handler for SIGTERM, SIGINT and SIGQUIT."""
        state.should_stop = os.EX_OK
        if self._begun or number == signal.SIGQUIT:
            self.hand_back()
        if not self._begun:
            self._begun = True
            self.on_begin()
            timer = threading.Timer(self._drain_s, self.hand_back)
            timer.daemon = True
            timer.start()

    def hand_back(self) -> None:
        """Tell every pool process to hand its build back. Safe to repeat."""
        if not self._closed:
            self._closed = True
            os.close(self._writer)

    def forget_writer(self) -> None:
        """In a pool process: the writing end is the main process's alone."""
        if not self._closed:
            self._closed = True
            os.close(self._writer)


class PoolProcess:
    """What happens in a pool process: made before the fork, started after it."""

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        environment: Mapping[str, str],
        *,
        broker_url: str,
        shutdown: Shutdown,
        lock: int,
    ) -> None:
        self.settings = settings
        self._layout = layout
        self._environment = environment
        self._broker_url = broker_url
        self._shutdown = shutdown
        self._lock = lock
        self._tools: Toolbox | None = None
        self._main = os.getpid()

    def start(self) -> None:
        """Called in the new process, before its first attempt."""
        _die_with(self._main)
        self._shutdown.forget_writer()
        # The main process alone holds the folder: a successor must not wait for us.
        os.close(self._lock)
        self._tools = make_toolbox(
            self.settings,
            self._layout,
            self._environment,
            broker_url=self._broker_url,
            slot=int(current_process().index),
            shutdown=self._shutdown.reader,
        )

    def tools(self) -> Toolbox:
        """This process's tools."""
        if self._tools is None:
            raise RuntimeError("not in a pool process")
        return self._tools


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends: nothing of a killed worker
    builds on, and its successor reports what was lost.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew
        os._exit(os.EX_TEMPFAIL)


class FarmWorker(Worker):  # type: ignore[misc]
    """Celery's worker with our signal handlers, and no restart on SIGHUP."""

    shutdown: Shutdown

    def install_platform_tweaks(self, worker: object) -> None:  # noqa: ARG002  Celery's signature
        """SIGTERM and SIGINT stop, SIGQUIT stops at once."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self.shutdown.handle)


def run_pool(
    app: Celery,
    *,
    name: str,
    queue: str,
    slots: int,
    process: PoolProcess,
    shutdown: Shutdown,
    on_forked: Callable[[], None],
) -> int:
    """Run until a stop; the exit code. `on_forked` is called once the pool is there."""

    class Forked(bootsteps.StartStopStep):  # type: ignore[misc]
        """Threads of ours start after the pool: a fork copies no thread, but every lock."""

        requires = ("celery.worker.components:Pool",)

        def start(self, _worker: object) -> None:
            on_forked()

    def in_pool_process(**_: Any) -> None:
        process.start()

    def keep_our_logging(**_: Any) -> None:
        """Celery would configure its own otherwise."""
        farm_logging.configure(process.settings)

    signals.worker_process_init.connect(in_pool_process, weak=False)
    signals.setup_logging.connect(keep_our_logging, weak=False)
    app.steps["worker"].add(Forked)
    # Its reason is pickle, which this worker does not read: the engine is root's anyway.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    FarmWorker.shutdown = shutdown
    worker = FarmWorker(
        app=app,
        hostname=f"{name}@farm",
        pool="prefork",
        concurrency=slots,
        queues=[queue],
        quiet=True,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    log.info("worker_stopped", worker=name)
    return int(worker.exitcode or 0)
