"""A farm for the command line to talk to: a real HTTP server with answers laid out by a test.

The shapes are those of farm.views, so that a changed contract breaks these tests.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from farm.reasons import Reason, WaitReason
from farm.states import BuildStatus, Outcome, Priority, StepStatus, Trigger
from farm.views import (
    AttemptView,
    BuildView,
    ImageView,
    PartView,
    StepCount,
    StepView,
    Waiting,
)

DIGEST = "sha256:" + "5" * 64
SHA = "4" * 40
CREATED = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """One answer; with `hold` the connection stays open until that is set."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    drop: bool = False
    """Close the connection instead of answering."""


class FakeFarm:
    """Answers by method and path below /api/v1; the last answer of several is repeated."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.came = threading.Event()
        """Set when a request has been read whose answer is held."""
        self._answers: dict[str, list[Answer]] = defaultdict(list)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def on(self, what: str, *answers: object) -> None:
        """Lay out the answers to `GET /builds/7`; what is no Answer is the body of one."""
        self._answers[what] += [a if isinstance(a, Answer) else Answer(a) for a in answers]

    def requests(self, what: str) -> list[Asked]:
        """What was asked of one method and path."""
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == what]

    def answer(self, asked: Asked) -> Answer:
        """Note a request and choose its answer."""
        self.asked.append(asked)
        answers = self._answers[f"{asked.method} {asked.path}"]
        if not answers:
            return problem(404, "not_found", "There is no such thing.")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _handler(farm: FakeFarm) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            url = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(url.path).removeprefix("/api/v1")
            asked = Asked(
                self.command,
                path,
                parse_qs(url.query),
                {name.lower(): value for name, value in self.headers.items()},
                json.loads(raw) if raw else None,
            )
            answer = farm.answer(asked)
            if answer.drop:
                return
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            body = answer.body
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            if answer.hold:
                self.wfile.flush()
                farm.came.set()
                answer.hold.wait(30)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            """Say nothing: a test's output is its own."""

    return Handler


def problem(status: int, code: str, detail: str, **more: object) -> Answer:
    """An RFC 9457 answer, as web/errors.py gives them."""
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
    return Answer(body | more, status, {"Content-Type": "application/problem+json"})


def page(*items: object, cursor: str | None = None) -> dict[str, object]:
    """One page of a list."""
    return {"items": list(items), "next_cursor": cursor}


def events(*messages: tuple[str, object], start: int = 1) -> bytes:
    """A text/event-stream with ids, told to be resumed without a pause."""
    lines = ["retry: 1", "", ": ping", ""]
    for number, (name, data) in enumerate(messages, start):
        lines += [f"id: 1.1.{number}", f"event: {name}", f"data: {json.dumps(data)}", ""]
    return ("\n".join(lines) + "\n").encode()


def build(
    status: BuildStatus = BuildStatus.SUCCEEDED,
    reason: Reason | None = None,
    *,
    number: int = 7,
    waiting: WaitReason | None = None,
) -> dict[str, Any]:
    """A build as the API shows it."""
    started = status is not BuildStatus.QUEUED
    view = BuildView(
        id=str(number),
        status=status,
        reason=reason,
        message="exit code 2" if reason else None,
        cure=reason.cure if reason else None,
        project="shop/api",
        repository="https://git.example.org/shop/api.git",
        pull_request=7,
        ref=None,
        sha=SHA if started else None,
        trigger=Trigger.API,
        priority=Priority.NORMAL,
        waiting=Waiting(reason=waiting, position=2, eta_s=None) if waiting else None,
        parts=[_part(status, reason)] if started and status is not BuildStatus.SKIPPED else [],
        image=_image() if status is BuildStatus.SUCCEEDED else None,
        steps=StepCount(total=8, cached=5),
        retry_of=None,
        created_at=CREATED,
        started_at=CREATED if started else None,
        finished_at=CREATED if status.terminal else None,
        queue_s=0.25 if started else None,
        duration_s=65.5 if status.terminal else None,
        url=f"https://farm.example.org/builds/{number}",
    )
    shown: dict[str, Any] = view.model_dump(mode="json")
    return shown


def step(number: int, status: StepStatus = StepStatus.SUCCEEDED) -> dict[str, Any]:
    """A step as the API shows it."""
    view = StepView(
        number=number,
        name=f"[{number}/8] RUN make",
        status=status,
        cached=number == 1,
        started_at=CREATED,
        duration_s=1.5,
        platform="linux/amd64",
        attempt=1,
    )
    shown: dict[str, Any] = view.model_dump(mode="json")
    return shown


def _image() -> ImageView:
    return ImageView(digest=DIGEST, tags=["reg.example.org/api:pr-7"], size=50_000_000)


def _part(status: BuildStatus, reason: Reason | None) -> PartView:
    outcome = Outcome(status.value) if status.terminal else None
    attempt = AttemptView(
        number=1,
        worker="builder-1",
        started_at=CREATED,
        finished_at=CREATED if status.terminal else None,
        outcome=outcome,
        reason=reason,
        message=None,
    )
    return PartView(id=1, platform="linux/amd64", status=status, phase=None, attempts=[attempt])
