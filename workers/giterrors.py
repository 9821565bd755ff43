"""What git says when a fetch fails, as a reason: one table.

Sentences of git 2.39 to 2.47 in the C locale, over http(s).
"""

from __future__ import annotations

import re

from farm.errors import AttemptError
from farm.reasons import Reason

MESSAGE_CHARACTERS = 300

_TABLE: tuple[tuple[str, Reason], ...] = (
    (r"couldn't find remote ref|no such ref|no matching remote head", Reason.REF_NOT_FOUND),
    (
        r"fsck error|error: object [0-9a-f]+:|hasDot|is forbidden|invalid path|unable to parse tree",
        Reason.SOURCE_REFUSED,
    ),
    (
        r"authentication failed|could not read (username|password)|terminal prompts disabled"
        r"|returned error: 40[134]|repository .* not found|access denied|permission denied"
        r"|invalid credentials|unable to read askpass",
        Reason.REPOSITORY_UNAUTHORIZED,
    ),
    (r"returned error: 30\d|transport .* not allowed", Reason.CONFIGURATION_INVALID),
    (r"no space left on device|disk quota exceeded", Reason.NO_SPACE),
    (
        r"unable to access|could not resolve|failed to connect|connection (refused|reset|timed out)"
        r"|early eof|unexpected disconnect|hung up|timed out|operation too slow|RPC failed"
        r"|returned error: (5\d\d|429)|SSL|not valid: is this a git repository"
        r"|expected flush|bad line length|protocol error|dumb http transport",
        Reason.REPOSITORY_UNAVAILABLE,
    ),
)
_REMOTE = re.compile(
    r"not found|denied|forbidden|unauthori[sz]ed|authenticat|credentials", re.IGNORECASE
)
"""What a server says over git (`remote: …`): its word alone never means more than "no"."""
_TRANSLATED = tuple((re.compile(pattern, re.IGNORECASE), reason) for pattern, reason in _TABLE)
_CORRUPT = re.compile(
    r"not a git repository|bad object|object file .* is empty|loose object|bad config"
    r"|packfile .* (cannot|is) |did not send all necessary objects",
    re.IGNORECASE,
)


def explain(stderr: str, *, ref: str = "") -> AttemptError:
    """The reason for a failed git command, with the line of it that says most."""
    lines = _own_lines(stderr)
    for pattern, reason in _TRANSLATED:
        for line in lines:
            if pattern.search(line):
                return AttemptError(reason, _sentence(reason, line, ref))
    for line in _remote_lines(stderr):
        if _REMOTE.search(line):
            reason = Reason.REPOSITORY_UNAUTHORIZED
            return AttemptError(reason, _sentence(reason, line, ref))
    seen = lines[-1] if lines else "git ended without a word"
    if is_corrupt(stderr):
        return AttemptError(
            Reason.WORKER_FAULT, f"the mirror was damaged: {seen}"[:MESSAGE_CHARACTERS]
        )
    return AttemptError(Reason.UNKNOWN, f"git: {seen}"[:MESSAGE_CHARACTERS])


def is_corrupt(stderr: str) -> bool:
    """Whether the mirror itself is damaged, so that it has to be made anew."""
    return any(map(_CORRUPT.search, _own_lines(stderr)))


def _own_lines(stderr: str) -> list[str]:
    """What git itself says."""
    lines = [line.strip() for line in stderr.splitlines()]
    return [line for line in lines if line and not line.startswith("remote:")]


def _remote_lines(stderr: str) -> list[str]:
    """What the server says: git puts its mark before every line of it."""
    lines = [line.strip() for line in stderr.splitlines()]
    return [line for line in lines if line.startswith("remote:")]


def _sentence(reason: Reason, line: str, ref: str) -> str:
    if reason is Reason.REF_NOT_FOUND and ref:
        return f"the repository has no {ref}"
    return f"git: {line.removeprefix('fatal: ').removeprefix('error: ')}"[:MESSAGE_CHARACTERS]
