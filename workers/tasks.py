"""The one Celery task of a worker: a message is two integers, and only a hint."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from celery import Celery

from farm.protocol import ATTEMPT_TASK
from workers.runner import Attempt
from workers.toolbox import Toolbox

log = structlog.get_logger()


def register(app: Celery, tools: Callable[[], Toolbox]) -> None:
    """Give the application its task; `tools` is asked in the pool process that runs it."""

    @app.task(name=ATTEMPT_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def run_attempt(part_id: object, number: object) -> None:
        if not (isinstance(part_id, int) and isinstance(number, int)):
            log.error("message_refused")
            return
        attempt = Attempt(tools(), part_id, number)
        try:
            attempt.carry_out()
        except Exception as exc:
            log.exception("attempt_broke", part=part_id, attempt=number)
            attempt.report_fault(exc)
