"""What can be wrong with a farm on this machine, each finding with its cure.

The functions of the entry-point group `farm.doctor` give findings: here those about
the control plane, in `workers/doctor.py` those about a Docker host.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib import request

from farm.cli import context
from farm.errors import SettingsError
from farm.findings import Finding

if TYPE_CHECKING:
    from farm.settings import Settings

TIMEOUT_S = 3.0
_GIB = 1024**3


def control_plane() -> Iterator[Finding]:
    """The settings, and the database, Redis, server and data directory that they name."""
    from farm import settings as farm_settings

    try:
        loaded = farm_settings.load()
        settings = loaded.settings
    except SettingsError as exc:
        detail = "; ".join(str(exc).splitlines())
        yield Finding("settings", ok=False, detail=detail, cure="Mend the variables named here.")
        return
    yield Finding("settings", ok=True, detail="every FARM_ variable is understood")
    saved = context.load()
    if saved.current and all(source == "default" for source in loaded.sources.values()):
        yield Finding(
            "control plane",
            ok=True,
            detail="none is configured in this shell: only the server was looked at",
        )
        yield server(saved.contexts[saved.current].server)
        return
    yield database(settings)
    yield redis(settings)
    yield server(settings.server or settings.url)
    yield from data_dir(settings)


def database(settings: Settings) -> Finding:
    """Whether the database answers and has the schema of this version."""
    from sqlalchemy.exc import SQLAlchemyError

    from farm import schema

    try:
        found, newest = schema.current(settings.database), schema.NEWEST
    except (SQLAlchemyError, SettingsError, OSError) as exc:
        return Finding(
            "database",
            ok=False,
            detail=f"does not answer ({type(exc).__name__})",
            cure="Start it, or correct FARM_DATABASE_URL.",
        )
    if found != newest:
        detail = f"is at {found}, this version needs {newest}" if found else "is empty"
        return Finding("database", ok=False, detail=detail, cure="Run `farm db upgrade`.")
    return Finding("database", ok=True, detail=f"answers, at {found}")


def redis(settings: Settings) -> Finding:
    """Whether Redis answers; farms run without it for a while, but not well."""
    from redis import Redis, RedisError

    try:
        with Redis.from_url(
            settings.redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
        ) as client:
            version = client.info("server")["redis_version"]
    except (RedisError, OSError, ValueError, KeyError) as exc:
        return Finding(
            "redis",
            ok=False,
            detail=f"does not answer ({type(exc).__name__})",
            cure="Start it, or correct FARM_REDIS_URL; `farm up` starts one by itself.",
        )
    return Finding("redis", ok=True, detail=f"answers, version {version}")


def server(url: str) -> Finding:
    """Whether the farm's web process is ready, asked as people ask it."""
    url = url.rstrip("/")
    opener = request.OpenerDirector()  # answers every status alike, follows no redirect
    for handler in (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler):
        opener.add_handler(handler())
    try:
        with opener.open(f"{url}/readyz", timeout=TIMEOUT_S) as response:
            status, body = response.status, response.read(65536)
    except (OSError, HTTPException) as exc:
        return Finding(
            "server",
            ok=False,
            detail=f"{url} does not answer ({type(exc).__name__})",
            cure="Start it with `farm up` or `farm web`, or correct FARM_URL.",
        )
    if status != 200:
        return Finding(
            "server",
            ok=False,
            detail=f"{url} is not ready: {_not_ready(status, body)}",
            cure="Mend what is named here; the server's log says more.",
        )
    return Finding("server", ok=True, detail=f"{url} is ready")


def data_dir(settings: Settings) -> Iterator[Finding]:
    """Whether logs can be written, and for how long there is room."""
    path = settings.data_dir
    cure = "Make it writable for this user, or set FARM_DATA_DIR; `farm up` makes a missing one."
    try:
        with tempfile.TemporaryFile(dir=path):
            free = shutil.disk_usage(path).free
    except OSError as exc:
        yield Finding("data directory", ok=False, detail=f"{path}: {exc.strerror}", cure=cure)
        return
    yield Finding("data directory", ok=True, detail=f"{path} is writable")
    yield Finding(
        "disk",
        ok=free >= settings.disk_watermark,
        detail=f"{free / _GIB:.1f} GiB free at {path}",
        cure="Free some space, or set FARM_DATA_DIR to a larger disk.",
    )


def _not_ready(status: int, body: bytes) -> str:
    """The checks of /readyz that fail, by name."""
    try:
        checks = json.loads(body)["checks"]
        failing = [
            f"{name} ({state})" for name, state in checks.items() if state not in (True, "ok")
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        failing = []
    return ", ".join(failing) or f"it answered {status}"
