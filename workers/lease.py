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
from collections.abc import Iterator
from typing import Self

import structlog

from farm.errors import StaleAttempt
from farm.protocol import cancel_channel_of
from farm.states import Phase
from farm.wakeups import Listener
from workers.control import AttemptControl, ControlRefused, ControlSilent, NotEnrolled
from workers.stop import Cause, Stop

log = structlog.get_logger()


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
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._waker)
        self._thread.join()
        os.close(self._wake)

    def _run(self) -> None:
        watched = [self._wake, self._shutdown]
        next_beat = time.monotonic() + self._heartbeat_s
        while True:
            left = min(self._stop.watch_deadline(), max(0.0, next_beat - time.monotonic()))
            readable, _, _ = select.select(watched, [], [], left)
            if self._wake in readable:
                return
            if self._shutdown in readable:
                # Its other end is closed: this worker stops, or its main process died.
                self._stop.ask(Cause.HAND_BACK)
                watched = [self._wake]
            if time.monotonic() >= next_beat:
                self._beat()
                next_beat = time.monotonic() + self._heartbeat_s

    def _beat(self) -> None:
        try:
            carried = self._control.heartbeat(self.phase)
        except StaleAttempt:
            self._stop.ask(Cause.STALE)
        except (ControlSilent, NotEnrolled, ControlRefused) as exc:
            log.warning("heartbeat_unanswered", attempt=self._control.name, error=str(exc))
        else:
            if carried.cancel:
                self._stop.ask(Cause.CANCELLED)


class Cancels:
    """Hears cancels at once, over Redis, for the attempts of this process; best effort.

    Without Redis a cancel comes with the next heartbeat.
    """

    def __init__(self, broker_url: str, worker: str) -> None:
        self._running: dict[str, Stop] = {}
        self._listener = Listener(broker_url, [cancel_channel_of(worker)], self._heard)

    @contextlib.contextmanager
    def watching(self, name: str, stop: Stop) -> Iterator[None]:
        """While inside, a cancel of `<part>.<attempt>` asks this `stop`."""
        self._running[name] = stop
        try:
            yield
        finally:
            del self._running[name]

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _heard(self, _channel: str, name: str) -> None:
        stop = self._running.get(name)
        if stop is not None:
            stop.ask(Cause.CANCELLED)
