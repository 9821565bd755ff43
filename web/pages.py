"""The pages: what people see of builds, workers and projects, and what they do there.

Every page is complete without JavaScript. Unsafe requests are forms that carry their
session's CSRF token. Asked for with `Accept: application/json`, a list or a build
answers at the same address what the API says.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response, request

from farm import db, fleet, history, projects
from farm.errors import Forbidden, Unauthenticated
from farm.states import BuildStatus
from farm.views import BuildView
from web import (
    actions,
    pages_build,
    pages_errors,
    pages_history,
    pages_log,
    pages_workers,
    render,
    sessions,
)
from web.context import services
from web.render import page, see_other

blueprint: Final = Blueprint("pages", __name__)
PER_PAGE: Final = 50


@blueprint.get("/")
def index() -> Response:
    """The farm opens on its builds."""
    return see_other("/builds")


@blueprint.get("/builds")
def builds_page() -> Response:
    """The history, newest first."""
    sessions.require("read")
    filters = pages_history.Filters.of(request.args)
    cursor = request.args.get("cursor") or None
    with services().database.read() as session:
        now = db.now(session)
        found = history.list_page(
            session,
            filters.wanted,
            limit=PER_PAGE,
            cursor=cursor,
            base_url=services().settings.url,
        )
        known = [] if render.fragment() else projects.list_projects(session)
    if render.wants_json():
        return _json(found.model_dump_json())
    return page(
        "_history.html" if render.fragment() else "builds.html",
        history=pages_history.history(found.items, now=now),
        filters=filters,
        links=pages_history.status_links(filters),
        projects=known,
        older=found.next_cursor,
        newest=cursor is None,
        now=now,
        farm_url=services().settings.url,
    )


@blueprint.get("/builds/<int(max=999999999999999):build_id>")
def build_page(build_id: int) -> Response:
    """One build: what it is, where it stands, its steps, attempts, image and log."""
    sessions.require("read")
    with services().database.read() as session:
        now = db.now(session)
        build = history.get(session, build_id, base_url=services().settings.url)
        steps = history.steps(session, build_id)
        source = history.log_of(session, build_id)
    if render.wants_json():
        return _json(build.model_dump_json())
    values: dict[str, Any] = {
        "build": build,
        "page_title": f"{_word(build.status)} · {build.project} {build.subject} · Farm",
        "timeline": pages_build.timeline(build, now=now),
        "rows": pages_build.waterfall(steps, now=build.finished_at or now),
        "scale_s": pages_build.scale(steps, now=build.finished_at or now),
        "links": pages_build.links(build),
        "attempts": pages_build.tried(build),
        "message": "\n".join(map(pages_log.clean, (build.message or "").splitlines())),
        "now": now,
    }
    if render.fragment() == "live":
        return page("_live.html", **values)
    values |= _log(build, source)
    return page("_log.html" if render.fragment() == "log" else "build.html", **values)


@blueprint.post("/builds/<int(max=999999999999999):build_id>/cancel")
def cancel(build_id: int) -> Response:
    """Ask a build to end, then show it."""
    sessions.check_form()
    sessions.require("build")
    actions.cancel_build(build_id)
    return see_other(f"/builds/{build_id}")


@blueprint.post("/builds/<int(max=999999999999999):build_id>/retry")
def retry(build_id: int) -> Response:
    """Ask for the same again, then show the new build."""
    sessions.check_form()
    sessions.require("build")
    return see_other(f"/builds/{actions.retry_build(build_id).id}")


@blueprint.get("/workers")
def workers() -> Response:
    """Every worker: what it is, how busy, how well."""
    sessions.require("read")
    settings = services().settings
    with services().database.read() as session:
        now = db.now(session)
        found = fleet.list_workers(session, now=now, heartbeat_s=settings.heartbeat_s)
    rows = pages_workers.rows(found, disk_watermark=settings.disk_watermark)
    return page("workers.html", workers=rows, now=now, farm_url=settings.url)


@blueprint.post("/workers/<name>/drain", defaults={"draining": True})
@blueprint.post("/workers/<name>/resume", defaults={"draining": False})
def set_draining(name: str, *, draining: bool) -> Response:
    """Stop, or go on, giving builds to a worker."""
    sessions.check_form()
    sessions.require("admin")
    with services().database.write() as session:
        fleet.set_draining(session, name, draining=draining)
    services().wakeups.scheduler()
    return see_other("/workers")


@blueprint.get("/projects")
def projects_page() -> Response:
    """Every project, with a way to its builds."""
    sessions.require("read")
    with services().database.read() as session:
        now = db.now(session)
        found = projects.list_projects(session)
    return page("projects.html", projects=found, builds_of=pages_history.builds_of, now=now)


@blueprint.get("/sign-in")
def sign_in_page() -> Response:
    """The form, or on to where one wanted to go for those who are signed in."""
    target = sessions.safe_next(request.args.get("next"))
    if sessions.current():
        return see_other(target)
    return page("sign-in.html", next=target, problem="")


@blueprint.post("/sign-in")
def sign_in() -> Response:
    """Begin a session; a wrong token is said in the form, with nothing of it repeated."""
    sessions.check_same_origin()
    target = sessions.safe_next(request.form.get("next"))
    response = see_other(target)
    try:
        sessions.start(response, request.form.get("token", "").strip())
    except (Unauthenticated, Forbidden) as exc:
        return page("sign-in.html", status=exc.status, next=target, problem=exc.message)
    return response


@blueprint.post("/sign-out")
def sign_out() -> Response:
    """End the session on the server and in the browser."""
    sessions.check_form()
    response = see_other("/sign-in")
    sessions.end(response)
    return response


@blueprint.errorhandler(Unauthenticated)
def ask_to_sign_in(error: Unauthenticated) -> Response:
    """People go to the sign-in page and come back; scripts get a 401."""
    if render.wants_json() or render.fragment() or request.method != "GET":
        return pages_errors.page(401, "Not signed in", error.message)
    target = sessions.safe_next(request.full_path.rstrip("?"))
    return see_other(render.address("/sign-in", {"next": target}))


def _log(build: BuildView, source: tuple[int, int] | None) -> dict[str, Any]:
    """The values of the log's window: the last lines, or those around `?line=`."""
    line = request.args.get("line", type=int)
    shown = pages_log.read(services().logs, *source, line) if source else pages_log.NOTHING
    part_id, attempt = source or (0, 0)
    return {
        "window": shown.window,
        "lines": shown.lines,
        "first_error": shown.first_error,
        "log_address": pages_build.log_address(build),
        "events_address": f"/api/v1/builds/{build.id}/events",
        "log_place": f"{part_id}.{attempt}.{shown.offset}.0" if source else "",
        "follows": build.active and shown.window.at_end,
    }


def _json(body: str) -> Response:
    return Response(body, mimetype="application/json", headers={"Vary": "Accept, Cookie"})


def _word(status: BuildStatus) -> str:
    return status.value.replace("_", " ").capitalize()
