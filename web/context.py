"""What the views of one web process share; made by the composition root, never global."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from farm.db import Database
from farm.logs import LogStore
from farm.sealing import Sealer
from farm.settings import Settings
from farm.wakeups import Wakeups
from web.live import LiveHub

EXTENSION = "farm"


@dataclass(frozen=True)
class Services:
    """One per application."""

    settings: Settings
    database: Database
    logs: LogStore
    sealer: Sealer
    wakeups: Wakeups
    """Tells others, after the commit, that something changed; never blocks, never fails."""
    live: LiveHub
    """Wakes the live readers of this process."""

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.live.close()
        self.wakeups.close()
        self.database.dispose()


def services() -> Services:
    """The services of the application that handles this request."""
    return cast(Services, current_app.extensions[EXTENSION])
