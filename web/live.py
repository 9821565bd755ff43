"""Waking the live readers of one web process: one Redis listener fans out to all."""

from __future__ import annotations

import threading
from collections import defaultdict

from farm.errors import Unavailable
from farm.wakeups import BUILDS_CHANNEL, Listener


class TooManyReaders(Unavailable):
    """Every stream that this process can hold is taken: poll instead, or try later."""

    code = "too_many_streams"


class LiveHub:
    """Knows who watches which build. Without Redis readers look by themselves."""

    def __init__(self, redis_url: str, *, capacity: int) -> None:
        self._capacity = capacity
        self._readers: dict[int, set[threading.Event]] = defaultdict(set)
        self._lock = threading.Lock()
        self._listener = Listener(redis_url, [BUILDS_CHANNEL], self._hint)

    def join(self, build_id: int) -> threading.Event:
        """An event that is set whenever the build changes; TooManyReaders past the cap."""
        event = threading.Event()
        with self._lock:
            if sum(map(len, self._readers.values())) >= self._capacity:
                raise TooManyReaders("Too many live readers; ask again in a while.")
            self._readers[build_id].add(event)
        return event

    def leave(self, build_id: int, event: threading.Event) -> None:
        """This reader is gone; safe to call twice."""
        with self._lock:
            readers = self._readers.get(build_id)
            if readers is not None:
                readers.discard(event)
                if not readers:
                    del self._readers[build_id]

    def watched(self, build_id: int) -> bool:
        """Whether somebody reads this build live in this process."""
        with self._lock:
            return build_id in self._readers

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _hint(self, _channel: str, payload: str) -> None:
        if payload.isdigit():
            with self._lock:
                for event in self._readers.get(int(payload), ()):
                    event.set()
