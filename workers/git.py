"""From a repository's URL to a commit's files, over git: fetched, verified, exported.

One bare mirror per repository. git runs with an environment made from nothing,
argument lists, and a config that no repository and no user of this host can change
(docs/security.md has each line's reason). The export has no `.git`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from farm.errors import AttemptError, FarmError
from farm.protocol import GitCredential
from farm.reasons import Reason
from farm.references import normal_repository
from workers import giterrors, source
from workers.address import check_host
from workers.attemptdir import AttemptDir, remove_tree
from workers.gitcall import CONFIG, PASSED_ON, GitCall
from workers.process import STANDARD_PATH, Child, tool
from workers.stop import Stop

KEPT_REFS = 64
"""Tips that a mirror keeps, by a hash of their ref's name: without any, every fetch would be a
full one; with one for every pull request, fetches slow down (measured: 105 ms to 165 ms)."""
LOCK_POLL_S = 0.05

ASKPASS = """#!/bin/sh
# Answers git's question for a user name or a password from a private file.
{ IFS= read -r username; IFS= read -r password; } <"$FARM_GIT_CREDENTIAL"
case $1 in
Username*) printf '%s\\n' "$username" ;;
*) printf '%s\\n' "$password" ;;
esac
"""

MIRROR_ATTRIBUTES = "* -export-ignore -export-subst -filter\n"
"""What a repository's own .gitattributes could leave out of, or write into, an archive: a
checkout has neither, and an image must hold what a checkout does."""


@dataclass(frozen=True)
class FetchOrder:
    """What to fetch, for which attempt."""

    repository: str
    git_ref: str
    """A full ref, `HEAD`, or the short name of a branch or a tag."""
    sha: str | None
    """The commit that somebody named; it must be the fetched tip or an ancestor of it."""
    name: str
    """`<part>.<attempt>`: names the mirror's temporary ref."""


@dataclass(frozen=True)
class Fetched:
    """A commit that is in the mirror."""

    mirror: Path
    sha: str
    commit_date: datetime
    ref: str
    """The temporary ref that holds it until `Git.export` is done."""
    kept_as: str


class Git:
    """git for one worker; safe for several processes at once."""

    def __init__(
        self, home: Path, *, insecure_ok: bool, own_environment: Mapping[str, str]
    ) -> None:
        self._mirrors = home / "mirrors"
        self._askpass = home / "askpass"
        self._insecure_ok = insecure_ok
        self._passed_on = {k: v for k, v in own_environment.items() if k in PASSED_ON}

    def prepare(self) -> None:
        """Make the folders and the askpass helper; once, before any attempt."""
        self._mirrors.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not in the attempt's folder: tmpfs is often mounted noexec.
        fresh = self._askpass.with_suffix(".new")
        fresh.write_text(ASKPASS, encoding="ascii")
        fresh.chmod(0o700)
        fresh.rename(self._askpass)

    def fetch(
        self, order: FetchOrder, credential: GitCredential | None, folder: AttemptDir, stop: Stop
    ) -> Fetched:
        """Bring the commit into the mirror and verify it.

        Raises AttemptError with the reason, or what `stop` says.
        """
        call = GitCall(
            self._environment(order.repository, credential, folder),
            (*CONFIG, *self._config_for(order.repository)),
            folder.empty,
            stop,
        )
        mirror = self._mirrors / _mirror_name(order.repository)
        with _locked(mirror.with_suffix(".lock"), stop):
            if not (mirror / "HEAD").exists():
                _make_mirror(call, mirror)
            temporary = f"refs/farm/{order.name}"
            _fetch_ref(call, mirror, order, temporary)
        with _forgetting(call, mirror, temporary):
            sha, commit_date = _commit(call, mirror, temporary, order.sha)
        slot = int.from_bytes(hashlib.sha256(order.git_ref.encode()).digest()[:2]) % KEPT_REFS
        return Fetched(mirror, sha, commit_date, temporary, f"refs/kept/{slot}")

    def export(self, fetched: Fetched, folder: AttemptDir, stop: Stop) -> Path:
        """Write the commit's files into the attempt's folder, as a checkout would, without `.git`.

        Raises AttemptError (`source_refused`, `no_space`), or what `stop` says.
        """
        call = GitCall(self._environment("", None, folder), CONFIG, folder.empty, stop)
        with _forgetting(call, fetched.mirror, fetched.ref):
            with call.start(fetched.mirror, "ls-tree", "-r", "-l", "-z", fetched.sha) as child:
                if child.process.stdout is not None:
                    source.check_tree(child.process.stdout, source.Limits())
                if child.wait() != 0:
                    stop.check()
                    raise AttemptError(Reason.WORKER_FAULT, "git ls-tree failed on the mirror")
            folder.source.mkdir(mode=0o700)
            with call.start(fetched.mirror, "archive", "--format=tar", fetched.sha) as archive:
                _unpack(call, archive, folder.source)
            stop.check()
        self._keep_tip(call, fetched)
        return folder.source

    def _keep_tip(self, call: GitCall, fetched: Fetched) -> None:
        update = f"update {fetched.kept_as} {fetched.sha}\ndelete {fetched.ref}\n"
        call.git(fetched.mirror, "update-ref", "--stdin", stdin=update.encode())

    def _config_for(self, repository: str) -> tuple[str, ...]:
        scheme = urlsplit(repository).scheme
        if scheme != "https" and not (scheme == "http" and self._insecure_ok):
            raise AttemptError(Reason.CONFIGURATION_INVALID, "this worker fetches over https only")
        config: tuple[str, ...] = (f"protocol.{scheme}.allow=always",)
        proxied = any(name.lower().endswith("_proxy") for name in self._passed_on)
        if not self._insecure_ok and not proxied:
            pin = check_host(repository)
            config += (f"http.curloptResolve={pin}",) if pin else ()
        return config

    def _environment(
        self, repository: str, credential: GitCredential | None, folder: AttemptDir
    ) -> dict[str, str]:
        env = {
            **self._passed_on,
            "PATH": STANDARD_PATH,
            "HOME": str(folder.empty),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ALLOW_PROTOCOL": urlsplit(repository).scheme or "none",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        if credential is not None:
            path = folder.git_credential
            if not path.exists():
                folder.write_git_credential(credential.username, credential.password)
            env |= {"GIT_ASKPASS": str(self._askpass), "FARM_GIT_CREDENTIAL": str(path)}
        return env


@contextlib.contextmanager
def _forgetting(call: GitCall, mirror: Path, ref: str) -> Iterator[None]:
    """When the work inside fails, the temporary ref goes: they would pile up otherwise."""
    try:
        yield
    except FarmError:
        # Also when the attempt is told to stop, hence with a stop of its own.
        replace(call, stop=Stop()).git(mirror, "update-ref", "-d", ref)
        raise


def _mirror_name(repository: str) -> str:
    return hashlib.sha256(normal_repository(repository).encode()).hexdigest()[:32]


@contextlib.contextmanager
def _locked(path: Path, stop: Stop) -> Iterator[None]:
    """One fetch of a mirror at a time: a second one would download the same again."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stop.wait(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _make_mirror(call: GitCall, mirror: Path) -> None:
    fresh = mirror.with_suffix(".new")
    remove_tree(fresh)
    ended = call.git(fresh, "init", "--quiet", "--bare", "--template=")
    if ended.code != 0:
        raise giterrors.explain(ended.err)
    (fresh / "info").mkdir(exist_ok=True)
    (fresh / "info" / "attributes").write_text(MIRROR_ATTRIBUTES, encoding="ascii")
    fresh.rename(mirror)


def _fetch_ref(call: GitCall, mirror: Path, order: FetchOrder, temporary: str) -> None:
    """Fetch the one ref; a short name is a branch before it is a tag."""
    name = order.git_ref
    short = name != "HEAD" and not name.startswith("refs/")
    wanted = [f"refs/heads/{name}", f"refs/tags/{name}"] if short else [name]
    for last, ref in ((ref == wanted[-1], ref) for ref in wanted):
        ended = call.git(
            mirror,
            *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"),
            *("--end-of-options", order.repository, f"+{ref}:{temporary}"),
        )
        if ended.code == 0:
            return
        error = giterrors.explain(ended.err, ref=order.git_ref)
        if error.reason is not Reason.REF_NOT_FOUND or last:
            if giterrors.is_corrupt(ended.err):
                remove_tree(mirror)
            raise error


def _commit(call: GitCall, mirror: Path, ref: str, named: str | None) -> tuple[str, datetime]:
    """The commit to build and its date; a named one must be reachable from what was fetched."""
    if named is not None:
        ended = call.git(mirror, "merge-base", "--is-ancestor", "--end-of-options", named, ref)
        if ended.code != 0:
            raise AttemptError(
                Reason.COMMIT_MOVED, f"commit {named[:12]} is not part of what was fetched"
            )
    wanted = f"{named or ref}^{{commit}}"
    # Not `show`: even with --no-patch it walks a root commit's whole tree, and a tree of
    # 10^8 names never ends (seen).
    ended = call.git(mirror, "log", "-1", "--format=%H %cI", "--end-of-options", wanted)
    sha, _, date = ended.out.strip().partition(" ")
    if ended.code != 0 or not date:
        raise AttemptError(Reason.REF_NOT_FOUND, "the ref does not point to a commit")
    return sha, datetime.fromisoformat(date)


def _unpack(call: GitCall, archive: Child, target: Path) -> None:
    """Unpack an archive that git made of a checked tree, with its modes, owned by us."""
    options = ("--extract", "--file=-", "--same-permissions", "--no-same-owner")
    with Child(
        [tool("tar"), *options, f"--directory={target}"],
        env={"PATH": STANDARD_PATH, "LC_ALL": "C"},
        cwd=call.cwd,
        stdin=archive.process.stdout,
    ) as tar:
        said = tar.process.stderr.read() if tar.process.stderr else b""
        code = tar.wait()
    ended = archive.wait()
    call.stop.check()
    if b"No space left" in said:
        raise AttemptError(Reason.NO_SPACE, "no space for the source on the worker")
    if code != 0 or ended != 0:
        raise AttemptError(Reason.WORKER_FAULT, "the source could not be unpacked")
