"""Celery: its settings, and sending. The one module of `farm` that imports it.

A message is two integers and only a hint: the database decides at the claim. The
settings are those that survived every fault that was tried (docs/adr/0001): early
ack and no prefetch, because late ack runs long builds twice and crashes a worker
that is half busy when Redis goes; short socket time-outs, because a half-open
connection otherwise hangs for ever; no result backend, no ETA, no remote control.
"""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from farm.protocol import ATTEMPT_TASK, queue_of

SEND_ERRORS = (OperationalError, OSError)
"""What sending raises when the broker is away: the sweep will send again."""


def make_celery(broker_url: str) -> Celery:
    """The Celery application, for sending and for a worker alike."""
    app = Celery("farm", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_acks_late=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        event_serializer="json",
        task_publish_retry=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_max_tasks_per_child=200,
        task_default_queue="farm.unused",
        task_create_missing_queues=True,
        broker_transport_options={
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "queue_order_strategy": "priority",
        },
    )
    return app


class Dispatcher:
    """Sends the message that tells a worker to claim a part."""

    def __init__(self, broker_url: str) -> None:
        self._app = make_celery(broker_url)

    def send(self, worker: str, part_id: int, attempt: int) -> None:
        """Put the hint on the worker's queue; raises one of SEND_ERRORS when it cannot."""
        self._app.send_task(
            ATTEMPT_TASK,
            args=(part_id, attempt),
            task_id=f"{part_id}.{attempt}",
            queue=queue_of(worker),
            retry=False,
            ignore_result=True,
        )

    def close(self) -> None:
        """Close the connections to the broker."""
        self._app.close()
