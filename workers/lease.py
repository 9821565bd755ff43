"""While an attempt runs: keep its lease, watch its deadline, hear of a cancel or a shutdown.

The control plane's silence changes nothing here: only its word, the clock and this
worker's own end do.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import structlog

from farm.errors import StaleAttempt
from farm.protocol import cancel_channel_of
from farm.states import Phase
from farm.wakeups import Listener
from workers.answers import ControlRefused, ControlSilent, NotEnrolled
from workers.control import AttemptControl
from workers.stop import Cause, Stop

log = structlog.get_logger()

HURRY_S = 0.2
"""The least time between two heartbeats, however often somebody asks for one."""
WAKE_BYTES = 4096

AGAIN_S = 0.5
"""How soon an unanswered heartbeat is said again: the first answer may be that the attempt is
void."""


class Lease:
    """A thread beside the recipe's; a context manager."""

    def __init__(
        self, control: AttemptControl, stop: Stop, *, heartbeat_s: float, shutdown: int
    ) -> None:
        self.phase = Phase.FETCHING
        """What the next heartbeat says; set by the recipe."""
        self._control = control
        self._stop = stop
        self._heartbeat_s = heartbeat_s
        self._shutdown = shutdown
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            os.close(self._waker)
        self._thread.join()
        os.close(self._wake)

    def hurry(self) -> None:
        """Send a heartbeat now: its answer may say something new. Safe from any thread."""
        with self._lock, contextlib.suppress(BlockingIOError):  # full: it hurries already
            if not self._closed:
                os.write(self._waker, b"!")

    def _run(self) -> None:
        watched = [self._wake, self._shutdown]
        last_beat = time.monotonic()
        next_beat = last_beat + self._heartbeat_s
        while True:
            left = min(self._stop.watch_deadline(), max(0.0, next_beat - time.monotonic()))
            readable, _, _ = select.select(watched, [], [], left)
            if self._wake in readable:
                if not os.read(self._wake, WAKE_BYTES):
                    return
                next_beat = min(next_beat, last_beat + HURRY_S)
            if self._shutdown in readable:
                # Its other end is closed: this worker stops, or its main process died.
                self._stop.ask(Cause.HAND_BACK)
                watched = [self._wake]
            if time.monotonic() >= next_beat:
                pause = self._heartbeat_s if self._beat() else min(AGAIN_S, self._heartbeat_s)
                last_beat = time.monotonic()
                next_beat = last_beat + pause

    def _beat(self) -> bool:
        """Whether the control plane answered."""
        try:
            carried = self._control.heartbeat(self.phase)
        except StaleAttempt:
            self._stop.ask(Cause.STALE)
        except (ControlSilent, NotEnrolled, ControlRefused) as exc:
            log.warning("heartbeat_unanswered", attempt=self._control.name, error=str(exc))
            return False
        else:
            if carried.cancel:
                self._stop.ask(Cause.CANCELLED)
        return True


class Cancels:
    """Hears of cancels at once, over Redis, for the attempts of this process; best effort.

    A message stops nothing: it may be forged, or another farm's on the same Redis. It
    brings the next heartbeat forward, and the control plane's answer to that decides.
    """

    def __init__(self, broker_url: str, worker: str) -> None:
        self._running: dict[str, Callable[[], None]] = {}
        self._listener = Listener(broker_url, [cancel_channel_of(worker)], self._heard)

    @contextlib.contextmanager
    def watching(self, name: str, hurry: Callable[[], None]) -> Iterator[None]:
        """While inside, word of a cancel of `<part>.<attempt>` calls `hurry`."""
        self._running[name] = hurry
        try:
            yield
        finally:
            del self._running[name]

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _heard(self, _channel: str, name: str) -> None:
        hurry = self._running.get(name)
        if hurry is not None:
            hurry()
