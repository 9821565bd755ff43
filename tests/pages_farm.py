"""The web application over a database of its own, for tests of the pages: no Redis, no workers."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import cast

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from farm import access, db, schema
from farm.model import Project, Worker
from farm.settings import Settings
from tests.seeding import Seeder
from web.app import create_app
from web.context import EXTENSION, Services

NO_REDIS = "redis://127.0.0.1:1/0"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


class PagesFarm:
    """An application, and what a test needs to put something into it and to look at it."""

    def __init__(self, folder: Path, *, url: str = "http://localhost") -> None:
        self.settings = Settings(
            data_dir=folder, secret_key="k" * 40, url=url, redis_url=NO_REDIS, heartbeat_s=60
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "farm.db").write_bytes(_empty_database())
        self.app: Flask = create_app(self.settings)
        self.services = cast("Services", self.app.extensions[EXTENSION])

    def close(self) -> None:
        """Stop its threads and close its connections."""
        self.services.live.close()
        self.services.wakeups.close()
        self.services.database.dispose()

    @contextmanager
    def seeding(self) -> Iterator[Seeder]:
        """A seeder in a transaction, with projects and workers there: made the first time."""
        with self.services.database.write() as session:
            seeder = Seeder(session, db.now(session), self.services.logs)
            seeder.projects = list(session.scalars(select(Project)))
            seeder.workers = list(session.scalars(select(Worker)))
            if not seeder.projects:
                seeder.fleet()
            yield seeder

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that writes."""
        with self.services.database.write() as session:
            yield session

    def token(self, *scopes: str) -> str:
        """A token with the scopes, or one that may do everything."""
        with self.session() as session:
            return access.create_token(
                session, name="ada", scopes=scopes or ["admin"], now=db.now(session)
            )

    def browser(self, *scopes: str) -> FlaskClient:
        """A client that has signed in."""
        client = self.app.test_client()
        sign_in(client, self.token(*scopes))
        return client

    @contextmanager
    def served(self) -> Iterator[str]:
        """The application on a free port of loopback; its address."""
        server = make_server("127.0.0.1", 0, self.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(timeout=5)
            server.server_close()


@cache
def _empty_database() -> bytes:
    """A database file with the newest schema: migrating once is enough for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "farm.db"
        schema.upgrade(f"sqlite:///{file}")
        return file.read_bytes()


@contextmanager
def pages_farm(folder: Path, *, url: str = "http://localhost") -> Iterator[PagesFarm]:
    """A farm for the duration of a test."""
    farm = PagesFarm(folder, url=url)
    try:
        yield farm
    finally:
        farm.close()


def sign_in(client: FlaskClient, token: str, *, target: str = "/builds") -> TestResponse:
    """Send the sign-in form as a browser does."""
    return client.post("/sign-in", data={"token": token, "next": target}, headers=SAME_ORIGIN)


def csrf_of(client: FlaskClient) -> str:
    """The token in the forms of the client's session."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/builds").text)
    assert found, "no form with a CSRF token"
    return found[1]
