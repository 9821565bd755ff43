"""What the attempts of one pool process share, and where a worker keeps its files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from farm.errors import SettingsError
from farm.settings import Settings
from workers import control as control_module
from workers import registry as registry_module
from workers.buildx import Buildx
from workers.control import Control
from workers.engine import Engine
from workers.git import Git
from workers.lease import Cancels
from workers.spool import Spool

TMPFS = Path("/dev/shm")  # noqa: S108  a private folder is made in it


@dataclass(frozen=True)
class Layout:
    """The folders of one worker."""

    home: Path
    """Kept: identity, mirrors, undelivered results."""
    tmp: Path
    """Running attempts, on tmpfs where there is one."""

    @classmethod
    def of(cls, settings: Settings) -> Layout:
        """The folders that the settings name, or their defaults, made for this user alone."""
        home = settings.worker_dir or settings.data_dir / "worker"
        base = settings.worker_tmp
        if base is None:
            base = TMPFS if TMPFS.is_dir() else home
        # Two workers on one host, also of one name in two farms, never share a folder.
        layout = cls(home, base / f"farm-{settings.worker_name}-{owner_of(home)}")
        if set(str(layout.tmp)) & set(',"\n'):
            # buildx reads `--secret id=…,src=<path>` as a line of CSV.
            raise SettingsError("FARM_WORKER_TMP: must not hold commas, quotes or line breaks")
        for folder in (layout.home, layout.tmp):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return layout

    @property
    def identity_file(self) -> Path:
        """The worker's name and token."""
        return self.home / "identity.json"

    @property
    def lock_file(self) -> Path:
        """Held by the one worker that uses these folders."""
        return self.home / "worker.lock"

    @property
    def spool(self) -> Path:
        """Undelivered results, and logs."""
        return self.home / "spool"


def owner_of(home: Path) -> str:
    """The end of the name of every folder that the worker at `home` makes elsewhere."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Toolbox:
    """One per pool process; every tool is safe to use for one attempt after another."""

    control: Control
    git: Git
    buildx: Buildx
    engine: Engine
    registry_client: httpx.Client
    spool: Spool
    cancels: Cancels
    tmp: Path
    insecure_ok: bool
    slot: int
    shutdown: int
    """Becomes readable when the worker stops and running builds are to be handed back."""


def make_toolbox(
    settings: Settings,
    layout: Layout,
    environment: Mapping[str, str],
    *,
    broker_url: str,
    slot: int,
    shutdown: int,
) -> Toolbox:
    """The toolbox of this process, with connections of its own."""
    control = Control(control_module.make_client(), layout.identity_file)
    engine = Engine(environment)
    return Toolbox(
        control=control,
        git=Git(layout.home, insecure_ok=settings.insecure_ok, own_environment=environment),
        buildx=Buildx(environment, disk_is_full=engine.disk_is_full),
        engine=engine,
        registry_client=registry_module.make_client(),
        spool=Spool(layout.spool),
        cancels=Cancels(broker_url, control.worker),
        tmp=layout.tmp,
        insecure_ok=settings.insecure_ok,
        slot=slot,
        shutdown=shutdown,
    )
