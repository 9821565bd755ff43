"""The page, or the few bytes of JSON, that say what went wrong and what helps."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlsplit

from flask import Response, g, request

from web import render

_HINTS: Final = {
    403: "Sign out and in again with a token that may do this.",
    404: "The address may be mistyped, or what it named has been removed.",
    500: "Nothing is lost: builds go on.",
    503: "Try again in a moment.",
}


def page(status: int, title: str, message: str) -> Response:
    """A whole page for people; problem+json for scripts that ask a page's address for JSON."""
    if render.wants_json():
        problem = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": message,
        }
        return Response(json.dumps(problem), status, mimetype="application/problem+json")
    if status >= 500:
        g.setdefault("session_principal", None)  # what broke may be the database: do not ask it
    return render.page(
        "error.html",
        status=status,
        code=status,
        title=title,
        message=message,
        hint=_HINTS.get(status, ""),
        back=_back(),
    )


def _back() -> str:
    """The page of ours that the request came from, if it did."""
    came_from = urlsplit(request.referrer or "")
    here = came_from.netloc == request.host and came_from.path != request.path
    return came_from.path if here else ""
