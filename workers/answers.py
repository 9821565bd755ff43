"""What the control plane's answers mean, and which answers are its own.

Between a worker and the farm there may be a proxy, with error pages of its own: what
one of them says is silence. Only the farm's word stops or refuses anything.
"""

from __future__ import annotations

from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from farm.errors import FarmError, StaleAttempt
from farm.protocol import DesiredTag

Answer = TypeVar("Answer", bound=BaseModel)

JSON = "application/json"
PROBLEM = "application/problem+json"
DETAIL_CHARACTERS = 300


class ControlSilent(FarmError):
    """No answer, one that says "later" (5xx, 429), or one of a proxy's own: the same call may
    succeed another time.
    """


class ControlRefused(FarmError):
    """An answer that no repetition will change: the two sides disagree about the protocol."""

    def __init__(self, status: int, code: str, detail: str = "") -> None:
        super().__init__(f"the control plane answered {status} {code} {detail}".rstrip())
        self.status = status
        self.code = code


class NotEnrolled(FarmError):
    """401: the control plane does not know this worker's token (any more)."""


def is_ours(answer: httpx.Response) -> bool:
    """Whether a success comes from the control plane, and is no page of a proxy's."""
    return answer.status_code == httpx.codes.NO_CONTENT or _media_type(answer) == JSON


def error_of(answer: httpx.Response) -> FarmError:
    """What an answer that is no success means."""
    problem = _problem(answer)
    code = str(problem.get("code", ""))
    if not code:
        return ControlSilent(f"status {answer.status_code}, not the farm's own")
    if answer.status_code == httpx.codes.CONFLICT and code == StaleAttempt.code:
        return StaleAttempt("the control plane gave this attempt up", tags=_tags(problem))
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return NotEnrolled("the control plane does not know this worker's token")
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status_code in (
        httpx.codes.TOO_MANY_REQUESTS,
        httpx.codes.REQUEST_TIMEOUT,
    ):
        return ControlSilent(f"status {answer.status_code}")
    return ControlRefused(
        answer.status_code, code, str(problem.get("detail", ""))[:DETAIL_CHARACTERS]
    )


def _problem(answer: httpx.Response) -> dict[str, object]:
    """What the control plane itself says; nothing of what a proxy before it answers."""
    if _media_type(answer) != PROBLEM:
        return {}
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _media_type(answer: httpx.Response) -> str:
    kind, _, _ = answer.headers.get("Content-Type", "").partition(";")
    return str(kind).strip().lower()


def _tags(problem: dict[str, object]) -> list[tuple[str, str | None]]:
    listed = problem.get("tags")
    found: list[tuple[str, str | None]] = []
    for entry in listed if isinstance(listed, list) else ():
        try:
            tag = DesiredTag.model_validate(entry)
        except ValidationError:
            continue
        found.append((tag.reference, tag.digest))
    return found


def parse(answer: httpx.Response, shape: type[Answer]) -> Answer:
    """A success as the shape that it should have; raises ControlRefused if it has not."""
    try:
        return shape.model_validate_json(answer.content)
    except ValidationError as exc:
        # Never the body itself: a claim's answer holds credentials.
        raise ControlRefused(answer.status_code, f"not a {shape.__name__}") from exc
