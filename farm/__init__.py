"""The core of the build farm: what a build is and every rule about it.

Nothing in this package knows Flask, Docker or a subprocess; `web` and `workers`
import it and never each other.
"""

from importlib.metadata import version

__version__ = version("docker-build-farm")
