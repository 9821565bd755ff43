"""The private folder of one attempt: logins, secrets, source, the build's metadata.

It lies on tmpfs where the host has one. The pool process that runs the attempt holds
a lock on it for as long as it lives, so a folder whose lock is free belongs to a
process that was killed, and the janitor removes it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from farm.protocol import RegistryCredential
from farm.references import DOCKER_HUB
from workers.process import Identity

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
"""Under which name the docker client looks for Docker Hub's login."""

LOCK = "lock"
CLAIMED = "claimed.json"
PROCESSES = "processes"
PROTECTIVE_GIT_CONFIG = (
    "[safe]\n\tbareRepository = explicit\n\tdirectory =\n[protocol]\n\tallow = never\n"
    "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n[credential]\n\thelper =\n"
)


@dataclass(frozen=True)
class Claimed:
    """Which attempt a folder belongs to, and the token that speaks for it."""

    part: int
    attempt: int
    claim: str


class AttemptDir:
    """Made by `create`; a context manager that leaves nothing behind."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self.docker_config = path / "docker"
        self.buildx_config = path / "buildx"
        self.secrets = path / "secrets"
        self.empty = path / "empty"
        """HOME, PATH and working directory of children: there is nothing in it."""
        self.git_config = path / "gitconfig"
        self.git_credential = path / "git-credential"
        self.source = path / "source"

    @classmethod
    def create(cls, root: Path, claimed: Claimed) -> Self:
        """A new folder of its own name under `root`, for the user of this process alone."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = root / f"{claimed.part}.{claimed.attempt}.{secrets.token_hex(4)}"
        # Locked before it gets its name: at no moment is there a folder without a holder.
        building = root / f".{path.name}"
        building.mkdir(mode=0o700)
        lock = os.open(building / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write_private(building / CLAIMED, json.dumps(asdict(claimed)).encode())
        building.rename(path)
        folder = cls(path, lock)
        for inner in (folder.docker_config, folder.buildx_config, folder.secrets, folder.empty):
            inner.mkdir(mode=0o700)
        folder.git_config.write_text(PROTECTIVE_GIT_CONFIG, encoding="ascii")
        return folder

    def write_logins(self, logins: Iterable[RegistryCredential]) -> None:
        """The docker client's config file with these logins and nothing else."""
        auths = {
            DOCKER_HUB_KEY if login.host == DOCKER_HUB else login.host: {
                "auth": base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
            }
            for login in logins
        }
        _write_private(self.docker_config / "config.json", json.dumps({"auths": auths}).encode())

    def write_secrets(self, values: Mapping[str, str]) -> dict[str, Path]:
        """Each value in a file of its own; the names stay out of the paths."""
        paths: dict[str, Path] = {}
        for number, (name, value) in enumerate(sorted(values.items())):
            paths[name] = self.secrets / str(number)
            _write_private(paths[name], value.encode())
        return paths

    def write_git_credential(self, username: str, password: str) -> Path:
        """Two lines for the askpass helper."""
        _write_private(self.git_credential, f"{username}\n{password}\n".encode())
        return self.git_credential

    def new_metadata_file(self) -> Path:
        """A name that no build has used: buildx leaves an old file alone when it fails."""
        return self.path / f"metadata-{secrets.token_hex(4)}.json"

    def record(self, process: Identity | None) -> None:
        """Note a child for the janitor, should this process be killed."""
        if process is not None:
            with (self.path / PROCESSES).open("a", encoding="ascii") as file:
                file.write(f"{process.pid} {process.started}\n")

    def forget_credentials(self) -> None:
        """Nothing secret is left on the disk from here. Safe to repeat."""
        shutil.rmtree(self.docker_config, ignore_errors=True)
        shutil.rmtree(self.secrets, ignore_errors=True)
        self.git_credential.unlink(missing_ok=True)

    def remove(self) -> None:
        """Everything goes. Safe to repeat."""
        self.forget_credentials()
        remove_tree(self.path)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def claimed_in(path: Path) -> Claimed | None:
    """Whose folder it is; None if it does not say (any more)."""
    try:
        return Claimed(**json.loads((path / CLAIMED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_abandoned(path: Path) -> bool:
    """Whether nobody holds the folder any more: its process has ended."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return not path.name.startswith(".")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def remove_tree(path: Path) -> None:
    """Remove a folder that may hold folders without permissions; gone already is fine."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)  # noqa: PTH101  os.walk gives strings
        shutil.rmtree(path, ignore_errors=True)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
