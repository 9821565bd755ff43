"""The API for those who run a farm: projects, registries, secrets, tokens, workers."""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, Response, jsonify

from farm import access, db, fleet, projects
from farm.references import check_registry_host
from web import actions, auth
from web.api import answer, answer_list
from web.context import services
from web.reading import body, identifier, short_text
from web.schemas import ChangedProject, ChangedWorker, NewProject, NewRegistry, NewSecret, NewToken

blueprint = Blueprint("admin_api", __name__, url_prefix="/api/v1")


@blueprint.get("/projects")
def list_projects() -> Response:
    """Every project."""
    auth.require("read")
    with services().database.read() as session:
        return answer_list(projects.list_projects(session))


@blueprint.post("/projects")
def add_project() -> Response:
    """Register a project; its host may then be a private address."""
    auth.require("admin")
    wanted = body(NewProject)
    actions.require_https(wanted.repository)
    with services().database.write() as session:
        project = projects.add(
            session,
            name=wanted.name,
            repository=wanted.repository,
            git_username=wanted.git_username,
            git_token=wanted.git_token,
            sealer=services().sealer,
            trusted_host=True,
            now=db.now(session),
        )
        view = projects.view(project)
    return answer(view, status=201, location=f"/api/v1/projects/{view.name}")


@blueprint.get("/projects/<path:name>")
def get_project(name: str) -> Response:
    """One project."""
    auth.require("read")
    with services().database.read() as session:
        return answer(projects.view(projects.find(session, name)))


@blueprint.patch("/projects/<path:name>")
def change_project(name: str) -> Response:
    """Give a project other git credentials, also one that a build's URL has made."""
    auth.require("admin")
    wanted = body(ChangedProject)
    with services().database.write() as session:
        project = projects.change(
            session,
            name,
            git_username=wanted.git_username,
            git_token=wanted.git_token,
            sealer=services().sealer,
        )
        view = projects.view(project)
    return answer(view)


@blueprint.delete("/projects/<path:name>")
def remove_project(name: str) -> Response:
    """Forget a project with its history; 409 while a build of it is not over."""
    auth.require("admin")
    with services().database.write() as session:
        logs = projects.remove(session, name)
    for part_id, attempt in logs:
        services().logs.remove(part_id, attempt)
    return Response(status=204)


@blueprint.get("/registries")
def list_registries() -> Response:
    """Every registry login, without its password."""
    auth.require("read")
    with services().database.read() as session:
        return answer_list(projects.list_registries(session))


@blueprint.post("/registries")
def set_registry() -> Response:
    """Store a login to a registry, replacing the one that is there."""
    auth.require("admin")
    wanted = body(NewRegistry)
    with services().database.write() as session:
        view = projects.set_registry(
            session,
            host=wanted.host,
            username=wanted.username,
            password=wanted.password,
            project=wanted.project,
            sealer=services().sealer,
            now=db.now(session),
        )
    return answer(view, status=201)


@blueprint.delete("/registries/<host>")
def remove_registry(host: str) -> Response:
    """Forget a login to a registry."""
    auth.require("admin")
    try:
        known = check_registry_host(host)
    except ValueError:
        known = ""
    with services().database.write() as session:
        projects.remove_registry(session, known, short_text("project"))
    return Response(status=204)


@blueprint.get("/secrets")
def list_secrets() -> Response:
    """Every secret's name."""
    auth.require("read")
    with services().database.read() as session:
        return answer_list(projects.list_secrets(session))


@blueprint.post("/secrets")
def set_secret() -> Response:
    """Store a secret, replacing the one that is there."""
    auth.require("admin")
    wanted = body(NewSecret)
    with services().database.write() as session:
        view = projects.set_secret(
            session,
            name=wanted.name,
            value=wanted.value,
            project=wanted.project,
            sealer=services().sealer,
            now=db.now(session),
        )
    return answer(view, status=201)


@blueprint.delete("/secrets/<name>")
def remove_secret(name: str) -> Response:
    """Forget a secret."""
    auth.require("admin")
    with services().database.write() as session:
        projects.remove_secret(session, name, short_text("project"))
    return Response(status=204)


@blueprint.get("/tokens")
def list_tokens() -> Response:
    """Every token, without its value."""
    auth.require("admin")
    with services().database.read() as session:
        return answer_list(access.list_tokens(session))


@blueprint.post("/tokens")
def create_token() -> Response:
    """Make a token; this answer is the only one that holds it."""
    auth.require("admin")
    wanted = body(NewToken)
    with services().database.write() as session:
        token = access.create_token(
            session,
            name=wanted.name,
            scopes=wanted.scopes,
            zone=wanted.zone,
            labels=wanted.labels,
            expires_in=timedelta(days=wanted.expires_days) if wanted.expires_days else None,
            now=db.now(session),
        )
    response = jsonify({"token": token})
    response.status_code = 201
    return response


@blueprint.delete("/tokens/<token_id>")
def revoke_token(token_id: str) -> Response:
    """From now on the token opens nothing."""
    auth.require("admin")
    with services().database.write() as session:
        access.revoke_token(session, identifier(token_id), now=db.now(session))
    return Response(status=204)


@blueprint.get("/workers")
def list_workers() -> Response:
    """Every worker and how it stands."""
    auth.require("read")
    with services().database.read() as session:
        workers = fleet.list_workers(
            session, now=db.now(session), heartbeat_s=services().settings.heartbeat_s
        )
    return answer_list(workers)


@blueprint.route("/workers/<name>", methods=["PATCH"])
def change_worker(name: str) -> Response:
    """Drain or resume a worker."""
    auth.require("admin")
    wanted = body(ChangedWorker)
    with services().database.write() as session:
        fleet.set_draining(session, name, draining=wanted.draining)
        workers = fleet.list_workers(
            session, now=db.now(session), heartbeat_s=services().settings.heartbeat_s
        )
    services().wakeups.scheduler()
    return answer(next(worker for worker in workers if worker.name == name))


@blueprint.delete("/workers/<name>")
def remove_worker(name: str) -> Response:
    """Forget a worker; 409 while it holds builds."""
    auth.require("admin")
    with services().database.write() as session:
        fleet.remove(session, name, now=db.now(session))
    return Response(status=204)
