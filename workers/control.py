"""The worker API's client: what a worker says to the control plane, and hears.

Verbs about an attempt are fenced by (part, attempt, claim token) and may be
repeated, so every call that got no clear answer is sent again. Silence of the
control plane is never a reason to stop a build: only its word is.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.request import getproxies

import httpx
import structlog
from pydantic import BaseModel

from farm.protocol import (
    CLAIM_HEADER,
    Carried,
    CheckedIn,
    CheckIn,
    ClaimAnswer,
    Commit,
    Enrolled,
    Enrolment,
    Finish,
    HandBack,
    Heartbeat,
    LogReceived,
    Publish,
    PublishAnswer,
    Resolved,
    Steps,
)
from farm.states import Phase
from workers.answers import ControlSilent, NotEnrolled, error_of, is_ours, parse
from workers.identity import Identity

log = structlog.get_logger()

TIMEOUT = httpx.Timeout(15.0, connect=2.0)
DEAD_AFTER_S = 2
"""A path that acknowledges nothing for so long is dead: after it the kernel itself would wait
longer and longer before it tries again, and a stale run would outlive its host's return. A slow
control plane still acknowledges."""
LIMITS = httpx.Limits(max_keepalive_connections=8, keepalive_expiry=60.0)
SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_S * 1000),
    # For an answer that is waited for while nothing of ours is on its way.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_AFTER_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD_AFTER_S),
]
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0


def make_client() -> httpx.Client:
    """Connections to the control plane; one per process, kept open, for all its threads."""
    direct = None
    if not getproxies():  # with a transport of ours httpx would look for no proxy
        direct = httpx.HTTPTransport(limits=LIMITS, socket_options=SOCKET_OPTIONS)
    return httpx.Client(
        timeout=TIMEOUT,
        limits=LIMITS,
        transport=direct,
        headers={"User-Agent": "farm-worker"},
    )


def enrol(client: httpx.Client, server: str, token: str, enrolment: Enrolment) -> Enrolled:
    """Exchange an enrolment token for the worker's own.

    Raises ControlSilent, NotEnrolled (the token is wrong or revoked) or ControlRefused.
    """
    answer = _post(client, f"{server}/worker/v1/enrol", token, json=enrolment)
    return parse(answer, Enrolled)


class Control:
    """Calls with the worker's own token, which is read again from its file after a 401."""

    def __init__(self, client: httpx.Client, identity_file: Path) -> None:
        self._client = client
        self._file = identity_file
        self._identity = Identity.read(identity_file)

    @property
    def worker(self) -> str:
        """The name under which the farm knows this worker."""
        return self._identity.name

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def check_in(self, facts: CheckIn) -> CheckedIn:
        """Say that the worker lives; raises ControlSilent, NotEnrolled, ControlRefused."""
        return parse(self.post("check-in", json=facts), CheckedIn)

    def post(
        self,
        path: str,
        *,
        json: BaseModel | None = None,
        content: bytes | None = None,
        claim: str | None = None,
        offset: int | None = None,
    ) -> httpx.Response:
        """One call; the other process may have enrolled anew, so a 401 reads the token again."""
        url = f"{self._identity.server}/worker/v1/{path}"
        headers = {} if claim is None else {CLAIM_HEADER: claim}
        params = None if offset is None else {"offset": offset}
        for again in (True, False):
            try:
                return _post(
                    self._client,
                    url,
                    self._identity.token,
                    json=json,
                    content=content,
                    headers=headers,
                    params=params,
                )
            except NotEnrolled:
                fresh = Identity.read(self._file)
                if fresh.token == self._identity.token or not again:
                    raise
                self._identity = fresh
        raise AssertionError("unreachable")

    def attempt(self, part: int, attempt: int, claim: str) -> AttemptControl:
        """The verbs about one attempt."""
        return AttemptControl(self, part, attempt, claim)


class AttemptControl:
    """The verbs about one attempt; each raises StaleAttempt on 409, else as `Control.post`."""

    def __init__(self, control: Control, part: int, attempt: int, claim: str) -> None:
        self._control = control
        self.part = part
        self.number = attempt
        self.claim_token = claim

    @property
    def name(self) -> str:
        """`<part>.<attempt>`."""
        return f"{self.part}.{self.number}"

    def claim(self) -> ClaimAnswer:
        """Take the attempt; the answer is the same for the same claim token."""
        return parse(self._post("claim"), ClaimAnswer)

    def resolved(self, commit: Resolved) -> Commit:
        """Report the commit that was found; the answer says which one to build."""
        return parse(self._post("resolved", json=commit), Commit)

    def heartbeat(self, phase: Phase) -> Carried:
        """Keep the lease."""
        return parse(self._post("heartbeat", json=Heartbeat(phase=phase)), Carried)

    def steps(self, steps: Steps) -> Carried:
        """Report steps; a step that was reported before is replaced."""
        return parse(self._post("steps", json=steps), Carried)

    def log(self, offset: int, content: bytes) -> LogReceived:
        """Send log bytes; the answer says from where to send on."""
        return parse(self._post("log", content=content, offset=offset), LogReceived)

    def publish(self, image: Publish) -> PublishAnswer:
        """Say that the image is there; the answer says which tags to PUT."""
        return parse(self._post("publish", json=image), PublishAnswer)

    def finish(self, finish: Finish) -> None:
        """Report the end."""
        self._post("finish", json=finish)

    def hand_back(self, message: str) -> None:
        """Give the part back to the queue."""
        self._post("hand-back", json=HandBack(message=message))

    def _post(
        self,
        verb: str,
        *,
        json: BaseModel | None = None,
        content: bytes | None = None,
        offset: int | None = None,
    ) -> httpx.Response:
        return self._control.post(
            f"attempts/{self.part}/{self.number}/{verb}",
            json=json,
            content=content,
            claim=self.claim_token,
            offset=offset,
        )


Result = TypeVar("Result")


def insist(
    call: Callable[[], Result], *, wait: Callable[[float], None], for_s: float | None = None
) -> Result:
    """Repeat a call until it is answered; `wait` sleeps and raises when it is time to stop.

    After `for_s` seconds (None: never) the last ControlSilent is raised.
    """
    began = time.monotonic()
    pause = FIRST_RETRY_S
    while True:
        try:
            return call()
        except (ControlSilent, NotEnrolled) as exc:
            if for_s is not None and time.monotonic() - began + pause > for_s:
                raise
            log.warning("control_plane_silent", error=str(exc), again_in_s=pause)
        wait(pause)
        pause = min(LONGEST_RETRY_S, pause * 2)


def _post(
    client: httpx.Client,
    url: str,
    token: str,
    *,
    json: BaseModel | None = None,
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
    params: dict[str, int] | None = None,
) -> httpx.Response:
    body = content
    sent = {**(headers or {}), "Authorization": f"Bearer {token}"}
    if json is not None:
        body, sent["Content-Type"] = json.model_dump_json().encode(), "application/json"
    elif content is not None:
        sent["Content-Type"] = "application/octet-stream"
    try:
        answer = client.post(url, content=body, headers=sent, params=params)
    except httpx.HTTPError as exc:
        raise ControlSilent(type(exc).__name__) from exc
    if answer.is_success and is_ours(answer):
        return answer
    raise error_of(answer)
