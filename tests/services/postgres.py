"""A PostgreSQL cluster of our own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from scripts.sample.processes import Process, ServiceError, free_port

# Nothing here outlives the test: no write has to reach a disk.
_QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresCluster:
    """One server with any number of databases; it runs as `postgres` when we are root."""

    def __init__(self) -> None:
        # Not under pytest's folder: that one is closed to the other user.
        self.folder = Path(tempfile.mkdtemp(prefix="farm-postgres-", dir="/tmp"))
        self.port = free_port()
        self._user = _unprivileged_user()
        self._numbers = count(1)
        self._process: Process | None = None
        if self._user is not None:
            shutil.chown(self.folder, self._user)

    def start(self) -> None:
        """Makes the cluster if there is none yet, and starts it."""
        data = self.folder / "data"
        if not data.exists():
            options = ["--no-sync", "--auth=trust", "--username=farm", "--encoding=UTF8"]
            subprocess.run(
                [_binary("initdb"), *options, "--locale=C", "--pgdata", str(data)],
                check=True,
                capture_output=True,
                user=self._user,
                cwd=self.folder,
            )
        settings = _QUICK | {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
        }
        flags = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self._process = Process(
            [_binary("postgres"), "-D", str(data), *flags],
            log=self.folder.with_suffix(".log"),
            user=self._user,
            cwd=self.folder,
        )
        self._process.wait_ready(self.answers)

    def halt(self) -> None:
        """Ends it at once, connections or not; `start` brings it back with what it had."""
        if self._process is not None:
            # "fast": open connections are cut instead of waited for.
            self._process.stop(with_signal=signal.SIGINT)
            self._process = None

    def stop(self) -> None:
        """Ends it at once and removes all it had."""
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".log").unlink(missing_ok=True)

    def answers(self) -> bool:
        """Whether it lets us in."""
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self) -> str:
        """A new, empty database; returns its SQLAlchemy URL."""
        name = f"farm_{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"postgresql+psycopg://farm@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Also when somebody is still connected to it."""
        name = url.rpartition("/")[2]
        with self._connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="farm",
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )


def _binary(name: str) -> str:
    """The newest of the installed versions: Debian keeps them out of PATH."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4])
    )
    if found:
        return str(found[-1])
    elsewhere = shutil.which(name)
    if elsewhere is None:
        message = f"PostgreSQL's {name} is not installed: run scripts/setup --test"
        raise ServiceError(message)
    return elsewhere


def _unprivileged_user() -> str | None:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)
