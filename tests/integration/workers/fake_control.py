"""A control plane that works, in memory, behind real HTTP: every verb of farm.protocol.

It keeps what a worker says, and answers as `web/worker_api.py` does; a test turns its
switches (`silent`, `cancel`, `stale`).
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from farm.protocol import (
    CLAIM_HEADER,
    Carried,
    CheckedIn,
    CheckIn,
    ClaimAnswer,
    Commit,
    DesiredTag,
    Enrolled,
    Enrolment,
    Finish,
    HandBack,
    Heartbeat,
    LogReceived,
    Publish,
    PublishAnswer,
    Resolved,
    StepReport,
    Steps,
    Wire,
    queue_of,
)

ENROLMENT_TOKEN = "enrolment-token"


@dataclass
class FakeAttempt:
    """One attempt as the control plane knows it."""

    answer: ClaimAnswer
    claim: str | None = None
    log: bytes = b""
    steps: dict[int, StepReport] = field(default_factory=dict)
    commit: Commit | None = None
    published: Publish | None = None
    finish: Finish | None = None
    handed_back: HandBack | None = None
    heartbeats: int = 0
    cancel: bool = False
    stale: bool = False
    desired: list[DesiredTag] = field(default_factory=list)
    """What a stale publish is told."""
    publish_answers: list[PublishAnswer] = field(default_factory=list)
    """Scripted answers; empty: every tag is owned."""
    publish_is_silent_until: float = 0.0
    on_publish: Callable[[], None] = lambda: None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def text(self) -> str:
        return self.log.decode()


class Problem(Exception):
    """An answer with a status and a code."""

    def __init__(self, status: int, code: str, **extra: object) -> None:
        super().__init__(code)
        self.status = status
        self.body = {"code": code, **extra}


class FakeControlPlane:
    """Listens on a port of its own from `start` to `stop`."""

    def __init__(self, broker_url: str = "redis://127.0.0.1:1/0") -> None:
        self.attempts: dict[tuple[int, int], FakeAttempt] = {}
        self.workers: dict[str, str] = {}
        """Token -> name."""
        self.check_ins: list[CheckIn] = []
        self.broker_url = broker_url
        self.heartbeat_s = 0.2
        self.silent = False
        self.requests: list[str] = []
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, answer: ClaimAnswer) -> FakeAttempt:
        attempt = FakeAttempt(answer)
        self.attempts[answer.part_id, answer.attempt] = attempt
        return attempt

    def handle(self, path: str, token: str, claim: str, body: bytes) -> Wire | None:
        url = urlsplit(path)
        self.requests.append(url.path)
        if self.silent:
            raise Problem(503, "unavailable")
        with self._lock:
            verb = url.path.removeprefix("/worker/v1/")
            if verb == "enrol":
                return self._enrol(token, Enrolment.model_validate_json(body))
            if token not in self.workers:
                raise Problem(401, "unauthenticated")
            if verb == "check-in":
                return self._check_in(self.workers[token], CheckIn.model_validate_json(body))
            match = re.fullmatch(r"attempts/(\d+)/(\d+)/([a-z-]+)", verb)
            assert match, verb
            attempt = self.attempts[int(match[1]), int(match[2])]
            offset = int(parse_qs(url.query).get("offset", ["0"])[0])
            return self._attempt(attempt, match[3], claim, body, offset)

    def _enrol(self, token: str, wanted: Enrolment) -> Enrolled:
        if token != ENROLMENT_TOKEN:
            raise Problem(401, "unauthenticated")
        own = f"own-{wanted.name}-{len(self.workers)}"
        self.workers[own] = wanted.name
        return Enrolled(name=wanted.name, token=own)

    def _check_in(self, name: str, facts: CheckIn) -> CheckedIn:
        self.check_ins.append(facts)
        return CheckedIn(
            name=name,
            queue=queue_of(name),
            broker_url=self.broker_url,
            heartbeat_s=self.heartbeat_s,
            lease_s=60,
            draining=False,
        )

    def _attempt(
        self, attempt: FakeAttempt, verb: str, claim: str, body: bytes, offset: int
    ) -> Wire | None:
        if verb == "claim" and attempt.claim is None:
            attempt.claim = claim
        if verb == "publish" and time.monotonic() < attempt.publish_is_silent_until:
            raise Problem(503, "unavailable")
        if attempt.claim != claim or attempt.stale:
            tags = [tag.model_dump() for tag in attempt.desired] if verb == "publish" else []
            raise Problem(409, "stale_attempt", tags=tags)
        answer: Callable[[FakeAttempt, bytes, int], Wire | None] = getattr(
            self, "_" + verb.replace("-", "_")
        )
        return answer(attempt, body, offset)

    @staticmethod
    def _claim(attempt: FakeAttempt, _body: bytes, _offset: int) -> Wire:
        return attempt.answer

    @staticmethod
    def _resolved(attempt: FakeAttempt, body: bytes, _offset: int) -> Wire:
        found = Resolved.model_validate_json(body)
        attempt.commit = attempt.commit or Commit(**found.model_dump())
        return attempt.commit

    @staticmethod
    def _heartbeat(attempt: FakeAttempt, body: bytes, _offset: int) -> Wire:
        Heartbeat.model_validate_json(body)
        attempt.heartbeats += 1
        return Carried(cancel=attempt.cancel, lease_s=60)

    @staticmethod
    def _steps(attempt: FakeAttempt, body: bytes, _offset: int) -> Wire:
        for step in Steps.model_validate_json(body).steps:
            attempt.steps[step.number] = step
        return Carried(cancel=attempt.cancel, lease_s=60)

    @staticmethod
    def _log(attempt: FakeAttempt, body: bytes, offset: int) -> Wire:
        if offset <= len(attempt.log):
            attempt.log += body[len(attempt.log) - offset :]
        return LogReceived(size=len(attempt.log), next_ms=50, cancel=attempt.cancel)

    @staticmethod
    def _finish(attempt: FakeAttempt, body: bytes, _offset: int) -> None:
        attempt.finish = Finish.model_validate_json(body)
        attempt.ended.set()

    @staticmethod
    def _hand_back(attempt: FakeAttempt, body: bytes, _offset: int) -> None:
        attempt.handed_back = HandBack.model_validate_json(body)
        attempt.ended.set()

    @staticmethod
    def _publish(attempt: FakeAttempt, body: bytes, _offset: int) -> PublishAnswer:
        image = Publish.model_validate_json(body)
        if attempt.published is None and attempt.cancel:
            raise Problem(409, "cancel_requested")
        attempt.published = attempt.published or image
        attempt.on_publish()
        if attempt.publish_answers:
            return attempt.publish_answers.pop(0)
        return PublishAnswer(owned=attempt.answer.spec.tags, others=[])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, plane: FakeControlPlane) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plane = plane

    def handle_error(self, request: object, client_address: object) -> None:
        """A worker that is killed breaks its connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, kind = 200, "application/json"
        try:
            shape = self.server.plane.handle(
                self.path, token, self.headers.get(CLAIM_HEADER, ""), body
            )
            status = 204 if shape is None else 200
            answer = b"" if shape is None else shape.model_dump_json().encode()
        except Problem as problem:
            kind = "application/problem+json"
            status, answer = problem.status, json.dumps(problem.body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
