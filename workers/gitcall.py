"""How git is called: a config that nobody else can change, and ends that stop with the attempt."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from workers.process import Child, Ended, run, tool
from workers.stop import Stop

CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.askPass=",
    "protocol.allow=never",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "transfer.fsckObjects=true",
    # Old flaws of honest repositories, harmless here; all others are refused.
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "fetch.fsck.badTimezone=ignore",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "safe.bareRepository=explicit",
    "safe.directory=*",
    "filter.lfs.smudge=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    # A checkout has 0644 and 0755; archive's own default would miss every cached layer.
    "tar.umask=0022",
)

PASSED_ON = frozenset(
    {
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"),
    }
)


@dataclass(frozen=True)
class GitCall:
    """How git is called within one step of an attempt."""

    env: Mapping[str, str]
    config: tuple[str, ...]
    cwd: Path
    stop: Stop

    def _arguments(self, mirror: Path, *command: str) -> list[str]:
        options = [option for entry in self.config for option in ("-c", entry)]
        return [tool("git"), f"--git-dir={mirror}", "--no-pager", *options, *command]

    def git(
        self,
        mirror: Path,
        *command: str,
        stdin: bytes = b"",
        watch: Callable[[Child], contextlib.AbstractContextManager[object]] = nullcontext,
    ) -> Ended:
        """Run to the end; raises what `stop` says if it was asked to. `watch` may end it too."""

        @contextlib.contextmanager
        def watching(child: Child) -> Iterator[None]:
            with self.stop.watching(child), watch(child):
                yield

        ended = run(
            self._arguments(mirror, *command),
            env=self.env,
            cwd=self.cwd,
            stdin=stdin,
            on_start=watching,
        )
        self.stop.check()
        return ended

    @contextlib.contextmanager
    def start(self, mirror: Path, *command: str) -> Iterator[Child]:
        """Run with its output as a stream."""
        with (
            Child(
                self._arguments(mirror, *command),
                env=self.env,
                cwd=self.cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as child,
            self.stop.watching(child),
        ):
            yield child
