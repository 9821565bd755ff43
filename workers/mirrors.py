"""The bare mirrors of one worker: one per repository, locked, kept small, and forgotten in time.

git's own housekeeping is off, because it would run beside a fetch: a mirror is tidied
under its lock. An export needs no lock: its commit hangs on a ref.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from farm.errors import AttemptError
from farm.reasons import Reason
from farm.references import normal_repository
from workers import giterrors
from workers.attemptdir import remove_tree
from workers.gitcall import GitCall
from workers.process import Child
from workers.stop import Stop

log = structlog.get_logger()

LOCK_POLL_S = 0.05
FETCH_LIMIT = 4 * 1024**3
"""The most bytes that one fetch may bring."""
FREE_FLOOR = 512 * 1024**2
"""A fetch ends when less is left on the disk."""
LOOK_EVERY_S = 0.2
KEPT_FOR_S = 30 * 86400.0
"""How long a mirror may lie unused."""
REPACK_AFTER_S = 86400.0
MOST_PACKS = 20
MOST_LOOSE = 2000
FORGOTTEN_AFTER_S = 86400.0
"""A temporary ref of that age belongs to an attempt that was killed."""

ATTRIBUTES = "* -export-ignore -export-subst -filter\n"
"""What a repository's own .gitattributes could leave out of, or write into, an archive: a
checkout has neither, and an image must hold what a checkout does."""


class Mirrors:
    """Safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, repository: str) -> Path:
        """Where a repository's mirror is, or will be."""
        name = hashlib.sha256(normal_repository(repository).encode()).hexdigest()[:32]
        return self.folder / name

    @contextlib.contextmanager
    def locked(self, mirror: Path, stop: Stop) -> Iterator[None]:
        """One fetch of a mirror at a time: a second one would download the same again."""
        with _lock_file(mirror) as descriptor:
            while not _lock(descriptor):
                stop.wait(LOCK_POLL_S)
            os.utime(descriptor)  # it is used, says `tidy`
            yield

    def make(self, call: GitCall, mirror: Path) -> None:
        """Make an empty mirror, under its lock."""
        fresh = mirror.with_suffix(".new")
        remove_tree(fresh)
        ended = call.git(fresh, "init", "--quiet", "--bare", "--template=")
        if ended.code != 0:
            raise giterrors.explain(ended.err)
        (fresh / "info").mkdir(exist_ok=True)
        (fresh / "info" / "attributes").write_text(ATTRIBUTES, encoding="ascii")
        fresh.rename(mirror)

    def tidy(self, call: GitCall) -> None:
        """Remove mirrors that nobody uses, repack those in many pieces; one in use waits."""
        for mirror in sorted(path for path in self.folder.iterdir() if not path.suffix):
            if mirror.is_dir():
                with _lock_file(mirror) as descriptor:
                    if _lock(descriptor):
                        _tidy(call, mirror, used_at=os.fstat(descriptor).st_mtime)


class FetchGuard:
    """Ends a fetch that would fill the disk; made for one fetch into a mirror."""

    def __init__(self, mirror: Path) -> None:
        self._mirror = mirror
        self._disk_is_low = False

    @contextlib.contextmanager
    def watching(self, child: Child) -> Iterator[None]:
        """While inside: the kernel limits every file it writes, we watch what is left."""
        with contextlib.suppress(ProcessLookupError):
            limits = (FETCH_LIMIT, FETCH_LIMIT)
            resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, limits)
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=[child, done], daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, child: Child, done: threading.Event) -> None:
        while shutil.disk_usage(self._mirror).free >= FREE_FLOOR:
            if done.wait(LOOK_EVERY_S):
                return
        self._disk_is_low = True
        child.end()

    def refusal(self) -> AttemptError | None:
        """Why the guard let the fetch fail; None if it did not."""
        if self._disk_is_low:
            return AttemptError(Reason.NO_SPACE, "no space for the source on the worker")
        # git does not say it: what it was writing is as large as it may be.
        if any(path.stat().st_size >= FETCH_LIMIT for path in _partial(self._mirror)):
            size = FETCH_LIMIT // 1024**2
            return AttemptError(Reason.SOURCE_REFUSED, f"the fetch brings more than {size} MiB")
        return None


def drop_partial(mirror: Path) -> None:
    """Remove what an ended fetch left half written, under the mirror's lock."""
    for path in _partial(mirror):
        path.unlink(missing_ok=True)


def _partial(mirror: Path) -> list[Path]:
    return list(mirror.glob("objects/*/tmp_*"))


@contextlib.contextmanager
def _lock_file(mirror: Path) -> Iterator[int]:
    path = mirror.with_suffix(".lock")
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tidy(call: GitCall, mirror: Path, *, used_at: float) -> None:
    now = time.time()
    if now - used_at > KEPT_FOR_S:
        # Moved away first: half a mirror must not look like a whole one.
        gone = mirror.rename(mirror.with_suffix(".new"))
        remove_tree(gone)
        log.info("mirror_removed", mirror=mirror.name)
        return
    drop_partial(mirror)
    for ref in (mirror / "refs" / "farm").glob("*"):
        if now - ref.stat().st_mtime > FORGOTTEN_AFTER_S:
            call.git(mirror, "update-ref", "-d", f"refs/farm/{ref.name}")
    if _is_in_pieces(mirror, now):
        for command in (("repack", "-a", "-d", "--quiet"), ("prune", "--expire=now")):
            ended = call.git(mirror, *command)
            if ended.code != 0:
                log.warning("mirror_not_tidied", mirror=mirror.name, error=ended.err[-300:])
                return
        log.info("mirror_tidied", mirror=mirror.name)


def _is_in_pieces(mirror: Path, now: float) -> bool:
    objects = mirror / "objects"
    packed_at = [path.stat().st_mtime for path in (objects / "pack").glob("*.pack")]
    loose = sum(1 for _ in (objects / "17").glob("*")) * 256  # as git itself estimates it
    return (
        len(packed_at) > MOST_PACKS
        or loose > MOST_LOOSE
        or (len(packed_at) > 1 and now - min(packed_at) > REPACK_AFTER_S)
    )
