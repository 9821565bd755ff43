"""Serving the application with gunicorn: one process, many threads.

Threads, not greenlets: a live reader is one thread, and nothing has to be patched.
One process suits SQLite, whose writes are one after the other anyway.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

from farm.settings import Settings
from web.parent import end_with_parent

if TYPE_CHECKING:
    from flask import Flask


class Server(BaseApplication):
    """gunicorn with the farm's settings; the application is made in its worker process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Hand gunicorn what it needs to know."""
        options: dict[str, Any] = {
            "bind": self._settings.listen,
            "workers": 1,
            "worker_class": "gthread",
            "threads": self._settings.web_threads,
            "graceful_timeout": 5,
            "timeout": 60,
            "keepalive": 75,
            "max_requests": 0,
            "accesslog": None,
            "errorlog": "-",
            "loglevel": "warning",
            "proc_name": "farm-web",
            "control_socket_disable": True,
        }
        for name, value in options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:  # type: ignore[override]  # Flask is a WSGI callable
        """Make the application, in the process that serves it.

        Imported here and not above: gunicorn's own process only watches, and need not
        hold a copy of everything.
        """
        # Killed alone, gunicorn's own process would leave this one on the port.
        end_with_parent(signal.SIGKILL)
        from farm import schema
        from web.app import Presence, create_app
        from web.context import EXTENSION

        schema.ensure(self._settings.database)
        app = create_app(self._settings)
        services = app.extensions[EXTENSION]
        Presence(services.database, lease_s=services.settings.lease_s)
        return app
