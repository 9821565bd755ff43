"""From a repository's URL to a commit's files, over git: fetched, verified, exported.

One bare mirror per repository. git runs with an environment made from nothing,
argument lists, and a config that no repository and no user of this host can change
(docs/security.md has each line's reason). The export has no `.git`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from farm.errors import AttemptError, FarmError
from farm.protocol import GitCredential
from farm.reasons import Reason
from workers import giterrors, source
from workers.address import check_host, goes_through_proxy
from workers.attemptdir import AttemptDir, remove_tree
from workers.gitcall import CONFIG, PASSED_ON, GitCall
from workers.mirrors import FetchGuard, Mirrors, drop_partial
from workers.process import STANDARD_PATH, Child, Ended, tail_of, tool
from workers.stop import Stop

KEPT_REFS = 64
"""Tips that a mirror keeps, by a hash of their ref's name: without any, every fetch would be a
full one; with one for every pull request, fetches slow down (measured: 105 ms to 165 ms)."""
LATEST_DATE = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())

ASKPASS = """#!/bin/sh
# Answers git's question for a user name or a password from a private file.
{ IFS= read -r username; IFS= read -r password; } <"$FARM_GIT_CREDENTIAL"
case $1 in
Username*) printf '%s\\n' "$username" ;;
*) printf '%s\\n' "$password" ;;
esac
"""


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
    trusted_host: bool = False
    """An admin registered the repository: its host may have a private address."""


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
        self._mirrors = Mirrors(home / "mirrors")
        self._askpass = home / "askpass"
        self._insecure_ok = insecure_ok
        self._passed_on = {k: v for k, v in own_environment.items() if k in PASSED_ON}

    def prepare(self) -> None:
        """Make the folders and the askpass helper; once, before any attempt."""
        self._mirrors.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
            (*CONFIG, *self._config_for(order)),
            folder.empty,
            stop,
        )
        mirror = self._mirrors.path_of(order.repository)
        with self._mirrors.locked(mirror, stop):
            if not (mirror / "HEAD").exists():
                self._mirrors.make(call, mirror)
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

    def tidy(self) -> None:
        """Keep the mirrors small; raises OSError or FarmError, and may be repeated."""
        folder = self._mirrors.folder
        config = (*CONFIG, "pack.threads=1")  # the cores are the builds'
        self._mirrors.tidy(GitCall(self._own_environment(folder), config, folder, Stop()))

    def _keep_tip(self, call: GitCall, fetched: Fetched) -> None:
        update = f"update {fetched.kept_as} {fetched.sha}\ndelete {fetched.ref}\n"
        call.git(fetched.mirror, "update-ref", "--stdin", stdin=update.encode())

    def _config_for(self, order: FetchOrder) -> tuple[str, ...]:
        scheme = urlsplit(order.repository).scheme
        if scheme != "https" and not (scheme == "http" and self._insecure_ok):
            raise AttemptError(Reason.CONFIGURATION_INVALID, "this worker fetches over https only")
        config: tuple[str, ...] = (f"protocol.{scheme}.allow=always",)
        trusted = order.trusted_host or self._insecure_ok
        if not trusted and not goes_through_proxy(order.repository, self._passed_on):
            pin = check_host(order.repository)
            config += (f"http.curloptResolve={pin}",) if pin else ()
        return config

    def _environment(
        self, repository: str, credential: GitCredential | None, folder: AttemptDir
    ) -> dict[str, str]:
        env = self._own_environment(folder.empty)
        env["GIT_ALLOW_PROTOCOL"] = urlsplit(repository).scheme or "none"
        if credential is not None:
            path = folder.git_credential
            if not path.exists():
                folder.write_git_credential(credential.username, credential.password)
            env |= {"GIT_ASKPASS": str(self._askpass), "FARM_GIT_CREDENTIAL": str(path)}
        return env

    def _own_environment(self, home: Path) -> dict[str, str]:
        return {
            **self._passed_on,
            "PATH": STANDARD_PATH,
            "HOME": str(home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
        }


@contextlib.contextmanager
def _forgetting(call: GitCall, mirror: Path, ref: str) -> Iterator[None]:
    """When the work inside fails, the temporary ref goes: they would pile up otherwise."""
    try:
        yield
    except FarmError:
        # Also when the attempt is told to stop, hence with a stop of its own.
        replace(call, stop=Stop()).git(mirror, "update-ref", "-d", ref)
        raise


def _fetch(
    call: GitCall, mirror: Path, refspec: str, order: FetchOrder, guard: FetchGuard
) -> Ended:
    try:
        return call.git(
            mirror,
            *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"),
            *("--end-of-options", order.repository, refspec),
            watch=guard.watching,
        )
    except FarmError:
        drop_partial(mirror)  # told to stop
        raise


def _fetch_ref(call: GitCall, mirror: Path, order: FetchOrder, temporary: str) -> None:
    """Fetch the one ref; a short name is a branch before it is a tag."""
    name = order.git_ref
    short = name != "HEAD" and not name.startswith("refs/")
    wanted = [f"refs/heads/{name}", f"refs/tags/{name}"] if short else [name]
    for last, ref in ((ref == wanted[-1], ref) for ref in wanted):
        guard = FetchGuard(mirror)
        ended = _fetch(call, mirror, f"+{ref}:{temporary}", order, guard)
        if ended.code == 0:
            return
        refusal = guard.refusal()
        drop_partial(mirror)
        if refusal is not None:
            raise refusal
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
    ended = call.git(mirror, "log", "-1", "--format=%H %ct", "--end-of-options", wanted)
    sha, _, seconds = ended.out.strip().partition(" ")
    if ended.code != 0 or not sha:
        raise AttemptError(Reason.REF_NOT_FOUND, "the ref does not point to a commit")
    return sha, _moment(seconds)


def _moment(seconds: str) -> datetime:
    """A commit's date, which is whatever its author wrote: kept within what a label can say."""
    found = int(seconds) if seconds.isascii() and seconds.isdigit() else 0
    return datetime.fromtimestamp(min(found, LATEST_DATE), UTC)


def _unpack(call: GitCall, archive: Child, target: Path) -> None:
    """Unpack an archive that git made of a checked tree, with its modes, owned by us."""
    options = ("--extract", "--file=-", "--same-permissions", "--no-same-owner")
    with Child(
        [tool("tar"), *options, f"--directory={target}"],
        env={"PATH": STANDARD_PATH, "LC_ALL": "C"},
        cwd=call.cwd,
        stdin=archive.process.stdout,
    ) as tar:
        if archive.process.stdout is not None:
            # tar's alone from here: when tar ends early, git's next write fails.
            archive.process.stdout.close()
        said = tail_of(tar.process.stderr)
        code = tar.wait()
    ended = archive.wait()
    call.stop.check()
    if b"No space left" in said:
        raise AttemptError(Reason.NO_SPACE, "no space for the source on the worker")
    if code != 0 or ended != 0:
        raise AttemptError(Reason.WORKER_FAULT, "the source could not be unpacked")
