"""The worker process: enrol, check in, then a Celery worker on a queue of its own.

The composition root of this package. The process ends when it is told to, or when
the control plane gives it another queue or broker; whoever started it starts it
again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType

import structlog

from farm import logging as farm_logging
from farm.broker import make_celery
from farm.errors import SettingsError
from farm.protocol import PROTOCOL, CheckedIn, Enrolment
from farm.settings import Settings, process_environment
from workers import control as control_module
from workers import tasks
from workers.answers import ControlRefused, NotEnrolled
from workers.caretaker import Caretaker, CheckIns
from workers.control import LONGEST_RETRY_S, Control, enrol, insist
from workers.engine import Engine
from workers.git import Git
from workers.identity import Identity
from workers.janitor import Janitor
from workers.pool import PoolProcess, Shutdown, run_pool
from workers.spool import Spool
from workers.toolbox import Layout

log = structlog.get_logger()


def run(settings: Settings) -> int:
    """Run the worker until it is told to stop; its exit code.

    Raises SettingsError when it cannot begin: no enrolment token, one that the farm
    does not know, or another worker in its folder.
    """
    farm_logging.configure(settings)
    # Until the pool is there a stop has nothing to wait for.
    signal.signal(signal.SIGTERM, _leave)
    layout = Layout.of(settings)
    lock = _lock(layout)
    environment = process_environment()
    engine = Engine(environment)
    spool = Spool(layout.spool)
    spool.prepare()
    git = Git(layout.home, insecure_ok=settings.insecure_ok, own_environment=environment)
    git.prepare()

    control, check_ins = _join(settings, layout, engine)
    janitor = Janitor(layout.tmp, spool)
    janitor.sweep()
    engine.untag_local(control.worker)
    first = _first_check_in(check_ins)
    log.info("worker_checked_in", worker=first.name, queue=first.queue, slots=settings.worker_slots)

    shutdown = Shutdown(settings.drain_s)
    caretaker = Caretaker(
        check_ins,
        janitor,
        spool,
        git,
        control,
        engine=engine,
        first=first,
        restart=_stop_this_process,
    )
    shutdown.on_begin = caretaker.stopping
    process = PoolProcess(
        settings, layout, environment, broker_url=first.broker_url, shutdown=shutdown, lock=lock
    )
    app = make_celery(first.broker_url)
    tasks.register(app, process.tools)
    try:
        return run_pool(
            app,
            name=first.name,
            queue=first.queue,
            slots=settings.worker_slots,
            process=process,
            shutdown=shutdown,
            on_forked=caretaker.start,
        )
    finally:
        with contextlib.suppress(OSError):
            layout.tmp.rmdir()  # empty by now, unless something is left to report


def _join(settings: Settings, layout: Layout, engine: Engine) -> tuple[Control, CheckIns]:
    """The control plane as this worker reaches it: enrolled, if it was not yet."""
    server = (settings.server or settings.url).rstrip("/")
    client = control_module.make_client()

    def enrol_again() -> None:
        identity = Identity.load(layout.identity_file, name=settings.worker_name, server=server)
        if not settings.worker_token:
            raise SettingsError(
                "FARM_WORKER_TOKEN: this worker is not enrolled; make a token with "
                "`farm worker token` and set it"
            )
        wanted = Enrolment(name=settings.worker_name, protocol=PROTOCOL, instance=identity.instance)
        # On the disk before it is used: the farm knows this worker by its instance.
        identity.write(layout.identity_file)
        try:
            enrolled = enrol(client, server, settings.worker_token, wanted)
        except NotEnrolled as exc:
            raise SettingsError(
                "FARM_WORKER_TOKEN: the farm does not know this token, or it was revoked"
            ) from exc
        replace(identity, name=enrolled.name, token=enrolled.token).write(layout.identity_file)
        log.info("worker_enrolled", worker=enrolled.name)

    known = Identity.load(layout.identity_file, name=settings.worker_name, server=server)
    if not known.token:
        _patiently(enrol_again)
    control = Control(client, layout.identity_file)
    return control, CheckIns(
        control, engine, layout, slots=settings.worker_slots, enrol_again=enrol_again
    )


def _first_check_in(check_ins: CheckIns) -> CheckedIn:
    answer: list[CheckedIn] = []
    _patiently(lambda: answer.append(check_ins.now()))
    return answer[0]


def _patiently(call: Callable[[], None]) -> None:
    """Call until the control plane answers: it may well start after its workers."""
    while True:
        try:
            insist(call, wait=time.sleep)
        except ControlRefused as exc:
            # Another version of the farm, perhaps about to be replaced by ours.
            log.warning("control_plane_refused", error=str(exc))
            time.sleep(LONGEST_RETRY_S)
        else:
            return


def _lock(layout: Layout) -> int:
    """Hold the folder: two workers in one would send each other's results and remove logs."""
    lock = os.open(layout.lock_file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise SettingsError(
            "FARM_WORKER_DIR: another worker uses this folder; give each worker its own"
        ) from exc
    return lock


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(os.EX_OK)


def _stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
