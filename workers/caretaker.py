"""Beside the builds, in a worker's main process: check in, sweep, send what was not delivered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from farm import __version__
from farm.errors import FarmError, SettingsError
from farm.protocol import PROTOCOL, CheckedIn, CheckIn
from workers.answers import ControlRefused, ControlSilent, NotEnrolled
from workers.control import Control
from workers.engine import Engine, disk_of
from workers.git import Git
from workers.janitor import Janitor
from workers.spool import Spool
from workers.toolbox import Layout

log = structlog.get_logger()

CHORES_S = 1.0
TIDY_S = 600.0


class CheckIns:
    """Says that the worker lives, and enrols it again when its token was revoked."""

    def __init__(
        self,
        control: Control,
        engine: Engine,
        layout: Layout,
        *,
        slots: int,
        enrol_again: Callable[[], None],
    ) -> None:
        self._control = control
        self._engine = engine
        self._layout = layout
        self._slots = slots
        self._enrol_again = enrol_again
        self.stopping = False
        """Said with each check-in: nothing is to be placed here any more."""

    def now(self) -> CheckedIn:
        """Check in once; raises ControlSilent, ControlRefused, or SettingsError when the farm
        knows neither the worker's own token nor its enrolment token.
        """
        facts = self._facts()
        try:
            return self._control.check_in(facts)
        except NotEnrolled:
            log.warning("enrolling_again")
            self._enrol_again()
        try:
            return self._control.check_in(facts)
        except NotEnrolled as exc:
            raise ControlSilent("the fresh token is not known yet") from exc

    def _facts(self) -> CheckIn:
        engine = self._engine.facts()
        free, total = disk_of(engine, self._layout.home)
        return CheckIn(
            protocol=PROTOCOL,
            version=__version__,
            slots=self._slots,
            platforms=engine.platforms,
            containerd_store=engine.containerd_store,
            engine=engine.versions,
            engine_ok=engine.ok,
            disk_free=free,
            disk_total=total,
            stopping=self.stopping,
        )


class Caretaker:
    """Three threads: a slow control plane must not hold the janitor, nor a long log a check-in,
    nor a large mirror either.
    """

    def __init__(
        self,
        check_ins: CheckIns,
        janitor: Janitor,
        spool: Spool,
        git: Git,
        control: Control,
        *,
        engine: Engine,
        first: CheckedIn,
        restart: Callable[[], None],
    ) -> None:
        self._check_ins = check_ins
        self._janitor = janitor
        self._spool = spool
        self._git = git
        self._control = control
        self._engine = engine
        self._first = first
        self._restart = restart
        self._hurry = threading.Event()
        self._threads = [
            threading.Thread(target=self._check_in, name="check-in", daemon=True),
            threading.Thread(target=self._do_chores, name="chores", daemon=True),
            threading.Thread(target=self._tidy_mirrors, name="mirrors", daemon=True),
        ]

    def start(self) -> None:
        """Begin; only after the pool has forked."""
        for thread in self._threads:
            thread.start()

    def stopping(self) -> None:
        """The worker stops: tell the control plane at once."""
        self._check_ins.stopping = True
        self._hurry.set()

    def _check_in(self) -> None:
        answer = self._first
        while True:
            self._hurry.wait(answer.heartbeat_s)
            self._hurry.clear()
            try:
                answer = self._check_ins.now()
            except (ControlSilent, ControlRefused, SettingsError) as exc:
                log.warning("check_in_failed", error=str(exc))
                continue
            if (answer.queue, answer.broker_url) != (self._first.queue, self._first.broker_url):
                log.warning("queue_or_broker_changed")
                self._restart()
                return

    def _do_chores(self) -> None:
        while True:
            try:
                self._janitor.sweep()
                self._engine.end_orphans()
                self._spool.send(self._control)
            except OSError as exc:  # a full disk, for instance: it may be better next time
                log.warning("chores_failed", error=str(exc))
            time.sleep(CHORES_S)

    def _tidy_mirrors(self) -> None:
        while True:
            time.sleep(TIDY_S)
            try:
                self._git.tidy()
            except (OSError, FarmError) as exc:
                log.warning("mirrors_not_tidied", error=str(exc))
