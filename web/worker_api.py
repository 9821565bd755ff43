"""The door for workers: every verb of `farm.protocol`, answered from the database."""

from __future__ import annotations

from flask import Blueprint, Response, request
from pydantic import BaseModel

from farm import access, attempts, credentials, db, fleet
from farm.ending import FarmLimits
from farm.errors import Invalid, StaleAttempt, Unauthenticated
from farm.model import Worker
from farm.protocol import (
    CLAIM_HEADER,
    LOG_CHUNK_BYTES,
    Carried,
    CheckedIn,
    CheckIn,
    Commit,
    Enrolment,
    Finish,
    HandBack,
    Heartbeat,
    LogReceived,
    Publish,
    Resolved,
    Steps,
    queue_of,
)
from web import auth
from web.context import services
from web.reading import body, whole

blueprint = Blueprint("worker_api", __name__, url_prefix="/worker/v1")

_ATTEMPT = "/attempts/<int(max=2147483647):part>/<int(max=2147483647):attempt>"
_WATCHED_MS = 100
_UNWATCHED_MS = 1000
_MAX_OFFSET = 2**40


@blueprint.post("/enrol")
def enrol() -> Response:
    """Exchange an enrolment token for the worker's own."""
    wanted = body(Enrolment)
    with services().database.write() as session:
        enrolled = fleet.enrol(session, _bearer(), wanted, now=db.now(session))
    return _answer(enrolled)


@blueprint.post("/check-in")
def check_in() -> Response:
    """A worker says what it is and how it stands."""
    worker_id = _worker_id()
    report, settings = body(CheckIn), services().settings
    with services().database.write() as session:
        worker = session.get_one(Worker, worker_id)
        matters = fleet.check_in(session, worker, report, now=db.now(session))
        answer = CheckedIn(
            name=worker.name,
            queue=queue_of(worker.name),
            broker_url=settings.broker_for_workers,
            heartbeat_s=settings.heartbeat_s,
            lease_s=settings.lease_s,
            draining=worker.draining,
        )
    if matters:
        services().wakeups.scheduler()
    return _answer(answer)


@blueprint.post(f"{_ATTEMPT}/claim")
def claim(part: int, attempt: int) -> Response:
    """Take a part: the spec, and credentials for this attempt only; or stale."""
    worker_id = _worker_id()
    token, settings = _claim_token(), services().settings
    with services().database.write() as session:
        now = db.now(session)
        worker = session.get_one(Worker, worker_id)
        missing = attempts.missing_at_claim(session, worker, part, attempt, now=now)
        if missing is None:
            claimed = attempts.claim(
                session,
                worker,
                part,
                attempt,
                token,
                now=now,
                limits=FarmLimits.of(settings),
            )
            answer = credentials.claim_answer(session, claimed, services().sealer, settings)
    if missing is not None:
        _changed(missing)
        raise StaleAttempt("The build cannot start: a secret is missing.")
    _changed(int(answer.build_id), placement=False)
    return _answer(answer)


@blueprint.post(f"{_ATTEMPT}/resolved")
def resolved(part: int, attempt: int) -> Response:
    """The commit that the worker found; the answer is the one to build."""
    worker_id = _worker_id()
    found = body(Resolved)
    with services().database.write() as session:
        attempts.require_worker(session, worker_id, part, attempt)
        commit = attempts.resolved(
            session,
            part,
            attempt,
            _claim_token(),
            Commit(sha=found.sha, commit_date=found.commit_date),
        )
        build_id = attempts.check_fence(session, part, attempt, _claim_token())
    _changed(build_id, placement=False)
    return _answer(commit)


@blueprint.post(f"{_ATTEMPT}/heartbeat")
def heartbeat(part: int, attempt: int) -> Response:
    """The worker is alive; the answer says whether to stop."""
    worker_id = _worker_id()
    report, limits = body(Heartbeat), FarmLimits.of(services().settings)
    with services().database.write() as session:
        attempts.require_worker(session, worker_id, part, attempt)
        cancel = attempts.heartbeat(
            session,
            part,
            attempt,
            _claim_token(),
            phase=report.phase,
            now=db.now(session),
            lease=limits.lease,
        )
    return _answer(Carried(cancel=cancel, lease_s=services().settings.lease_s))


@blueprint.post(f"{_ATTEMPT}/steps")
def steps(part: int, attempt: int) -> Response:
    """BuildKit steps, each over its earlier report."""
    worker_id = _worker_id()
    report = body(Steps)
    with services().database.write() as session:
        attempts.require_worker(session, worker_id, part, attempt)
        build_id, _ = attempts.record_steps(session, part, attempt, _claim_token(), report.steps)
        cancel = attempts.cancel_asked(session, build_id)
    _changed(build_id, placement=False)
    return _answer(Carried(cancel=cancel, lease_s=services().settings.lease_s))


@blueprint.post(f"{_ATTEMPT}/log")
def log(part: int, attempt: int) -> Response:
    """Log bytes from an offset on; the answer says how many there are and when to send more."""
    worker_id = _worker_id()
    offset = whole("offset", least=0, most=_MAX_OFFSET)
    data = request.stream.read(LOG_CHUNK_BYTES + 1)
    if offset is None or len(data) > LOG_CHUNK_BYTES:
        raise Invalid(f"Send offset, and at most {LOG_CHUNK_BYTES} bytes.")
    with services().database.read() as session:
        now = db.now(session)
        attempts.require_worker(session, worker_id, part, attempt)
        build_id = attempts.check_fence(session, part, attempt, _claim_token())
        cancel = attempts.cancel_asked(session, build_id)
    room = max(0, services().settings.log_limit + LOG_CHUNK_BYTES - offset)
    size = services().logs.append(part, attempt, offset, data[:room], now=now)
    services().wakeups.build(build_id)
    watched = services().live.watched(build_id)
    return _answer(
        LogReceived(size=size, next_ms=_WATCHED_MS if watched else _UNWATCHED_MS, cancel=cancel)
    )


@blueprint.post(f"{_ATTEMPT}/publish")
def publish(part: int, attempt: int) -> Response:
    """Record the digest; the answer says which names this build still owns."""
    worker_id = _worker_id()
    image = body(Publish)
    with services().database.write() as session:
        attempts.require_worker(session, worker_id, part, attempt)
        answer = attempts.publish(
            session, part, attempt, _claim_token(), image, now=db.now(session)
        )
    return _answer(answer)


@blueprint.post(f"{_ATTEMPT}/finish")
def finish(part: int, attempt: int) -> Response:
    """How the attempt ended."""
    worker_id = _worker_id()
    report, limits = body(Finish), FarmLimits.of(services().settings)
    with services().database.write() as session:
        attempts.require_worker(session, worker_id, part, attempt)
        attempts.finish(
            session,
            part,
            attempt,
            _claim_token(),
            report,
            now=db.now(session),
            limits=limits,
        )
        build_id = attempts.build_of(session, part)
    _changed(build_id)
    return Response(status=204)


@blueprint.post(f"{_ATTEMPT}/hand-back")
def hand_back(part: int, attempt: int) -> Response:
    """The worker stops: the part is queued again and no attempt is burnt."""
    worker_id = _worker_id()
    report, limits = body(HandBack), FarmLimits.of(services().settings)
    with services().database.write() as session:
        attempts.require_worker(session, worker_id, part, attempt)
        attempts.hand_back(
            session,
            part,
            attempt,
            _claim_token(),
            message=report.message,
            now=db.now(session),
            limits=limits,
        )
        build_id = attempts.build_of(session, part)
    _changed(build_id)
    return Response(status=204)


def _worker_id() -> int:
    """Who is calling: asked before a body is read or the writer is taken."""
    token = _bearer()
    with services().database.read() as session:
        return fleet.authenticate(session, token).id


def _bearer() -> str:
    token = auth.bearer()
    if token is None or not access.well_formed(token):
        raise Unauthenticated("Send the worker's token.", code="token_missing")
    return token


def _claim_token() -> str:
    token = request.headers.get(CLAIM_HEADER, "")
    if not (16 <= len(token) <= 64 and token.isalnum() and token.isascii()):
        raise Invalid(f"Send {CLAIM_HEADER}: 16 to 64 letters and digits.")
    return token


def _changed(build_id: int, *, placement: bool = True) -> None:
    services().wakeups.build(build_id)
    if placement:
        services().wakeups.scheduler()


def _answer(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), mimetype="application/json")
