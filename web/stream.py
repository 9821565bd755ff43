"""A build as it happens: server-sent events, resumable where they broke off.

The id of an event is `<part>.<attempt>.<offset>.<event>`: how far the log was read.
Steps and the status are sent again after a resume, which changes nothing for a
reader that keeps the last of each. The log is read from the file that every web
process of the host shares; Redis only says when to look (docs/adr/0002).
"""

from __future__ import annotations

import codecs
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from flask import Response

from farm import history
from farm.errors import RequestError
from farm.views import BuildView, StepView
from web.context import Services, services

_PING_S = 15.0
_LOOK_S = 1.0
"""How long a reader believes that nothing happened without a hint."""
_BREATH_S = 0.05
"""The least time between two looks: a flood of hints is one look."""
_CHUNK = 64 * 1024
_LAST_ID = re.compile(r"^(\d{1,15})\.(\d{1,9})\.(\d{1,15})\.(\d{1,15})$")


class _BadEventId(RequestError):
    status = 400
    code = "bad_event_id"


@dataclass
class _Reader:
    """How far one reader has come."""

    part_id: int = 0
    attempt: int = 0
    offset: int = 0
    event: int = 0
    status: str = ""
    steps: dict[int, str] = field(default_factory=dict)

    def frame(self, kind: str, data: str) -> str:
        self.event += 1
        place = f"{self.part_id}.{self.attempt}.{self.offset}.{self.event}"
        return f"id: {place}\nevent: {kind}\ndata: {data}\n\n"


def follow(build_id: int, last_id: str | None) -> Response:
    """The response that streams a build until it is over."""
    farm = services()
    reader = _resumed(last_id)
    with farm.database.read() as session:
        build = history.get(session, build_id, base_url="")  # NotFound before the stream begins
    if reader.part_id not in {part.id for part in build.parts}:
        reader = _Reader(event=reader.event)  # an id of another build: nothing of that one
    wake = farm.live.join(build_id)  # TooManyReaders before the stream begins

    def frames() -> Iterator[str]:
        yield "retry: 2000\n\n"
        yield from _frames(farm, build_id, reader, wake)

    response = Response(frames(), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(lambda: farm.live.leave(build_id, wake))
    return response


def _resumed(last_id: str | None) -> _Reader:
    if not last_id:
        return _Reader()
    match = _LAST_ID.match(last_id)
    if not match:
        raise _BadEventId("The Last-Event-ID is not one that the farm gave.")
    part_id, attempt, offset, event = (int(number) for number in match.groups())
    return _Reader(part_id, attempt, offset, event)


def _frames(farm: Services, build_id: int, reader: _Reader, wake: threading.Event) -> Iterator[str]:
    said = time.monotonic()
    while True:
        wake.clear()
        # Measured before the database is read: a line never comes before its step.
        upto = farm.logs.size(reader.part_id, reader.attempt)
        build, steps, source = _look(farm, build_id)
        if source not in (None, (reader.part_id, reader.attempt)):
            wake.set()  # another attempt's log begins: look at once again
        for frame in _news(farm, reader, build, steps, source, upto=upto):
            said = time.monotonic()
            yield frame
        if build.finished:
            yield reader.frame("done", build.model_dump_json())
            return
        if time.monotonic() - said > _PING_S:
            said = time.monotonic()
            yield ": ping\n\n"
        time.sleep(_BREATH_S)
        wake.wait(_LOOK_S)


def _look(
    farm: Services, build_id: int
) -> tuple[BuildView, list[StepView], tuple[int, int] | None]:
    with farm.database.read() as session:
        return (
            history.get(session, build_id, base_url=farm.settings.url),
            history.steps(session, build_id),
            history.log_of(session, build_id),
        )


def _news(
    farm: Services,
    reader: _Reader,
    build: BuildView,
    steps: list[StepView],
    source: tuple[int, int] | None,
    *,
    upto: int,
) -> Iterator[str]:
    """What this reader has not seen: the status, steps, then the log up to its end."""
    if source is not None and source != (reader.part_id, reader.attempt):
        if source[0] == reader.part_id:
            yield from _log(farm, reader)  # what the attempt before said last
        reader.part_id, reader.attempt = source
        reader.offset, reader.steps, upto = 0, {}, 0
    status = build.model_dump_json()
    if status != reader.status and not build.finished:
        reader.status = status
        yield reader.frame("status", status)
    for step in steps:
        text = step.model_dump_json()
        if reader.steps.get(step.number) != text:
            reader.steps[step.number] = text
            yield reader.frame("step", text)
    yield from _log(farm, reader, upto=None if build.finished else upto)


def _log(farm: Services, reader: _Reader, *, upto: int | None = None) -> Iterator[str]:
    """Whole lines up to an offset; without one all there is, also what has no line end."""
    if not reader.part_id:
        return
    while data := farm.logs.read(
        reader.part_id, reader.attempt, reader.offset, _room(reader.offset, upto)
    ):
        end = data.rfind(b"\n") + 1
        if not end and upto is not None and len(data) < _CHUNK:
            return
        data = data[: end or _letters_end(data)]
        reader.offset += len(data)
        text = data.decode("utf-8", "replace")
        yield reader.frame("log", json.dumps({"text": text}, ensure_ascii=False))


def _room(offset: int, upto: int | None) -> int:
    return _CHUNK if upto is None else max(0, min(_CHUNK, upto - offset))


def _letters_end(data: bytes) -> int:
    """Where the last whole letter of a piece ends; the next piece begins there."""
    if len(data) < _CHUNK:
        return len(data)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return len(data) - len(decoder.getstate()[0])
