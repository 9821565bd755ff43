"""The farm's settings: one table, read once from the environment, checked at start.

The only reader of `os.environ`. Every secret may also be given as `NAME_FILE`, a
path whose content is the value. An unknown `FARM_…` name is an error with a
suggestion, so that a typing mistake never runs a farm on a default.
"""

from __future__ import annotations

import difflib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farm.errors import SettingsError


def default_data_dir() -> Path:
    """Where a farm keeps its files when nobody says otherwise."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path("~/.local/share").expanduser()) / "farm"


def default_worker_name() -> str:
    """The host's name, in the characters that a worker's name may have."""
    name = "".join(c if c.isalnum() else "-" for c in platform.node().split(".")[0].lower())
    return name.strip("-")[:40] or "worker"


class Settings(BaseModel):
    """Every setting, its default and its meaning; `farm config check` prints them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    database_url: str = ""
    """Where the truth is: sqlite:///path or postgresql://…; empty: farm.db in the data dir."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """The broker and the live wake-ups, as the control plane reaches it."""
    worker_redis_url: str = ""
    """The same Redis as workers reach it; empty: as redis_url."""
    url: str = "http://127.0.0.1:8080"
    """The address at which people and forges reach the farm."""
    listen: str = "127.0.0.1:8080"
    """Where `farm web` listens, host:port."""
    secret_key: str = ""
    """Seals stored secrets and signs sessions; at least 32 characters, kept out of the database."""
    data_dir: Path = Field(default_factory=default_data_dir)
    """Logs and, by default, the SQLite database."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    web_threads: Annotated[int, Field(ge=4, le=512)] = 64
    """Threads of one web process; each live reader holds one."""
    heartbeat_s: Annotated[float, Field(gt=0, le=300)] = 10.0
    """How often a worker says that it is alive, in seconds."""
    lease_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long a worker's silence is believed, in seconds."""
    claim_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long a placed build may stay unclaimed before it is placed anew, in seconds."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Attempts for the farm's own faults."""
    longest_wait_s: Annotated[float, Field(gt=0)] = 86_400.0
    """How long a build may be queued before it ends `errored`, in seconds."""
    project_cap: Annotated[int, Field(ge=0)] = 0
    """Builds of one project that may run at once; 0: no limit."""
    log_limit: Annotated[int, Field(ge=64 * 1024)] = 128 * 1024 * 1024
    """The most that is kept of one attempt's log, in bytes."""
    disk_watermark: Annotated[int, Field(ge=0)] = 1024**3
    """A worker with less free disk gets no builds, in bytes."""
    insecure_ok: bool = False
    """Allow http and loopback addresses, and settings that are unsafe in production."""
    metrics_token: str = ""
    """The bearer token for /metrics; empty: an API token with scope read."""

    server: str = ""
    """Worker: the address of the farm; empty: as url."""
    worker_token: str = ""
    """Worker: its enrolment token; labels and zone come from it."""
    worker_name: str = Field(default_factory=default_worker_name)
    """Worker: the name it asks for."""
    worker_slots: Annotated[int, Field(ge=1, le=256)] = Field(
        default_factory=lambda: max(1, min(256, os.cpu_count() or 1))
    )
    """Worker: how many builds at once."""
    worker_dir: Path | None = None
    """Worker: mirrors and its identity; empty: `worker` in the data dir."""
    worker_tmp: Path | None = None
    """Worker: sources of running builds, best on tmpfs; empty: /dev/shm, else worker_dir."""
    drain_s: Annotated[float, Field(ge=0)] = 30.0
    """Worker: how long a stop waits for running builds before it hands them back, in seconds."""

    @property
    def database(self) -> str:
        """The database's URL with its default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'farm.db'}"

    @property
    def broker_for_workers(self) -> str:
        """The Redis address that workers are told at check-in."""
        return self.worker_redis_url or self.redis_url


SECRET_SETTINGS = frozenset(
    {
        "database_url",
        "redis_url",
        "worker_redis_url",
        "secret_key",
        "worker_token",
        "metrics_token",
    }
)
PREFIX = "FARM_"
CLIENT_NAMES = frozenset({"FARM_TOKEN", "FARM_CONTEXT"})
"""Read by the command line alone, as options of `farm` (farm/cli/main.py)."""
_TEST_PREFIX = "FARM_TEST_"


@dataclass(frozen=True)
class Loaded:
    """Settings, and for each where its value came from: a variable's name or `default`."""

    settings: Settings
    sources: Mapping[str, str]


def variable_of(setting: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + setting.upper()


def load(environ: Mapping[str, str] | None = None) -> Loaded:
    """Read the settings; raises SettingsError that names every wrong variable."""
    environ = os.environ if environ is None else environ
    values: dict[str, str] = {}
    sources = dict.fromkeys(Settings.model_fields, "default")
    problems: list[str] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.startswith(_TEST_PREFIX) or name in CLIENT_NAMES:
            continue
        setting = name.removeprefix(PREFIX).lower()
        if setting in Settings.model_fields:
            values[setting], sources[setting] = environ[name], name
        elif setting.removesuffix("_file") in SECRET_SETTINGS and setting.endswith("_file"):
            setting = setting.removesuffix("_file")
            if variable_of(setting) in environ:
                problems.append(f"{name}: {variable_of(setting)} is set as well; keep one of them")
                continue
            try:
                values[setting] = Path(environ[name]).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                problems.append(f"{name}: cannot read that file ({type(exc).__name__})")
            sources[setting] = name
        else:
            problems.append(f"{name}: no such setting{_suggestion(setting)}")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as exc:
        problems += [
            f"{sources.get(str(e['loc'][0]), variable_of(str(e['loc'][0])))}: {e['msg']}"
            for e in exc.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("\n".join(problems)) from None
    problems += _inconsistencies(settings)
    if problems:
        raise SettingsError("\n".join(problems))
    return Loaded(settings, sources)


def process_environment() -> dict[str, str]:
    """A copy of the environment, for handing a scrubbed part of it to a child."""
    return dict(os.environ)


def unsafe_for_production(settings: Settings) -> list[str]:
    """What a control plane must not run with unless FARM_INSECURE_OK=1."""
    found = []
    if len(settings.secret_key) < 32:
        found.append("FARM_SECRET_KEY: must be at least 32 characters")
    for name in ("redis_url", "worker_redis_url"):
        url = getattr(settings, name)
        if not url:
            continue
        parts = urlsplit(url)
        if parts.scheme == "redis" and not _is_loopback(parts.hostname) and not parts.password:
            found.append(f"{variable_of(name)}: a Redis off this host needs a password")
    public = urlsplit(settings.url)
    if public.scheme != "https" and not _is_loopback(public.hostname):
        found.append("FARM_URL: must begin with https:// (session cookies and tokens travel there)")
    return found


def check_safe(settings: Settings) -> None:
    """Refuse to start a control plane on unsafe settings unless they are wanted."""
    problems = unsafe_for_production(settings)
    if len(settings.secret_key) < 32:
        raise SettingsError(
            "FARM_SECRET_KEY: must be at least 32 characters; make one with `openssl rand -hex 32`"
        )
    if problems and not settings.insecure_ok:
        raise SettingsError("\n".join([*problems, "FARM_INSECURE_OK=1 allows it, for a trial"]))


def _is_http(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False


def _is_loopback(host: str | None) -> bool:
    return host in (None, "", "localhost", "::1") or str(host).startswith("127.")


def _inconsistencies(settings: Settings) -> list[str]:
    found = []
    if settings.lease_s <= settings.heartbeat_s:
        found.append("FARM_LEASE_S: must be longer than FARM_HEARTBEAT_S")
    for name in ("url", "server"):
        value = getattr(settings, name)
        if value and not _is_http(value):
            found.append(f"{variable_of(name)}: must begin with https:// or http://")
    if ":" not in settings.listen:
        found.append("FARM_LISTEN: must be host:port")
    return found


def _suggestion(setting: str) -> str:
    close = difflib.get_close_matches(setting, Settings.model_fields, n=1)
    return f"; did you mean {variable_of(close[0])}?" if close else ""
