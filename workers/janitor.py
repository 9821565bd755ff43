"""What killed pool processes leave behind goes within a second or two.

A folder whose lock is free has no process any more: its recorded children are ended
(only if they are still the very same processes), its attempt is reported as lost,
and it is removed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import structlog

from farm.protocol import Finish
from farm.reasons import Reason
from farm.states import Outcome
from workers.attemptdir import PROCESSES, claimed_in, is_abandoned, remove_tree
from workers.process import Identity, identity_of
from workers.spool import Spool, Undelivered

log = structlog.get_logger()

UNNAMED_FOR_S = 60.0
"""A folder still without its name by then was being made by a process that died."""


class Janitor:
    """Looks after one worker's folders; called by its main process."""

    def __init__(self, tmp: Path, spool: Spool) -> None:
        self._tmp = tmp
        self._spool = spool

    def sweep(self) -> None:
        """Remove what nobody holds."""
        # Before the folders: the log of an attempt that begins meanwhile is not among them.
        logs = self._spool.logs()
        in_use: set[str] = set()
        for folder in self._tmp.iterdir() if self._tmp.is_dir() else ():
            if self._is_abandoned(folder):
                _end_processes(folder)
                self._report_lost(folder)
                remove_tree(folder)
                log.warning("leftover_removed", attempt=folder.name)
            else:
                in_use.add(".".join(folder.name.split(".")[:2]))
        self._spool.drop_orphans(logs, in_use=in_use)

    def _report_lost(self, folder: Path) -> None:
        """Say that the attempt is lost: the part need not wait until its lease ends."""
        claimed = claimed_in(folder)
        if claimed is None or self._spool.holds(claimed.part, claimed.attempt, claimed.claim):
            return
        finish = Finish(
            outcome=Outcome.LOST,
            reason=Reason.WORKER_LOST,
            message="the process that built it was killed",
        )
        self._spool.keep(
            Undelivered(
                part=claimed.part,
                attempt=claimed.attempt,
                claim=claimed.claim,
                verb="finish",
                finish=finish,
                message="",
                steps=[],
            )
        )

    @staticmethod
    def _is_abandoned(folder: Path) -> bool:
        try:
            if folder.name.startswith("."):
                return time.time() - folder.stat().st_mtime > UNNAMED_FOR_S
            return is_abandoned(folder)
        except FileNotFoundError:
            return False


def _end_processes(folder: Path) -> None:
    try:
        lines = (folder / PROCESSES).read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        pid, _, started = line.partition(" ")
        if not (pid.isdigit() and started.isdigit()):
            continue
        recorded = Identity(int(pid), int(started))
        if identity_of(recorded.pid) == recorded:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(recorded.pid, signal.SIGKILL)
            log.warning("leftover_process_ended", pid=recorded.pid)
