"""What happens to one build, as events: server-sent, resumed where they broke off, or polled.

Whoever iterates again after an interruption goes on where the last event was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException

from farm.cli.client import Api, Json, NotThere, Unreachable, path_of

SILENCE_S = 60.0
"""The server sends a ping every 15 s: longer silence means a dead connection."""
PATIENCE_S = 300.0
"""How long a server may be away (it restarts, a laptop sleeps) before we give up."""
POLL_S = 1.0
DEFAULT_RETRY_S = 2.0
TERMINAL = frozenset({"succeeded", "failed", "errored", "cancelled", "skipped"})
"""The ends of a build; a copy of farm.states.TERMINAL (a test compares them)."""


@dataclass(frozen=True)
class Event:
    """`log` with a text, `step` with a step, `status` and `done` with the build."""

    name: str
    data: Json


@dataclass
class Message:
    """One message of a text/event-stream, as it came."""

    name: str = "message"
    data: str = ""
    id: str | None = None
    retry_s: float | None = None


def parse(lines: Iterable[bytes]) -> Iterator[Message]:
    """Read a text/event-stream; what its end cuts off is dropped."""
    message = Message()
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data or message.id is not None or message.retry_s is not None:
                message.data = "\n".join(data)
                yield message
            message, data = Message(), []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            message.name = value
        elif field == "id":
            message.id = value
        elif field == "retry" and value.isdigit():
            message.retry_s = int(value) / 1000


class BuildEvents:
    """The events of one build, from its log's beginning to `done`."""

    def __init__(self, api: Api, build_id: str) -> None:
        self._api = api
        self._path = path_of("builds", build_id)
        self._last_id: str | None = None
        self._retry_s = DEFAULT_RETRY_S
        self._heard = time.monotonic()
        self._next_line = 1
        self._attempt: object = None

    def __iter__(self) -> Iterator[Event]:
        """Every event up to `done`; raises ApiError when the farm says no or stays away."""
        self._heard = time.monotonic()
        polling = False
        while True:
            try:
                for event in self._poll() if polling else self._listen():
                    yield event
                    if event.name == "done":
                        return
            except Unreachable as exc:
                if exc.status == HTTPStatus.SERVICE_UNAVAILABLE and not polling:
                    polling = True
                    continue
                if time.monotonic() - self._heard > PATIENCE_S:
                    raise
            time.sleep(POLL_S if polling else self._retry_s)

    def _listen(self) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        with self._api.open(
            "GET", f"{self._path}/events", headers=headers, timeout_s=SILENCE_S
        ) as response:
            try:
                for message in parse(response):
                    self._heard = time.monotonic()
                    yield from self._received(message)
            except (OSError, HTTPException) as exc:
                raise Unreachable(f"{self._api.server} broke off the stream") from exc

    def _received(self, message: Message) -> Iterator[Event]:
        if message.retry_s is not None:
            self._retry_s = message.retry_s
        if message.data and message.name in ("log", "step", "status", "done"):
            try:
                data = json.loads(message.data)
            except ValueError as exc:
                raise Unreachable(f"{self._api.server} sent a broken event") from exc
            yield Event(message.name, data)
        if message.id is not None:  # only now: what was not handed on is asked for again
            self._last_id = message.id

    def _poll(self) -> Iterator[Event]:
        """One look at the build and its log, where no stream is to be had."""
        build = self._api.get(self._path)
        self._heard = time.monotonic()
        ended = build["status"] in TERMINAL
        yield Event("status", build)
        attempt = [(part["platform"], len(part["attempts"])) for part in build["parts"]]
        if attempt != self._attempt:
            self._attempt, self._next_line = attempt, 1
        try:
            log = b"".join(self._api.text(f"{self._path}/log", {"from": self._next_line}))
        except NotThere:  # no attempt has written a log yet
            log = b""
        whole = log if ended else log[: log.rfind(b"\n") + 1]
        self._next_line += whole.count(b"\n")
        if whole:
            yield Event("log", {"text": whole.decode("utf-8", "replace")})
        if ended:
            yield Event("done", build)
