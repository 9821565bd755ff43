"""Following a build live: the order of events, resuming without loss or doubling, the cap."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.integration.web.site import HandWorker, Site, problem


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: str
    kind: str
    data: Any


class Follower:
    """Reads a build's stream event by event."""

    def __init__(self, site: Site, build: Mapping[str, Any], last_id: str | None = None) -> None:
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        self.answer: TestResponse = site.get(
            f"/builds/{build['id']}/events", by="read", headers=headers, buffered=False
        )
        assert self.answer.status_code == 200, self.answer.text
        self._events = self._read()

    def _read(self) -> Iterator[Event]:
        text = ""
        for chunk in self.answer.iter_encoded():
            text += chunk.decode()
            while "\n\n" in text:
                frame, _, text = text.partition("\n\n")
                fields = dict(line.split(": ", 1) for line in frame.split("\n"))
                if "event" in fields:
                    yield Event(fields["id"], fields["event"], json.loads(fields["data"]))

    def next(self) -> Event:
        return next(self._events)

    def until(self, kind: str) -> list[Event]:
        """Every event up to the first of a kind, that one included."""
        seen: list[Event] = []
        while not seen or seen[-1].kind != kind:
            seen.append(self.next())
        return seen

    def rest(self) -> list[Event]:
        return list(self._events)

    def close(self) -> None:
        self.answer.close()


def step(number: int, status: str = "running") -> dict[str, Any]:
    return {
        "number": number,
        "name": f"step {number}",
        "status": status,
        "cached": False,
        "started_at": None,
        "duration_s": None,
    }


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.kind == "log")


def test_a_build_is_told_from_its_status_over_steps_and_log_to_done(
    site: Site, worker: HandWorker
) -> None:
    build = site.build(push=False)
    reader = Follower(site, build)
    first = reader.next()
    assert (first.kind, first.data["status"]) == ("status", "queued")
    worker.claim(build)
    assert reader.next().data["status"] == "running"
    worker.verb("steps", {"steps": [step(1)]})
    assert reader.until("step")[-1].data["number"] == 1
    worker.log(0, b"#1 hello\n")
    assert reader.until("log")[-1].data == {"text": "#1 hello\n"}
    worker.verb("steps", {"steps": [step(1, "succeeded")]})
    worker.log(9, b"#1 no end")
    worker.finish()
    rest = reader.rest()
    assert text_of(rest) == "#1 no end"
    assert rest[-1].kind == "done"
    assert rest[-1].data["status"] == "succeeded"
    assert [event.kind for event in rest].count("done") == 1


def test_a_stream_is_what_proxies_and_browsers_need(site: Site) -> None:
    build = site.build()
    reader = Follower(site, build)
    headers = reader.answer.headers
    reader.close()
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no"


def test_a_finished_build_is_told_at_once(site: Site, worker: HandWorker) -> None:
    build = site.build(push=False)
    worker.claim(build)
    worker.log(0, b"#1 a\n#1 b\n")
    worker.finish()
    events = Follower(site, build).rest()
    assert text_of(events) == "#1 a\n#1 b\n"
    assert events[-1].kind == "done"


@pytest.mark.parametrize("break_after", range(1, 6))
def test_a_broken_stream_goes_on_without_loss_or_doubling(
    site: Site, worker: HandWorker, break_after: int
) -> None:
    build = site.build(push=False)
    worker.claim(build)
    whole, offset = [b"#1 line %d \xc3\xa9\n" % n for n in range(6)], 0
    reader, seen, last_id = Follower(site, build), [], ""
    for n, line in enumerate(whole):
        worker.log(offset, line)
        offset += len(line)
        events = reader.until("log")
        seen += events
        last_id = events[-1].id
        if n == break_after:
            reader.close()
            reader = Follower(site, build, last_id)
    worker.finish()
    seen += reader.rest()
    assert text_of(seen).encode() == b"".join(whole)
    numbers = [int(event.id.rpartition(".")[2]) for event in seen]
    assert numbers == sorted(set(numbers))


def test_a_stream_resumed_after_the_end_has_the_rest_and_done(
    site: Site, worker: HandWorker
) -> None:
    build = site.build(push=False)
    worker.claim(build)
    worker.log(0, b"#1 a\n")
    reader = Follower(site, build)
    last_id = reader.until("log")[-1].id
    reader.close()
    worker.log(5, b"#1 b\n")
    worker.finish()
    events = Follower(site, build, last_id).rest()
    assert text_of(events) == "#1 b\n"
    assert events[-1].kind == "done"


def test_a_second_attempt_begins_its_log_anew(site: Site, worker: HandWorker) -> None:
    build = site.build(push=False)
    worker.claim(build)
    worker.log(0, b"#1 first attempt\n")
    reader = Follower(site, build)
    assert text_of(reader.until("log")) == "#1 first attempt\n"
    worker.verb("hand-back", {})
    worker.claim_token = "d" * 32
    worker.claim(build)
    worker.log(0, b"#1 second\n")
    worker.finish()
    assert text_of(reader.rest()) == "#1 second\n"


def test_a_log_line_cannot_forge_an_event(site: Site, worker: HandWorker) -> None:
    build = site.build(push=False)
    worker.claim(build)
    evil = b'#1 x\r\n\r\nevent: done\r\ndata: {"status":"succeeded"}\n\n\nid: 9\xff\n'
    worker.log(0, evil)
    worker.finish("failed", reason="step_failed")
    events = Follower(site, build).rest()
    assert text_of(events) == evil.decode("utf-8", "replace")
    assert [event.data["status"] for event in events if event.kind == "done"] == ["failed"]


@pytest.mark.parametrize(
    "last_id",
    ["x", "1", "1.2.3", "1.2.3.4.5", "-1.1.1.1", "1.1.1." + "9" * 16, str(2**63), "a.b.c.d", " "],
)
def test_an_event_id_that_the_farm_never_gave_is_refused(site: Site, last_id: str) -> None:
    build = site.build()
    answer = site.get(f"/builds/{build['id']}/events", headers={"Last-Event-ID": last_id})
    problem(answer, 400, "bad_event_id")


def test_an_event_id_of_another_build_shows_nothing_of_that_build(
    site: Site, worker: HandWorker
) -> None:
    other = site.build(push=False)
    worker.claim(other)
    worker.log(0, b"#1 of the other build\n")
    last_id = f"{worker.part}.1.0.5"
    waiting = site.build()
    reader = Follower(site, waiting, last_id)
    site.post(f"/builds/{waiting['id']}/cancel")
    events = reader.rest()
    assert text_of(events) == ""
    assert events[-1].data["status"] == "cancelled"


def test_more_readers_than_there_is_room_for_are_asked_to_come_back(strict_site: Site) -> None:
    build = strict_site.build(repository="https://8.8.8.8/acme/app", tags=["acme/app:1"])
    first = Follower(strict_site, build)
    path = f"/builds/{build['id']}/events"
    answer = strict_site.get(path)
    problem(answer, 503, "too_many_streams")
    assert answer.headers["Retry-After"]
    first.close()
    second = strict_site.get(path, buffered=False)
    assert second.status_code == 200
    second.close()


def test_a_reader_that_left_is_forgotten(site: Site) -> None:
    build = site.build()
    reader = Follower(site, build)
    reader.next()
    assert site.services.live.watched(int(build["id"]))
    reader.close()
    assert not site.services.live.watched(int(build["id"]))


def test_a_hint_wakes_a_reader_at_once(site: Site) -> None:
    build = site.build()
    assert site.services.live._listener.connected.wait(10)
    woken: threading.Event = site.services.live.join(int(build["id"]))
    site.services.wakeups.build(int(build["id"]))
    assert woken.wait(10)
    site.services.live.leave(int(build["id"]), woken)
