"""Git repositories on a disk, as a forge keeps them: bare, with a ref for every pull request."""

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.sample.processes import program

_FILE = "100644"
_EXECUTABLE = "100755"

# None takes a file away.
Files = Mapping[str, str | bytes | None]

_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    # The person's own configuration (signing, hooks, another default branch) must not show here.
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True)
class Repository:
    """One bare repository. Commits are made in it without a work tree, in a few milliseconds."""

    name: str
    path: Path

    @classmethod
    def create(cls, root: Path, name: str, files: Files, *, branch: str = "main") -> "Repository":
        """`name` is `<owner>/<name>`; the first commit holds `files`."""
        path = root / f"{name}.git"
        path.mkdir(parents=True)
        repository = cls(name, path)
        repository.git("init", "--quiet", "--bare", f"--initial-branch={branch}", ".")
        # As forges do: a commit can be asked for by its id, and pull request refs are not hidden.
        repository.configure("uploadpack.allowAnySHA1InWant", "true")
        repository.configure("http.receivepack", "true")
        repository.commit(files, branch=branch, message="First commit")
        return repository

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """Any git command in this repository; for what the other methods do not do."""
        done = subprocess.run(
            [program("git"), *arguments],
            cwd=self.path,
            input=stdin,
            capture_output=True,
            env=_ENVIRONMENT | {"HOME": str(self.path)},
            check=False,
        )
        if done.returncode != 0:
            message = (
                f"git {' '.join(arguments)} in {self.path}: {done.stderr.decode(errors='replace')}"
            )
            raise RuntimeError(message)
        return done.stdout.decode().strip()

    def configure(self, key: str, value: str) -> None:
        """For instance `uploadpack.allowAnySHA1InWant`, `false`."""
        self.git("config", key, value)

    def sha(self, ref: str) -> str:
        """The commit that a ref names now."""
        return self.git("rev-parse", "--verify", f"{ref}^{{commit}}")

    def commit(
        self,
        files: Files,
        *,
        branch: str = "main",
        message: str = "A change",
        executable: frozenset[str] = frozenset(),
    ) -> str:
        """Commits on a branch (which begins here if it is new) and returns the commit's id."""
        return self._commit_on(
            f"refs/heads/{branch}", files, message=message, executable=executable
        )

    def open_pull_request(
        self, number: int, files: Files, *, base: str = "main", message: str = "A proposal"
    ) -> str:
        """Sets refs/pull/<number>/head one commit ahead of `base`, on no branch, as from a fork."""
        ref = f"refs/pull/{number}/head"
        self.git("update-ref", ref, self.sha(f"refs/heads/{base}"))
        return self._commit_on(ref, files, message=message)

    def push_to_pull_request(
        self, number: int, files: Files, *, message: str = "More of it"
    ) -> str:
        """One more commit on an open pull request."""
        ref = f"refs/pull/{number}/head"
        self.sha(ref)
        return self._commit_on(ref, files, message=message)

    def _commit_on(
        self, ref: str, files: Files, *, message: str, executable: frozenset[str] = frozenset()
    ) -> str:
        parent = self.git("for-each-ref", "--format=%(objectname)", ref)
        committer = f"Ada Example <ada@example.com> {int(time.time())} +0000"
        stream = [f"commit {ref}\ncommitter {committer}\n".encode()]
        text = message.encode()
        stream.append(b"data %d\n%s\n" % (len(text), text))
        if parent:
            stream.append(f"from {parent}\n".encode())
        for path, content in files.items():
            if content is None:
                stream.append(f"D {path}\n".encode())
                continue
            data = content.encode() if isinstance(content, str) else content
            mode = _EXECUTABLE if path in executable else _FILE
            stream.append(
                f"M {mode} inline {path}\n".encode() + b"data %d\n%s\n" % (len(data), data)
            )
        self.git("fast-import", "--quiet", "--force", stdin=b"".join(stream))
        return self.sha(ref)
