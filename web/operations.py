"""What operators and their tools ask: is it up, is it ready, what does it count."""

from __future__ import annotations

import hmac

from flask import Blueprint, Response, jsonify
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from redis.exceptions import RedisError
from sqlalchemy import func, select

import farm
from farm import db, fleet, schema
from farm.errors import Unavailable
from farm.model import Build, Part
from farm.protocol import PROTOCOL
from farm.states import BuildStatus
from farm.wakeups import connect
from web import auth
from web.context import Services, services

blueprint = Blueprint("operations", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process is up; asks nothing of anybody."""
    return jsonify({"status": "ok"})


@blueprint.get("/readyz")
def readyz() -> Response:
    """Whether builds can be taken: the database answers and has this version's schema.

    Redis is reported and not required: without it builds are still taken, only later
    started.
    """
    checks = {"database": _database(services()), "redis": _redis(services())}
    ready = checks["database"] == "ok"
    response = jsonify({"status": "ok" if ready else "unavailable", "checks": checks})
    response.status_code = 200 if ready else 503
    return response


@blueprint.get("/version")
def version() -> Response:
    """The farm's version and the worker protocol that it speaks."""
    return jsonify({"version": farm.__version__, "worker_protocol": PROTOCOL})


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus metrics, read from the database when asked."""
    expected = services().settings.metrics_token
    if not (expected and hmac.compare_digest(expected.encode(), (auth.bearer() or "").encode())):
        auth.require("read")
    registry = CollectorRegistry()
    registry.register(_FromDatabase(services()))
    return Response(generate_latest(registry), mimetype="text/plain; version=0.0.4")


def _database(farm_services: Services) -> str:
    try:
        with farm_services.database.read() as session:
            revision = schema.revision_of(session)
    except Unavailable:
        return "unreachable"
    return "ok" if revision == schema.NEWEST else "schema is not current: farm db upgrade"


def _redis(farm_services: Services) -> str:
    client = connect(farm_services.settings.redis_url)
    try:
        client.ping()
    except RedisError:
        return "unreachable"
    finally:
        client.close()
    return "ok"


class _FromDatabase:
    """Counts what the database knows, so that several web processes agree."""

    def __init__(self, farm_services: Services) -> None:
        self._services = farm_services

    def collect(self) -> list[GaugeMetricFamily]:
        """The families of one scrape."""
        with self._services.database.read() as session:
            now = db.now(session)
            builds = session.execute(
                select(Build.status, Build.trigger, func.count()).group_by(
                    Build.status, Build.trigger
                )
            )
            waiting = session.execute(
                select(func.count()).where(
                    Part.status == BuildStatus.QUEUED, Part.placed_worker_id.is_(None)
                )
            ).scalar_one()
            workers = fleet.list_workers(
                session, now=now, heartbeat_s=self._services.settings.heartbeat_s
            )
            total = GaugeMetricFamily(
                "farm_builds",
                "Builds by status and trigger.",
                labels=["status", "trigger"],
            )
            for status, trigger, count in builds:
                total.add_metric([status, trigger], count)
        depth = GaugeMetricFamily("farm_queue_depth", "Parts that wait for a worker.", waiting)
        states = GaugeMetricFamily("farm_workers", "Workers by state.", labels=["state"])
        for state in ("online", "draining", "engine down", "offline"):
            states.add_metric([state], sum(worker.state == state for worker in workers))
        return [total, depth, states]
