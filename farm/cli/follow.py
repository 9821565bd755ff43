"""Following a build: its log as it grows, a line of progress on a terminal, its exit code."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import click

from farm.cli.client import Api, Json, path_of
from farm.cli.input import may_ask
from farm.cli.output import clock, note, plain
from farm.cli.stream import TERMINAL, BuildEvents

FAILED, TIMED_OUT, INTERRUPTED = 1, 124, 130
_ERASE_LINE = "\r\x1b[2K"


class LogWriter:
    """Writes a log, line by line, without control sequences where a terminal would obey them."""

    def __init__(self, target: TextIO, *, raw: bool) -> None:
        self._target = target
        self._raw = raw or not target.isatty()
        self._rest = ""

    def write(self, text: str) -> None:
        """Take a piece of the log; it may end within a line, or within a sequence."""
        if not self._raw:
            text = self._rest + text
            text, end, self._rest = text.rpartition("\n")
            text = plain(text + end)
        self._target.write(text)
        self._target.flush()

    def close(self) -> None:
        """Write what came without an end of line."""
        self._target.write(plain(self._rest))
        self._target.flush()
        self._rest = ""


class Progress:
    """One line at the bottom of the terminal; nothing where stderr is none."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._started = time.monotonic()
        self._steps: dict[tuple[str | None, int, int], Json] = {}
        self._doing = "queued"
        self._lock = threading.RLock()
        self._ended = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep the line, and its clock, while the body runs."""
        thread = threading.Thread(target=self._tick, daemon=True)
        if self._shown:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            if self._shown:
                thread.join()
                self._erase()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line away while something else is written."""
        with self._lock:
            self._erase()
            yield
            self._draw()

    def step(self, step: Json) -> None:
        """Count a step that began or ended; those of an earlier attempt no longer count."""
        part, attempt = step["platform"], step["attempt"]
        with self._lock:
            for key in [key for key in self._steps if key[0] == part and key[1] < attempt]:
                del self._steps[key]
            self._steps[part, attempt, step["number"]] = step

    def status(self, build: Json) -> None:
        """Show what the build is doing."""
        phases = [part["phase"] for part in build["parts"] if part.get("phase")]
        with self._lock:
            self._doing = plain(phases[0] if phases else build["status"])

    def _tick(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                self._draw()

    def _erase(self) -> None:
        if self._shown:
            sys.stderr.write(_ERASE_LINE)
            sys.stderr.flush()

    def _draw(self) -> None:
        if not self._shown or self._ended.is_set():
            return
        done = sum(step["status"] != "running" for step in self._steps.values())
        cached = sum(bool(step["cached"]) for step in self._steps.values())
        line = f"[{clock(time.monotonic() - self._started)}] {self._doing}"
        if self._steps:
            line += f", steps {done}/{len(self._steps)}, {cached} cached"
        sys.stderr.write(_ERASE_LINE + line)
        sys.stderr.flush()


class Follower:
    """Follows one build to its end."""

    def __init__(self, api: Api, build_id: str, *, log: TextIO | None, raw: bool = False) -> None:
        self._api = api
        self._id = build_id
        self._log = LogWriter(log, raw=raw) if log else None
        self._events = BuildEvents(api, build_id)
        self._topic = ""

    def run(self) -> Json:
        """The build as it ended. Ctrl-C detaches, or on a terminal asks what to do."""
        while True:
            try:
                return self._until_done()
            except KeyboardInterrupt:
                self._interrupted()

    def _until_done(self) -> Json:
        progress = Progress()
        build: Json = {}
        with progress.running():
            for event in self._events:
                if event.name == "step":
                    progress.step(event.data)
                elif event.name == "log" and self._log:
                    with progress.aside():
                        self._log.write(event.data["text"])
                elif event.name in ("status", "done"):
                    build = event.data
                    progress.status(build)
                    with progress.aside():
                        self._say(build)
        if self._log:
            self._log.close()
        return build

    def _say(self, build: Json) -> None:
        """Tell what changed, once; a place in the line that moves is no news."""
        said = _situation(build)
        topic = build["waiting"]["reason"] if build["waiting"] else said
        if said and topic != self._topic:
            self._topic = topic
            note(f"Build {self._id} {said}")

    def _interrupted(self) -> None:
        """Returns to follow on after a cancel; else ends with 130."""
        answer = "detach"
        if may_ask():
            with contextlib.suppress(click.Abort):  # a second Ctrl-C detaches
                answer = click.prompt(
                    f"\nBuild {self._id} is still running. Detach from it, or cancel it?",
                    type=click.Choice(["detach", "cancel"]),
                    default="detach",
                    err=True,
                )
        if answer == "cancel":
            self._api.post(path_of("builds", self._id) + "/cancel")
            return
        note(f"Detached; build {self._id} goes on: farm logs -f {self._id}")
        raise click.exceptions.Exit(INTERRUPTED)


def follow(api: Api, build_id: str, *, to: TextIO | None, raw: bool = False) -> Json:
    """Write the build's log as it comes, and return the build as it ended."""
    return Follower(api, build_id, log=to, raw=raw).run()


def exit_code(build: Json) -> int:
    """A build's result as an exit code: 0, 1, or 124 when its time was up."""
    if build["status"] in ("succeeded", "skipped"):
        return 0
    return TIMED_OUT if build["reason"] == "timed_out" else FAILED


def summary(build: Json) -> str:
    """How it ended, in the words of the farm: cause, what was seen, cure, and where to look."""
    head = f"Build {build['id']} {build['status']}"
    if build["duration_s"] is not None:
        head += f" in {clock(build['duration_s'])}"
    lines = [head + "."]
    if image := build["image"]:
        lines += [f"  {tag}@{image['digest']}" for tag in image["tags"]] or [f"  {image['digest']}"]
    lines += [f"  {line}" for line in (cause(build), build["message"], build["cure"]) if line]
    return "\n".join([*lines, f"  {build['url']}"])


def cause(build: Json) -> str | None:
    """The sentence of a build's reason, where this version of the command knows it."""
    from farm.reasons import Reason

    known = build["reason"] in set(Reason)
    return Reason(build["reason"]).cause if known else build["reason"]


def waiting(build: Json) -> str:
    """Why a build has not started, with its place in the line; empty when it has."""
    from farm.reasons import WaitReason

    wait = build["waiting"]
    if not wait:
        return ""
    code = wait["reason"]
    sentence = WaitReason(code).sentence if code in set(WaitReason) else code
    place = f" It is number {wait['position']} in the line." if wait["position"] else ""
    return f"{sentence}{place}"


def _situation(build: Json) -> str:
    if build["status"] in TERMINAL:
        return ""  # the summary tells it
    if build["status"] == "waiting_approval":
        return "waits until somebody approves it."
    if why := waiting(build):
        return f"waits: {why}"
    running = [
        f"{attempt['worker']} (attempt {attempt['number']})"
        for part in build["parts"]
        for attempt in part["attempts"][-1:]
        if attempt["outcome"] is None
    ]
    return f"runs on {', '.join(running)}." if running else ""


def log_target(*, as_json: bool, quiet: bool) -> TextIO | None:
    """Where a followed log goes: stdout, unless that is for JSON; nowhere when quiet."""
    if quiet:
        return None
    return sys.stderr if as_json else sys.stdout
