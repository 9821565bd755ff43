"""Children of an attempt: argument lists, a group of their own, ended as a whole.

Every child is started by the pool process's main thread through `setpriv
--pdeathsig KILL`: the kernel ends it when the thread that started it ends, also if
the worker was killed with no time to clean up. A client that survived its worker
would build on (docs/security.md).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Self

from farm.errors import AttemptError
from farm.reasons import Reason

TERM_GRACE_S = 5.0
"""How long a group may take to end by itself before it is killed."""
KEPT_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@cache
def tool(name: str) -> str:
    """Where a program is; AttemptError (worker_fault) if this host lacks it."""
    found = shutil.which(name, path=STANDARD_PATH) or shutil.which(name)
    if found is None:
        raise AttemptError(Reason.WORKER_FAULT, f"{name} is not installed on this worker")
    return found


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int
    """In clock ticks since boot, as /proc says it."""


def identity_of(pid: int) -> Identity | None:
    """Who has this number now; None if nobody."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in the second field may hold anything; the 20th field after it is the start.
    return Identity(pid, int(stat.rpartition(")")[2].split()[19]))


class Child:
    """A running process group."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
    ) -> None:
        self.process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  a list, no shell
            [tool("setpriv"), "--pdeathsig", "KILL", *arguments],
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        self._killer: threading.Timer | None = None
        self._lock = threading.Lock()

    @property
    def identity(self) -> Identity | None:
        """For the janitor's record; None once it has ended."""
        return identity_of(self.process.pid)

    def end(self) -> None:
        """Ask the whole group to end, and kill it after a grace; returns at once.

        May be called by any thread, and more than once.
        """
        with self._lock:
            if self._killer is None and self.process.poll() is None:
                self._signal(signal.SIGTERM)
                self._killer = threading.Timer(TERM_GRACE_S, self._signal, [signal.SIGKILL])
                self._killer.daemon = True
                self._killer.start()

    def _signal(self, number: signal.Signals) -> None:
        # The group outlives its leader while any process of it is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Its exit code; nothing of the group is left afterwards."""
        code = self.process.wait()
        with self._lock:
            if self._killer is not None:
                self._killer.cancel()
            self._signal(signal.SIGKILL)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self._signal(signal.SIGKILL)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.wait()


@dataclass(frozen=True)
class Ended:
    """How a short command ended, and what it said."""

    code: int
    out: str
    err: str


def run(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    on_start: Callable[[Child], contextlib.AbstractContextManager[object]],
    stdin: bytes = b"",
    cwd: Path | None = None,
) -> Ended:
    """Run a command to its end; of what it says, the last KEPT_BYTES or a little more.

    Its input must fit a pipe (64 KiB).     `on_start` makes whoever may stop the attempt responsible for the child while it runs.
    """
    with (
        Child(
            arguments,
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as child,
        on_start(child),
    ):
        if child.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                child.process.stdin.write(stdin)
                child.process.stdin.close()
        out, err = _tails(child.process.stdout, child.process.stderr)
        code = child.wait()
    return Ended(code, out.decode(errors="replace"), err.decode(errors="replace"))


def tail_of(stream: IO[bytes] | None) -> bytes:
    """Read a stream to its end; the last KEPT_BYTES of it at least."""
    kept = b""
    while stream is not None and (chunk := os.read(stream.fileno(), READ_BYTES)):
        kept = kept[-KEPT_BYTES:] + chunk
    return kept


def _tails(out: IO[bytes] | None, err: IO[bytes] | None) -> tuple[bytes, bytes]:
    """The ends of two streams, read side by side: a child may fill either one first."""
    with ThreadPoolExecutor(1, thread_name_prefix="stderr") as beside:
        said = beside.submit(tail_of, err)
        return tail_of(out), said.result()
