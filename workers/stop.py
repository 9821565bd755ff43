"""The one place where an attempt is told to stop, and why.

The lease thread, the cancel listener and the log's thread call `ask`; the recipe
calls `check` between its steps, and the child that runs at the time is ended.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from enum import Enum

from farm.errors import AttemptCancelled, AttemptError, FarmError, StaleAttempt
from farm.reasons import Reason
from workers.process import Child

NEVER_S = 3600.0
"""How long to sleep when there is no deadline to watch."""


class HandedBack(FarmError):
    """The worker stops: the part is to be queued again, no attempt is burnt."""


class Cause(Enum):
    """Why an attempt stops, the weightiest last: a later cause may replace a lighter one."""

    TIMED_OUT = 1
    CANCELLED = 2
    HAND_BACK = 3
    STALE = 4


class Stop:
    """Asked from any thread; noticed by the thread that runs the recipe."""

    def __init__(self, *, timeout_s: float | None = None) -> None:
        self._lock = threading.Lock()
        self._cause: Cause | None = None
        self._child: Child | None = None
        self._committed = False
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.asked = threading.Event()
        """Set once anybody asked: whoever waits for something else may wait for this too."""

    @property
    def cause(self) -> Cause | None:
        """Why it stops; None while it goes on."""
        return self._cause

    def commit(self) -> None:
        """The build is published: only a stale attempt stops it, also if another cause came before."""
        with self._lock:
            self._committed = True
            if self._cause is not Cause.STALE:
                self._cause = None
                self.asked.clear()

    def ask(self, cause: Cause) -> None:
        """Stop; the child that runs now is ended. Safe to repeat."""
        with self._lock:
            if self._committed and cause is not Cause.STALE:
                return
            if self._cause is None or cause.value > self._cause.value:
                self._cause = cause
            child = self._child
            self.asked.set()
        if child is not None:
            child.end()

    def watch_deadline(self) -> float:
        """Ask to stop if the time is up; the seconds that are left (never negative)."""
        if self._deadline is None or self._committed or self._cause is not None:
            return NEVER_S
        left = self._deadline - time.monotonic()
        if left <= 0:
            self.ask(Cause.TIMED_OUT)
        return max(0.0, left)

    def check(self) -> None:
        """Raise what fits the cause, if there is one.

        StaleAttempt, AttemptCancelled, HandedBack, or AttemptError (timed_out).
        """
        if not self._committed:
            self.watch_deadline()
        match self._cause:
            case None:
                return
            case Cause.STALE:
                raise StaleAttempt("the control plane gave this attempt up")
            case Cause.CANCELLED:
                raise AttemptCancelled("cancelled")
            case Cause.HAND_BACK:
                raise HandedBack("the worker stops")
            case Cause.TIMED_OUT:
                raise AttemptError(
                    Reason.TIMED_OUT, f"not done after {self._timeout_s or 0.0:.0f} s"
                )

    def wait(self, seconds: float) -> None:
        """Sleep, unless it is asked to stop: then raise as `check` does."""
        self.asked.wait(seconds)
        self.check()

    @contextlib.contextmanager
    def watching(self, child: Child) -> Iterator[None]:
        """While inside, `ask` ends this child."""
        with self._lock:
            self._child = child
            asked = self._cause is not None and not (
                self._committed and self._cause is not Cause.STALE
            )
        if asked:
            child.end()
        try:
            yield
        finally:
            with self._lock:
                self._child = None
