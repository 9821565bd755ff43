"""The registry of the demo, for the tests."""

from scripts.sample.registry import Login, Registry, htpasswd_line

__all__ = ["Login", "Registry", "htpasswd_line"]
