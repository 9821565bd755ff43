"""The security headers of every answer: pages, API, static files, streams and errors."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, request

from web import sessions

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HSTS: Final = "max-age=31536000"
"""No includeSubDomains: the farm does not speak for its neighbours."""

_ALWAYS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with it browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def install(app: Flask) -> None:
    """Give every answer of the application its security headers."""
    app.after_request(secure)


def secure(response: Response) -> Response:
    """Add the headers; what a view has set itself about caching stands."""
    for name, value in _ALWAYS.items():
        response.headers[name] = value
    if sessions.is_https():
        response.headers["Strict-Transport-Security"] = HSTS
    if request.endpoint == "static":
        # A page names a static file with the hash of its content; other names are asked again.
        forever = "v" in request.args and response.status_code in (200, 304)
        caching = "public, max-age=31536000, immutable" if forever else "no-cache"
        response.headers["Cache-Control"] = caching
    elif "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    return response
