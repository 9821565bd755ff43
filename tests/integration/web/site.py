"""A farm's web door with its database and Redis, and a worker that is driven by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from farm import access, db, scheduler
from farm.model import Part, Worker
from farm.protocol import PROTOCOL
from farm.scheduler import Message
from tests.factories import DIGEST, REPOSITORY, SHA, TAG, check_in
from web.context import EXTENSION, Services

BUILD = {"repository": REPOSITORY, "tags": [TAG]}
SCOPES = ("read", "build", "admin", "worker")


@dataclass
class Site:
    """The application, and a token of every scope."""

    app: Flask
    client: FlaskClient
    tokens: Mapping[str, str]

    @property
    def services(self) -> Services:
        services: Services = self.app.extensions[EXTENSION]
        return services

    def call(
        self, method: str, path: str, *, by: str | None = "admin", **more: Any
    ) -> TestResponse:
        """A request with a token of a scope (None: without one)."""
        headers = dict(more.pop("headers", {}))
        if by is not None:
            headers["Authorization"] = f"Bearer {self.tokens.get(by, by)}"
        return self.client.open(path, method=method, headers=headers, **more)

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.call("GET", f"/api/v1{path}", **more)

    def post(self, path: str, body: object = None, **more: Any) -> TestResponse:
        if body is not None:
            more["json"] = body
        return self.call("POST", f"/api/v1{path}", **more)

    def delete(self, path: str, **more: Any) -> TestResponse:
        return self.call("DELETE", f"/api/v1{path}", **more)

    def build(self, **body: Any) -> dict[str, Any]:
        """Ask for a build that is taken; returns it."""
        wanted = BUILD | body
        if "project" in wanted:
            del wanted["repository"]
        answer = self.post("/builds", wanted, by="build")
        assert answer.status_code == 202, answer.text
        return as_object(answer)

    def show(self, build: Mapping[str, Any]) -> dict[str, Any]:
        """A build as it is now."""
        return as_object(self.get(f"/builds/{build['id']}"))

    def place(self) -> list[Message]:
        """One round of the scheduler."""
        with self.services.database.write() as session:
            now = db.now(session)
            for worker in session.scalars(select(Worker)):
                worker.last_seen_at = now
            return scheduler.dispatch(session, self.services.settings, now=now)[0]

    def part_id(self, build: Mapping[str, Any]) -> int:
        with self.services.database.read() as session:
            return session.scalars(select(Part.id).where(Part.build_id == int(build["id"]))).one()


@dataclass
class HandWorker:
    """A worker whose every call is made by the test."""

    site: Site
    name: str = "w1"
    token: str = ""
    claim_token: str = "c" * 32
    part: int = 0
    attempt: int = 1

    def enrol(self, *, by: str = "worker", instance: str = "0" * 32) -> HandWorker:
        body = {"name": self.name, "protocol": PROTOCOL, "instance": instance}
        answer = self.site.call("POST", "/worker/v1/enrol", by=by, json=body)
        assert answer.status_code == 200, answer.text
        enrolled = as_object(answer)
        self.name, self.token = enrolled["name"], enrolled["token"]
        return self

    def check_in(self, **facts: Any) -> TestResponse:
        report = check_in(**facts).model_dump(mode="json")
        return self.site.call("POST", "/worker/v1/check-in", by=self.token, json=report)

    def verb(self, name: str, body: object = None, **more: Any) -> TestResponse:
        """A verb of the attempt that this worker holds."""
        path = f"/worker/v1/attempts/{self.part}/{self.attempt}/{name}"
        headers = {"Farm-Claim": self.claim_token, **more.pop("headers", {})}
        if body is not None:
            more["json"] = body
        return self.site.call("POST", path, by=more.pop("by", self.token), headers=headers, **more)

    def log(self, offset: int, data: bytes) -> TestResponse:
        return self.verb("log", query_string={"offset": offset}, data=data)

    def claim(self, build: Mapping[str, Any]) -> dict[str, Any]:
        """Place the build and claim it."""
        self.site.place()
        with self.site.services.database.read() as session:
            part = session.scalars(select(Part).where(Part.build_id == int(build["id"]))).one()
            self.part, self.attempt = part.id, part.attempt
        answer = self.verb("claim")
        assert answer.status_code == 200, answer.text
        return as_object(answer)

    def resolve(self, sha: str = SHA) -> None:
        found = {"sha": sha, "commit_date": "2026-01-01T00:00:00Z"}
        assert self.verb("resolved", found).status_code == 200

    def finish(self, outcome: str = "succeeded", **more: Any) -> TestResponse:
        return self.verb("finish", {"outcome": outcome, **more})

    def succeed(self, build: Mapping[str, Any], digest: str = DIGEST) -> None:
        """A build's whole way."""
        self.claim(build)
        self.resolve()
        self.verb("publish", {"digest": digest, "size": 1234})
        assert self.finish().status_code == 204


def make_tokens(services: Services) -> dict[str, str]:
    with services.database.write() as session:
        now = db.now(session)
        return {
            scope: access.create_token(session, name=scope, scopes=[scope], now=now)
            for scope in SCOPES
        }


def as_object(answer: TestResponse) -> dict[str, Any]:
    """The JSON object of an answer."""
    found = json.loads(answer.text)
    assert isinstance(found, dict)
    return found


def problem(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The problem+json of a refused request, whose every part is checked."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    body = as_object(answer)
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:farm:error:{code}"
    assert body["instance"] == answer.request.path
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert body["title"]
    assert body["detail"]
    return body
