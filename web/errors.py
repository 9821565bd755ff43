"""Farm errors as answers: problem+json for the API, a page for people. The only place.

No answer holds a stack, SQL or a value that somebody sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import structlog
from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from farm.errors import FieldError, RequestError, StaleAttempt
from web import pages_errors

PROBLEM = "application/problem+json"
_TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Not acceptable",
    429: "Too many requests",
    500: "The farm has a bug",
    503: "Not available",
}
_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "wrong_media_type",
}

log = structlog.get_logger()


def install(app: Flask) -> None:
    """Answer every error of the application here."""
    app.register_error_handler(RequestError, _request_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _bug)
    app.before_request(_number_request)
    app.after_request(_name_request)


def _request_error(error: RequestError) -> Response:
    extra: dict[str, object] = {}
    if isinstance(error, StaleAttempt) and error.tags:
        extra["tags"] = [{"reference": r, "digest": d} for r, d in error.tags]
    answer = _answer(error.status, error.code, error.message, errors=error.errors, extra=extra)
    if error.status == 503:
        answer.headers["Retry-After"] = "5"
    if error.status == 401 and _for_api():
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if 300 <= status < 400:
        return Response(status=status, headers=dict(error.get_headers()))
    code = _CODES.get(status, "bad_request")
    answer = _answer(status, code, _TITLES.get(status, "The request cannot be answered") + ".")
    for name, value in error.get_headers():
        if name == "Allow":
            answer.headers[name] = value
    return answer


def _bug(error: Exception) -> Response:
    log.error("unhandled_error", request_id=g.get("request_id"), exc_info=error)
    return _answer(500, "internal", "Something went wrong in the farm; its log has the details.")


def _answer(
    status: int,
    code: str,
    detail: str,
    *,
    errors: tuple[FieldError, ...] = (),
    extra: Mapping[str, object] | None = None,
) -> Response:
    title = _TITLES.get(status, "Error")
    if not _for_api():
        return pages_errors.page(status, title, detail)
    body: dict[str, object] = {
        "type": f"urn:farm:error:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "instance": request.path,
        "request_id": g.get("request_id"),
    }
    if errors:
        body["errors"] = [
            {"pointer": e.pointer, "code": e.code, "message": e.message} for e in errors
        ]
    answer = jsonify({**body, **(extra or {})})
    answer.status_code = status
    answer.mimetype = PROBLEM
    return answer


def _for_api() -> bool:
    path = request.path
    return path.startswith(("/api/", "/worker/", "/metrics", "/healthz", "/readyz", "/version"))


def _number_request() -> None:
    given = request.headers.get("X-Request-ID", "")
    sane = 0 < len(given) <= 64 and all(c.isalnum() or c in "-_." for c in given)
    g.request_id = given if sane else secrets.token_hex(8)


def _name_request(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.get("request_id", "")
    return response
