"""The composition root of a web process: everything is made here and handed on."""

from __future__ import annotations

import secrets
import threading
from datetime import timedelta

import structlog
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from farm import db, sweep
from farm.db import Database
from farm.errors import Unavailable
from farm.logs import LogStore
from farm.sealing import Sealer
from farm.settings import Settings
from farm.wakeups import Wakeups
from web import admin_api, api, dist, errors, headers, operations, pages, render, worker_api
from web.context import EXTENSION, Services
from web.live import LiveHub
from web.reading import MAX_BODY

_UP_EVERY_S = 1.0
_THREADS_KEPT = 16
"""Threads that live readers never take, so that everybody else is served."""

log = structlog.get_logger()


def create_app(settings: Settings) -> Flask:
    """The application, with its own database pool, listeners and threads."""
    app = Flask("web")
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask types the interface only
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1  # one more, to see that it is too much
    app.extensions[EXTENSION] = make_services(settings)
    headers.install(app)
    errors.install(app)
    render.install(app)
    for module in (api, admin_api, worker_api, dist, operations, pages):
        app.register_blueprint(module.blueprint)
    return app


def make_services(settings: Settings) -> Services:
    """What the views of one process share."""
    capacity = max(1, settings.web_threads - _THREADS_KEPT)
    return Services(
        settings=settings,
        database=Database(settings.database),
        logs=LogStore(settings.data_dir / "logs"),
        sealer=Sealer(settings.secret_key),
        wakeups=Wakeups(settings.redis_url),
        live=LiveHub(settings.redis_url, capacity=capacity),
    )


class Presence:
    """Says once a second that this web process is up: leases are counted against it."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._lease = timedelta(seconds=lease_s)
        self._holder = secrets.token_hex(8)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop saying so."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._database.write() as session:
                    now = db.now(session)
                    sweep.record_web_up(session, self._holder, now=now, lease=self._lease)
            except (Unavailable, SQLAlchemyError) as exc:  # whatever it is, say so again soon
                log.warning("presence_not_recorded", error=type(exc).__name__)
            self._stop.wait(_UP_EVERY_S)
