"""Programs started by us: waited for, and ended by their pid."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
_SBIN = os.pathsep.join(["/usr/local/sbin", "/usr/sbin", "/sbin"])


class ServiceError(Exception):
    """A service did not do what it is here for; the message says which and what to do."""


def program(name: str) -> str:
    """The path of a program that `scripts/setup` installs."""
    found = shutil.which(name) or shutil.which(name, path=_SBIN)
    if found is None:
        message = f"{name} is not installed: run scripts/setup --test"
        raise ServiceError(message)
    return found


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_until(is_so: Callable[[], bool], *, what: str, seconds: float = 30) -> None:
    """Asks again and again, and gives up loudly."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            message = f"{what}: not within {seconds:g} s"
            raise ServiceError(message)
        time.sleep(0.02)


def pid_is_alive(pid: int) -> bool:
    """False also for a zombie, which only waits to be read by its parent."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def boot_id() -> str:
    """Another one after every start of the machine: process numbers mean nothing across it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_start(pid: int) -> str:
    """When a process began, in the kernel's ticks: a number used again has another one."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def session_pids(leader: int) -> list[int]:
    """Whoever still lives in the session that a process began, also after its own end."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] not in {"Z", "X"}:
                found.append(int(entry.parent.name))
    return sorted(found)


def end_pid(pid: int, *, patience: float = 10) -> None:
    """Asks a process to end, then makes it: for processes that an earlier command started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not pid_is_alive(pid):
                return
            time.sleep(0.02)


class Process:
    """One program with its output in a file."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.name = Path(arguments[0]).name
        self.log = log
        with log.open("ab") as output:
            # A session of its own: Ctrl-C is for us, and we end our children in order.
            self._popen = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._popen.poll()

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    def wait_ready(self, is_ready: Callable[[], bool], *, seconds: float = 30) -> None:
        """Returns when it is ready; an early end is told with the end of its log."""

        def ready_or_dead() -> bool:
            return not self.is_running() or is_ready()

        try:
            wait_until(ready_or_dead, what=f"{self.name} ready (log: {self.log})", seconds=seconds)
        except ServiceError:
            self.kill()
            raise
        if not self.is_running():
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            message = f"{self.name} ended with {self._popen.returncode}:\n{tail}"
            raise ServiceError(message)

    def stop(self, *, patience: float = 10, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """Asks it to end; after `patience` seconds it is killed."""
        if self.is_running():
            self._popen.send_signal(with_signal)
            try:
                self._popen.wait(patience)
            except subprocess.TimeoutExpired:
                self._popen.kill()
        self._popen.wait()

    def kill(self) -> None:
        """Kill -9: no chance to say goodbye."""
        self._popen.kill()
        self._popen.wait()
