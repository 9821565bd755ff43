"""Why a build failed, from what buildx and BuildKit said: one table.

The step that failed is asked first, and its command's own text is never searched:
what a Dockerfile prints must not choose the reason. Sentences seen with buildx
0.13.1 and engine 26.1.5; the recorded streams are in tests/unit/workers/streams.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from farm.errors import AttemptError
from farm.reasons import Reason
from workers.steps import Step

MESSAGE_CHARACTERS = 1000

_PROCESS = re.compile(r"^process \".*\" did not complete successfully: (?P<end>.*)\Z", re.DOTALL)
_EXIT_CODE = re.compile(r"exit code: (\d+)")
NO_SPACE = re.compile(r"no space left on device", re.IGNORECASE)


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    reason: Reason


def _rules(*pairs: tuple[str, Reason]) -> tuple[_Rule, ...]:
    return tuple(_Rule(re.compile(pattern, re.IGNORECASE), reason) for pattern, reason in pairs)


_ENGINE = _rules(
    (
        r"cannot connect to the docker daemon|is the docker daemon running"
        r"|error during connect|rpc error: code = unavailable|error reading from server: EOF"
        r"|failed to receive status|failed to list workers|transport is closing"
        r"|no builder .* found|unexpected EOF$",
        Reason.ENGINE_UNAVAILABLE,
    ),
    (r"no space left on device", Reason.NO_SPACE),
)

_RATE = (r"toomanyrequests|too many requests|\b429\b", Reason.REGISTRY_RATE_LIMITED)
_DOWN = (
    r"connection refused|no such host|i/o timeout|connection reset|network is unreachable"
    r"|no route to host|TLS handshake|tls:|x509:|server misbehaving|context deadline exceeded"
    r"|\b50[0-4]\b|bad gateway|service unavailable|internal server error|unexpected EOF|: EOF",
    Reason.REGISTRY_UNAVAILABLE,
)

_PUSH = _rules(
    _RATE,
    (
        r"unauthorized|denied|forbidden|authentication required|no basic auth credentials"
        r"|insufficient_scope|\b40[13]\b",
        Reason.REGISTRY_UNAUTHORIZED,
    ),
    _DOWN,
)

_PULL = _rules(
    _RATE,
    (
        r"not found|pull access denied|unauthorized|denied|forbidden|insufficient_scope"
        r"|repository does not exist|authorization failed|no match for platform|\b40[134]\b",
        Reason.BASE_IMAGE_UNAVAILABLE,
    ),
    _DOWN,
)

_DOCKERFILE = _rules(
    (r"secret \S+: not found|failed to load secret|secret not found", Reason.SECRET_MISSING),
    (
        r"dockerfile parse error|failed to read dockerfile|dockerfile cannot be empty"
        r"|target stage .* could not be found|unknown instruction|is not allowed"
        r"|failed to process|failed to parse stage name|invalid reference format"
        r"|no build stage in current context|dockerfile.v0|syntax error|circular dependency",
        Reason.DOCKERFILE_INVALID,
    ),
)

_CANCELLED = re.compile(r"context canceled|code = canceled", re.IGNORECASE)
_FROM = re.compile(r"\[[^]]+\] FROM ")
_EXCERPT = re.compile(r"^\S+:\d+$")
"""The heading of buildx's excerpt: `Dockerfile:3`."""


def diagnose(
    exit_code: int, steps: Sequence[Step], text: Sequence[str], *, disk_was_full: bool = False
) -> AttemptError:
    """The reason and a one-line message, from steps and the plain text beside them.

    `disk_was_full`: so the worker found when a step said it; a step alone is not believed.
    """
    said = _last_error(text)
    if failed := _failed_step(steps):
        return _of_step(failed, said, disk_was_full=disk_was_full)
    if reason := _of_text(text, said):
        return _error(reason, said)
    if exit_code < 0:
        return _error(Reason.WORKER_FAULT, f"buildx was ended by signal {-exit_code}")
    if _CANCELLED.search(said):
        return _error(Reason.ENGINE_UNAVAILABLE, f"the engine cancelled the build: {said}")
    return _error(Reason.UNKNOWN, said or f"buildx ended with exit code {exit_code}")


def _of_text(text: Sequence[str], said: str) -> Reason | None:
    """The reason of a failure outside every step."""
    if reason := _first(_ENGINE, said) or _first(_DOCKERFILE, said):
        return reason
    if "failed to resolve source metadata" in said:
        return _first(_PULL, said)
    # buildx shows a place in the Dockerfile and no step ran into it.
    return Reason.DOCKERFILE_INVALID if any(map(_EXCERPT.match, text)) else None


def _failed_step(steps: Sequence[Step]) -> Step | None:
    return next((step for step in steps if step.error and not step.cancelled), None)


def _last_error(text: Sequence[str]) -> str:
    for line in reversed(text):
        if line.startswith("ERROR: "):
            return line.removeprefix("ERROR: ").removeprefix("failed to solve: ")
    return text[-1] if text else ""


def _first(rules: Sequence[_Rule], said: str) -> Reason | None:
    return next((rule.reason for rule in rules if rule.pattern.search(said)), None)


def _of_step(step: Step, said: str, *, disk_was_full: bool) -> AttemptError:
    command = _PROCESS.match(step.error)
    if command:
        full = disk_was_full and any(NO_SPACE.search(line) for line in step.tail)
        return _of_command(step, command["end"], full=full)
    reason = _first(_ENGINE, step.error) or _of_kind(step, said)
    return _error(reason, f"{step.name}: {step.error}")


def _of_kind(step: Step, said: str) -> Reason:
    """The reason for a step that is no command: what it does says where to look."""
    if step.name.startswith(("pushing ", "exporting ")):
        return _first(_PUSH, step.error) or Reason.UNKNOWN
    if step.name.startswith("[internal] load metadata for") or _FROM.match(step.name):
        return _first(_PULL, step.error) or Reason.UNKNOWN
    if reason := _first(_DOCKERFILE, step.error) or _first(_DOCKERFILE, said):
        return reason
    return Reason.STEP_FAILED if step.name.startswith("[") else Reason.UNKNOWN


def _of_command(step: Step, end: str, *, full: bool) -> AttemptError:
    """A RUN that ended with an error; `end` is BuildKit's text after the command's."""
    code = _EXIT_CODE.search(end)
    said = f"exit code {code[1]}" if code else end
    if full or NO_SPACE.search(end):
        return _error(Reason.NO_SPACE, f"{step.name}: {said}, no space left on the worker's disk")
    if "cannot allocate memory" in end or (code and code[1] == "137"):
        return _error(Reason.OUT_OF_MEMORY, f"{step.name}: killed ({said}), most likely for memory")
    if not code and (reason := _first(_ENGINE, end)):
        return _error(reason, f"{step.name}: {said}")
    return _error(Reason.STEP_FAILED, f"{step.name}: {said}")


def _error(reason: Reason, message: str) -> AttemptError:
    line = " ".join(message.split())
    return AttemptError(reason, line[:MESSAGE_CHARACTERS])
