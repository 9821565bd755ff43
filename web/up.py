"""`farm up`: a whole farm on one machine, for the person who has just cloned it.

SQLite, a Redis of its own, the local Docker Engine. The keys are drawn once and kept
in the data directory, never in the database. Each process is started again when it
dies; none of them outlives this one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import click
import httpx
from redis.exceptions import RedisError

from farm import access, db, schema
from farm.cli.context import save_context
from farm.errors import SettingsError
from farm.settings import Loaded, Settings, process_environment, variable_of
from farm.wakeups import connect
from web.parent import end_with_parent

CONTEXT = "local"
_RESTART_S = (0.2, 1.0, 3.0, 10.0)
_HEALTHY_S = 30.0
_STOP_S = 45.0
_REDIS_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
dir {directory}
daemonize no
loglevel warning
maxmemory-policy noeviction
"""


@dataclass
class _Process:
    """One process of the farm, and how often it has just died."""

    name: str
    argv: list[str]
    environment: Mapping[str, str]
    stdin: bytes | None = None
    child: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    started: float = 0.0
    again_at: float = field(default=0.0)

    def start(self) -> None:
        self.child = subprocess.Popen(  # noqa: S603  # our own program and arguments
            self.argv,
            env=dict(self.environment),
            stdin=subprocess.PIPE if self.stdin else subprocess.DEVNULL,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # one thread, before any other
        )
        if self.stdin and self.child.stdin:
            self.child.stdin.write(self.stdin)
            self.child.stdin.close()
        self.started = time.monotonic()

    def look_after(self) -> None:
        """Start it again when it has died, the sooner the longer it lived."""
        if self.child is not None and self.child.poll() is not None:
            lived = time.monotonic() - self.started
            self.deaths = 0 if lived > _HEALTHY_S else self.deaths + 1
            wait = _RESTART_S[min(self.deaths, len(_RESTART_S) - 1)]
            click.echo(
                f"{self.name} ended ({self.child.returncode}); again in {wait} s",
                err=True,
            )
            self.child, self.again_at = None, time.monotonic() + wait
        if self.child is None and time.monotonic() >= self.again_at:
            self.start()

    def stop(self) -> None:
        if self.child is None or self.child.poll() is not None:
            return
        self.child.terminate()
        try:
            self.child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def run(loaded: Loaded, *, slots: int | None, with_worker: bool) -> int:
    """Run until a signal comes; returns the exit code."""
    settings = loaded.settings
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(settings.data_dir / "up.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise click.ClickException(f"A farm runs on {settings.data_dir} already.") from None
        environment = _environment(loaded, slots=slots)
        processes = _processes(loaded, environment, with_worker=with_worker)
        _prepare(settings, environment, with_worker=with_worker)
        return _supervise(processes, environment[variable_of("url")])


def _environment(loaded: Loaded, *, slots: int | None) -> dict[str, str]:
    """What every process of this farm is told: the settings that were left open, filled in."""
    settings, found = loaded.settings, process_environment()
    data = settings.data_dir.resolve()
    given = {name for name, source in loaded.sources.items() if source != "default"}
    found[variable_of("data_dir")] = str(data)
    if "secret_key" not in given:
        found["FARM_SECRET_KEY_FILE"] = str(_kept(data / "secret_key", secrets.token_hex(32)))
    if "listen" not in given:
        found[variable_of("listen")] = f"127.0.0.1:{_free_port(8080)}"
    listen = found[variable_of("listen")]
    if "url" not in given:
        found[variable_of("url")] = f"http://{_reachable(listen)}"
    if "server" not in given:
        found[variable_of("server")] = f"http://{_reachable(listen)}"
    if "redis_url" not in given:
        password = _kept(data / "redis_password", secrets.token_hex(16)).read_text("ascii").strip()
        found[variable_of("redis_url")] = f"redis://:{password}@127.0.0.1:{_free_port(6380)}/0"
    if "worker_token" not in given:
        found["FARM_WORKER_TOKEN_FILE"] = str(data / "worker_token")
    if slots is not None:
        found[variable_of("worker_slots")] = str(slots)
    return found


def _processes(
    loaded: Loaded, environment: Mapping[str, str], *, with_worker: bool
) -> list[_Process]:
    farm = [sys.executable, "-m", "farm.cli.main"]
    control = dict(environment)
    control.pop("FARM_WORKER_TOKEN_FILE", None)
    found = [
        _Process("web", [*farm, "web"], control),
        _Process("scheduler", [*farm, "scheduler"], control),
    ]
    if with_worker:
        worker = {
            name: value
            for name, value in environment.items()
            if not name.startswith(("FARM_SECRET_KEY", "FARM_DATABASE_URL", "FARM_REDIS_URL"))
        }
        found.append(_Process("worker", [*farm, "worker"], worker))
    if loaded.sources["redis_url"] == "default":
        found.insert(0, _redis(loaded.settings, environment[variable_of("redis_url")]))
    return found


def _redis(settings: Settings, url: str) -> _Process:
    program = shutil.which("redis-server")
    if program is None:
        raise click.ClickException(
            "redis-server is not installed: install it (Debian, Ubuntu: redis-server),"
            " or name a Redis in FARM_REDIS_URL."
        )
    password, _, address = url.removeprefix("redis://:").partition("@")
    directory = settings.data_dir.resolve() / "redis"
    directory.mkdir(mode=0o700, exist_ok=True)
    config = _REDIS_CONFIG.format(
        port=address.partition(":")[2].partition("/")[0],
        password=password,
        directory=directory,
    )
    return _Process("redis", [program, "-"], {"PATH": os.defpath}, stdin=config.encode())


def _prepare(settings: Settings, environment: Mapping[str, str], *, with_worker: bool) -> None:
    """Make the schema and the tokens that the farm cannot do without."""
    schema.ensure(settings.database)
    database = db.Database(settings.database)
    try:
        with database.write() as session:
            now = db.now(session)
            if not access.has_admin(session, now=now):
                token = access.create_token(session, name="first admin", scopes=["admin"], now=now)
                _remember(environment[variable_of("url")], token)
                click.echo(f"The first admin token, shown once: {token}")
            else:
                _update_context(environment[variable_of("url")])
            path = settings.data_dir / "worker_token"
            if with_worker and "FARM_WORKER_TOKEN_FILE" in environment and not path.exists():
                token = access.create_token(session, name="farm up", scopes=["worker"], now=now)
                _kept(path, token)
    finally:
        database.dispose()


def _remember(url: str, token: str) -> None:
    """Let the command line find this farm; another one that runs keeps its place there."""
    from farm.cli.context import load

    other = load().contexts.get(CONTEXT)
    if other is None or other.server == url or not _answers(other.server):
        save_context(CONTEXT, url, token)
        return
    name = f"{CONTEXT}-{url.rpartition(':')[2]}"
    save_context(name, url, token, make_current=False)
    click.echo(f"Another farm runs at {other.server}: reach this one with --context {name}")


def _update_context(url: str) -> None:
    """The farm may have got another port than last time."""
    from farm.cli.context import load

    known = load().contexts.get(CONTEXT)
    if known is not None and known.server != url and not _answers(known.server):
        save_context(CONTEXT, url, known.token)


def _answers(server: str) -> bool:
    """Whether a farm is there."""
    try:
        return httpx.get(f"{server}/healthz", timeout=2).is_success
    except httpx.HTTPError:
        return False


def _supervise(processes: list[_Process], url: str) -> int:
    stop = threading.Event()

    def on_signal(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    for process in processes:
        process.start()
        if process.name == "redis":
            _wait_for(lambda: _redis_answers(processes), 10)
    click.echo(f"The farm is at {url} (Ctrl-C stops it)")
    while not stop.wait(0.2):
        for process in processes:
            process.look_after()
    for process in reversed(processes):  # the worker first: it hands its builds back
        process.stop()
    return 0


def _redis_answers(processes: list[_Process]) -> bool:
    url = next(p.environment[variable_of("redis_url")] for p in processes if p.name == "web")
    client = connect(url)
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def _kept(path: Path, value: str) -> Path:
    """A file that only the owner reads, written once."""
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(value)
    return path


def _reachable(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"{'127.0.0.1' if host in ('0.0.0.0', '[::]', '') else host}:{port}"  # noqa: S104


def _free_port(wanted: int) -> int:
    """The wanted port on loopback, or any other when it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SettingsError("FARM_LISTEN: no port is free on this machine")
