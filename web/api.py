"""The API for people and scripts: builds.

One build, read in order: here -> farm/builds.py -> farm/placement.py ->
workers/tasks.py -> workers/runner.py -> web/worker_api.py -> farm/attempts.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flask import Blueprint, Response, request
from pydantic import BaseModel

from farm import history
from farm.errors import Invalid
from farm.history import MAX_LIMIT, BuildFilter
from farm.spec import BuildRequest
from farm.states import BuildStatus, Trigger
from web import actions, auth, stream
from web.context import services
from web.reading import body, choices, identifier, known_parameters, short_text, whole

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

_PAGE = 20
_BLOCK = 64 * 1024
_MAX_LINES = 2**31 - 1


@blueprint.post("/builds")
def request_build() -> Response:
    """Ask for a build: 202 with its address, and the build as it stands."""
    principal = auth.require("build")
    wanted = body(BuildRequest)
    trigger = Trigger.CLI if request.headers.get("Farm-Client") == "cli" else Trigger.API
    build = actions.request_build(principal, wanted, trigger=trigger, key=_idempotency_key())
    return answer(build, status=202, location=f"/api/v1/builds/{build.id}")


@blueprint.get("/builds")
def list_builds() -> Response:
    """The history, newest first, a page at a time."""
    auth.require("read")
    known_parameters("status", "project", "pull_request", "q", "limit", "cursor")
    wanted = BuildFilter(
        status=choices("status", BuildStatus),
        project=short_text("project"),
        pull_request=whole("pull_request"),
        q=short_text("q"),
    )
    limit = whole("limit", _PAGE, most=MAX_LIMIT) or _PAGE
    with services().database.read() as session:
        page = history.list_page(
            session,
            wanted,
            limit=limit,
            cursor=short_text("cursor"),
            base_url=services().settings.url,
        )
    return answer(page)


@blueprint.get("/builds/<build_id>")
def get_build(build_id: str) -> Response:
    """One build."""
    auth.require("read")
    with services().database.read() as session:
        build = history.get(session, identifier(build_id), base_url=services().settings.url)
    return answer(build)


@blueprint.get("/builds/<build_id>/steps")
def list_steps(build_id: str) -> Response:
    """The BuildKit steps of the latest attempt."""
    auth.require("read")
    with services().database.read() as session:
        steps = history.steps(session, identifier(build_id))
    return answer_list(steps)


@blueprint.get("/builds/<build_id>/log")
def get_log(build_id: str) -> Response:
    """The log as text: whole, or the lines `from` to `to`, numbered from 1, inclusive."""
    auth.require("read")
    known_parameters("platform", "attempt", "from", "to")
    first = whole("from", 1, most=_MAX_LINES) or 1
    last = whole("to", most=_MAX_LINES)
    if last is not None and last < first:
        raise Invalid.field("to", "must not be before from")
    with services().database.read() as session:
        source = history.log_of(
            session,
            identifier(build_id),
            platform=short_text("platform"),
            attempt=whole("attempt"),
        )
    lines: Iterator[bytes] = iter(())
    if source is not None:
        lines = services().logs.lines(*source, first=first, last=last)
    return Response(
        _in_blocks(lines),
        mimetype="text/plain",
        headers={"Content-Disposition": f'inline; filename="build-{identifier(build_id)}.log"'},
    )


@blueprint.get("/builds/<build_id>/events")
def follow_build(build_id: str) -> Response:
    """The build as it happens: server-sent events, resumable by Last-Event-ID."""
    auth.require("read")
    return stream.follow(identifier(build_id), request.headers.get("Last-Event-ID"))


@blueprint.post("/builds/<build_id>/cancel")
def cancel_build(build_id: str) -> Response:
    """End a build; 409 when it is over or has published its image."""
    auth.require("build")
    return answer(actions.cancel_build(identifier(build_id)), status=202)


@blueprint.post("/builds/<build_id>/retry")
def retry_build(build_id: str) -> Response:
    """A new build of the same commit, linked; 409 while the old one is not over."""
    auth.require("build")
    build = actions.retry_build(identifier(build_id))
    return answer(build, status=202, location=f"/api/v1/builds/{build.id}")


def answer(view: BaseModel, *, status: int = 200, location: str | None = None) -> Response:
    """A view as JSON."""
    response = Response(view.model_dump_json(), status, mimetype="application/json")
    if location is not None:
        response.headers["Location"] = location
    return response


def answer_list(views: Sequence[BaseModel]) -> Response:
    """A whole list as JSON, in the shape that every list has."""
    items = ",".join(view.model_dump_json() for view in views)
    return Response(f'{{"items":[{items}],"next_cursor":null}}', mimetype="application/json")


def _in_blocks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines in larger pieces: the server handles each piece on its own."""
    block = b""
    for line in lines:
        block += line
        if len(block) >= _BLOCK:
            yield block
            block = b""
    yield block


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= 255 and key.isprintable()):
        raise Invalid("The Idempotency-Key must be 1 to 255 printable characters.")
    return key
