"""The farm's errors, as a tree:

    FarmError
    +- RequestError              what somebody asked cannot be done: a code and an HTTP status
    |  +- NotFound               404
    |  +- Invalid                422  (with a pointer to the field)
    |  +- Conflict               409
    |  |  +- StaleAttempt        the attempt is not the current one: stop, report nothing
    |  +- Unauthenticated        401
    |  +- Forbidden              403
    |  +- Unavailable            503
    +- SettingsError             the process cannot start as it is configured
    +- AttemptError              an attempt at a build ended: a Reason says whose fault

`web/errors.py` alone turns a RequestError into a response. A message never holds
a value that somebody sent: it could be a mistyped secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farm.reasons import Reason


class FarmError(Exception):
    """The base of every error that the farm raises on purpose."""


class SettingsError(FarmError):
    """A setting is missing, wrong or unsafe; the message names the variable."""


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong with a request: where (a JSON pointer), a code, a sentence."""

    pointer: str
    code: str
    message: str


class RequestError(FarmError):
    """What somebody asked cannot be done. `code` is stable and documented."""

    status = 400
    code = "bad_request"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.errors = tuple(errors)


class NotFound(RequestError):
    """There is no such thing, or it is not for the one who asks."""

    status = 404
    code = "not_found"


class Invalid(RequestError):
    """The request is understood but its content is not acceptable."""

    status = 422
    code = "invalid"

    @classmethod
    def field(cls, name: str, message: str, *, code: str = "invalid") -> Invalid:
        """The error for one field of the body."""
        return cls(message, code=code, errors=[FieldError(f"/{name}", code, message)])


class Conflict(RequestError):
    """The thing is in a state that does not allow this."""

    status = 409
    code = "conflict"


class StaleAttempt(Conflict):
    """The attempt is not the current one, or not this worker's: its work is void.

    `tags` says, for a worker that asked to publish, which digest each tag should
    have, so that whoever moved one puts it back.
    """

    code = "stale_attempt"

    def __init__(self, message: str, *, tags: Sequence[tuple[str, str | None]] = ()) -> None:
        super().__init__(message)
        self.tags = tuple(tags)


class Unauthenticated(RequestError):
    """Nobody knows who is asking."""

    status = 401
    code = "unauthenticated"


class Forbidden(RequestError):
    """The one who asks may not do this."""

    status = 403
    code = "forbidden"


class Unavailable(RequestError):
    """Something that the farm needs is not there right now."""

    status = 503
    code = "unavailable"


class AttemptError(FarmError):
    """An attempt at a build ended without an image; raised on workers.

    `reason` carries whose fault it is; `message` is one line of what was seen,
    already free of secrets.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class AttemptCancelled(FarmError):
    """The control plane asked the attempt to stop."""
