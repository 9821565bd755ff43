"""The core of the build farm: what a build is and every rule about it.

Nothing in this package knows Flask, Docker or a subprocess; `web` and `workers`
import it and never each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__: str

if not TYPE_CHECKING:  # a checker would take any name for granted

    def __getattr__(name: str) -> str:
        """Look the version up when somebody asks: importlib.metadata costs 40 ms at start."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("docker-build-farm")
