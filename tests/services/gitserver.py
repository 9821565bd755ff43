"""The demo's git server and repositories, for the tests."""

from scripts.sample.gitserver import Credentials, GitServer, Request
from scripts.sample.repositories import Files, Repository

__all__ = ["Credentials", "Files", "GitServer", "Repository", "Request"]
