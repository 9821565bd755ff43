"""Wake-ups through Redis: hints that something changed, never the truth.

A process tells others after its commit, from one thread of its own: the caller
never waits for Redis and never fails because of it. Equal hints that have not gone
out yet are one. Whoever listens also looks by itself, now and then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog
from redis import Redis
from redis.client import PubSub
from redis.exceptions import RedisError

from farm.protocol import cancel_channel_of

SCHEDULER_CHANNEL = "farm.scheduler"
BUILDS_CHANNEL = "farm.builds"
_RETRY_S = 1.0
_MOST_PENDING = 10_000

log = structlog.get_logger()


def connect(url: str) -> Redis:
    """A client with short time-outs: a half-open connection must not hold anybody."""
    return Redis.from_url(
        url,
        socket_timeout=3,
        socket_connect_timeout=2,
        socket_keepalive=True,
        health_check_interval=10,
    )


class Wakeups:
    """Publishes hints; one per process."""

    def __init__(self, url: str) -> None:
        self._redis = connect(url)
        self._pending: dict[tuple[str, str], None] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="wakeups", daemon=True)
        self._thread.start()

    def scheduler(self) -> None:
        """There may be something to place."""
        self._put(SCHEDULER_CHANNEL, "")

    def build(self, build_id: int) -> None:
        """A build, its steps or its log changed."""
        self._put(BUILDS_CHANNEL, str(build_id))

    def cancel(self, worker: str, part_id: int, attempt: int) -> None:
        """A worker should look at its attempt's cancel flag now."""
        self._put(cancel_channel_of(worker), f"{part_id}.{attempt}")

    def close(self) -> None:
        """Send what is pending and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=5)
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _put(self, channel: str, payload: str) -> None:
        with self._changed:
            if len(self._pending) < _MOST_PENDING:
                self._pending[channel, payload] = None
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._pending and not self._closed:
                    self._changed.wait()
                if not self._pending:
                    return
                batch, self._pending = list(self._pending), {}
            self._send(batch)

    def _send(self, batch: list[tuple[str, str]]) -> None:
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for channel, payload in batch:
                    pipe.publish(channel, payload)
                pipe.execute()
        except RedisError as exc:
            log.warning("wakeup_dropped", count=len(batch), error=type(exc).__name__)


class Listener:
    """Calls back for every hint on some channels, from a thread of its own.

    While Redis is away it tries again every second; `connected` says how it stands.
    """

    def __init__(self, url: str, channels: list[str], on_hint: Callable[[str, str], None]) -> None:
        self._redis = connect(url)
        self._channels = channels
        self._on_hint = on_hint
        self._stop = threading.Event()
        self.connected = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(timeout=5)
        self._redis.close()

    def _run(self) -> None:
        quiet = False  # an outage is worth one line
        while not self._stop.is_set():
            try:
                self._listen()
            except RedisError as exc:
                quiet = quiet and not self.connected.is_set()
                if not quiet:
                    log.warning("listener_disconnected", error=type(exc).__name__)
                quiet = True
            self.connected.clear()
            self._stop.wait(_RETRY_S)

    def _listen(self) -> None:
        with PubSub(self._redis.connection_pool, ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(*self._channels)
            self.connected.set()
            while not self._stop.is_set():
                message = pubsub.get_message(timeout=1.0)
                if message is not None:
                    self._on_hint(_text(message["channel"]), _text(message["data"]))


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
