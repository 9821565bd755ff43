"""What templates call: numbers, times and addresses as people read them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from flask import Flask, Response, make_response, render_template, request, url_for

from web import sessions

STATIC: Final = Path(__file__).parent / "static"
FRAGMENT_HEADER: Final = "Farm-Fragment"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def install(app: Flask) -> None:
    """Make the filters and functions of this module known to the application's templates."""
    filters: tuple[Callable[..., Any], ...] = (
        ago,
        clock,
        duration,
        exact,
        ordinal,
        size,
        span,
    )
    app.jinja_env.filters.update({function.__name__: function for function in filters})
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.context_processor(_page_context)


def page(template: str, *, status: int = 200, **values: Any) -> Response:
    """An HTML answer of the template with the values."""
    response = make_response(render_template(template, **values), status)
    response.headers["Vary"] = f"Accept, Cookie, {FRAGMENT_HEADER}"
    return response


def see_other(address: str) -> Response:
    """On to another page, asked for with GET."""
    return Response(status=303, headers={"Location": address})


def wants_json() -> bool:
    """Whether the request prefers JSON to a page, as scripts say by `Accept`."""
    kinds = request.accept_mimetypes
    best = kinds.best_match(["text/html", "application/json"], default="text/html")
    return best == "application/json" and kinds[best] > kinds["text/html"]


def fragment() -> str | None:
    """The part of the page that one of our own scripts asks for, if one does."""
    return request.headers.get(FRAGMENT_HEADER)


def address(path: str, query: Mapping[str, str | Iterable[str]]) -> str:
    """A path with its query, empty values left out: the shortest link to the same thing."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        values = [value] if isinstance(value, str) else value
        pairs += [(name, one) for one in values if one]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 m 05 s`, `1 h 12 m`; nothing for None."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} m {whole % _MINUTE:02d} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} m"


def span(low_high: tuple[float, float]) -> str:
    """A range of time that does not pretend to know more than it does."""
    low, high = (duration(float(round(end))).replace(".0", "") for end in low_high)
    return low if low == high else f"{low} to {high}"


def size(count: int | None) -> str:
    """Bytes in the decimal units that Docker shows."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit in ("B", "kB") else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, in one unit; a date when it is more than a month."""
    seconds = (now - moment).total_seconds()
    if seconds < 1:
        return "now"
    for limit, length, unit in (
        (90, 1, "s"),
        (90 * 60, _MINUTE, "min"),
        (36 * 3600, _HOUR, "h"),
    ):
        if seconds < limit:
            return f"{int(seconds // length)} {unit} ago"
    if seconds < 31 * _DAY:
        return f"{int(seconds // _DAY)} days ago"
    return moment.strftime("%-d %b %Y")


def exact(moment: datetime) -> str:
    """The moment in full, for a title."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(moment: datetime) -> str:
    """The time of day; its date is said nearby."""
    return moment.strftime("%H:%M:%S")


def ordinal(place: int) -> str:
    """1st, 2nd, 3rd, 4th …"""
    teen = place % 100 in (11, 12, 13)
    ending = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def static_url(name: str) -> str:
    """The address of a static file with its content's hash: it may be cached for ever."""
    return url_for("static", filename=name, v=_content_hash(name))


@lru_cache(maxsize=64)
def _content_hash(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def _page_context() -> dict[str, Any]:
    return {
        "static_url": static_url,
        "principal": sessions.current(),
        "csrf_token": sessions.csrf_token,
    }
