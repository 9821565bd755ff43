"""Reading requests: JSON bodies into models, query parameters into values.

What is wrong is said with a pointer to the field and never repeats what was sent:
it could be a mistyped secret.
"""

from __future__ import annotations

import json
import math
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from farm.errors import FieldError, Invalid, RequestError

MAX_BODY = 1024 * 1024
_MAX_DEPTH = 20
_MAX_NAME = 100

ModelT = TypeVar("ModelT", bound=BaseModel)
EnumT = TypeVar("EnumT", bound=StrEnum)


class _Malformed(RequestError):
    status = 400
    code = "malformed_json"


class _WrongType(RequestError):
    status = 415
    code = "wrong_media_type"


class _TooLarge(RequestError):
    status = 413
    code = "too_large"


def body(model: type[ModelT]) -> ModelT:
    """The request's JSON as a model: 415, 413, 400 or 422 says what is wrong with it."""
    return validated(model, _json())


def validated(model: type[ModelT], value: object) -> ModelT:
    """A value as a model; Invalid names every field that does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        errors = [_field_error(error) for error in exc.errors(include_input=False)]
        raise Invalid(_sentence(errors), errors=errors) from None


def _json() -> object:
    if request.mimetype != "application/json":
        raise _WrongType("Send the body as application/json.")
    if request.content_encoding:
        raise _WrongType("Send the body without a Content-Encoding.")
    if (request.content_length or 0) > MAX_BODY:
        raise _TooLarge(f"The body may have {MAX_BODY} bytes.")
    data = request.get_data(cache=False)  # cut at MAX_CONTENT_LENGTH, one byte above
    if len(data) > MAX_BODY:
        raise _TooLarge(f"The body may have {MAX_BODY} bytes.")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        json.dumps(value, ensure_ascii=False).encode()  # refuses half characters
    except (ValueError, RecursionError) as exc:
        raise _Malformed("The body is not one well-formed JSON value in UTF-8.") from exc
    if _depth(value) > _MAX_DEPTH:
        raise _Malformed("The body is nested too deeply.")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name")
    return found


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number beyond all bounds")
    return number


def _depth(value: object, level: int = 1) -> int:
    if level > _MAX_DEPTH:
        return level
    if isinstance(value, dict):
        return max((_depth(item, level + 1) for item in value.values()), default=level)
    if isinstance(value, list):
        return max((_depth(item, level + 1) for item in value), default=level)
    return level


def _field_error(error: Any) -> FieldError:
    pointer = "".join(f"/{str(place)[:_MAX_NAME]}" for place in error["loc"] if place != "[key]")
    kind, message = error["type"], error["msg"]
    if kind == "extra_forbidden":
        return FieldError(pointer, "unknown_field", "there is no such field")
    if kind == "value_error":
        return FieldError(pointer, "invalid", message.removeprefix("Value error, "))
    code = "missing" if kind == "missing" else "invalid"
    return FieldError(pointer, code, message[:1].lower() + message[1:])


def _sentence(errors: list[FieldError]) -> str:
    first = errors[0]
    name = first.pointer.removeprefix("/") or "The body"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{name}: {first.message}{more}"


def known_parameters(*names: str) -> None:
    """Refuse a query parameter that the route does not have: a typing mistake is no filter."""
    for name in request.args:
        if name not in names:
            raise Invalid(
                "There is no such query parameter.",
                code="unknown_parameter",
                errors=[FieldError(f"?{name[:_MAX_NAME]}", "unknown_parameter", "unknown")],
            )


def whole(
    name: str, default: int | None = None, *, least: int = 1, most: int = 2**31 - 1
) -> int | None:
    """A query parameter that is a whole number within bounds."""
    text = request.args.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not least <= int(text) <= most:
        raise Invalid.field(name, f"must be a whole number from {least} to {most}")
    return int(text)


def choices(name: str, enum: type[EnumT]) -> list[EnumT]:
    """A query parameter that may be repeated, each one of an enum's values."""
    try:
        return [enum(value) for value in request.args.getlist(name) if value]
    except ValueError:
        raise Invalid.field(name, f"must be some of {', '.join(enum)}") from None


def short_text(name: str, *, most: int = 255) -> str | None:
    """A query parameter that is a short text without control characters."""
    text = request.args.get(name)
    if not text:
        return None
    if len(text) > most or not text.isprintable():
        raise Invalid.field(name, f"must be printable and not longer than {most} characters")
    return text


def identifier(text: str) -> int:
    """An id from a path; 0, which nothing has, for what is no id."""
    good = text.isascii() and text.isdigit() and len(text) <= 15
    return int(text) if good else 0
