"""A Docker Engine: one that is there, or one of our own."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.sample.processes import CHECKOUT, ServiceError, program


@dataclass(frozen=True)
class Engine:
    """An engine that answers at `host` (a DOCKER_HOST). `folder` is set for one of our own."""

    host: str
    folder: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        """The environment for a client of this engine."""
        return {**os.environ, "DOCKER_HOST": self.host}

    def docker(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Runs the docker client and returns what it printed."""
        done = subprocess.run(
            [program("docker"), *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=self.env,
            check=False,
        )
        if done.returncode != 0:
            message = f"docker {' '.join(arguments)}: {done.stderr.decode(errors='replace')}"
            raise ServiceError(message)
        return done.stdout.decode(errors="replace").strip()

    def has_image(self, name: str) -> bool:
        """Whether it has an image of that name."""
        return bool(self.docker("image", "ls", "--quiet", name))

    def stop(self) -> None:
        """Ends an engine of our own, with everything that it has; leaves another's alone."""
        if self.folder is not None:
            _run_script("stop", self.folder)


def usable_engine(host: str | None) -> Engine | None:
    """The engine at a DOCKER_HOST, or at the default place, if a client with buildx reaches it."""
    environment: Mapping[str, str] = {**os.environ, "DOCKER_HOST": host} if host else os.environ
    for question in (["version", "--format", "{{.Server.Version}}"], ["buildx", "version"]):
        try:
            subprocess.run(
                [program("docker"), *question],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=15,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
    return Engine(host or "unix:///var/run/docker.sock")


def start_engine(folder: Path, *, containerd_snapshotter: bool = False) -> Engine:
    """An engine of our own under `folder`; one that runs there already is taken as it is."""
    options = ["--containerd-snapshotter"] if containerd_snapshotter else []
    return Engine(_run_script("start", folder, *options), folder)


def _run_script(verb: str, folder: Path, *options: str) -> str:
    done = subprocess.run(
        [str(CHECKOUT / "scripts" / "engine"), verb, str(folder), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        message = f"scripts/engine {verb} {folder}:\n{done.stderr}"
        raise ServiceError(message)
    return done.stdout.strip()
