"""Celery: its settings, and sending. The one module of `farm` that imports it.

A message is two integers and only a hint: the database decides at the claim. The
settings are those that survived every fault that was tried (docs/adr/0001): early
ack and no prefetch, because late ack runs long builds twice and crashes a worker
that is half busy when Redis goes; short socket time-outs, because a half-open
connection otherwise hangs for ever; no result backend, no ETA, no remote control.
"""

from __future__ import annotations

from queue import Empty
from typing import Any

import structlog
from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis
from redis.exceptions import ResponseError

from farm.protocol import ATTEMPT_TASK, queue_of

log = structlog.get_logger()

SEND_ERRORS = (OperationalError, OSError)
"""What sending raises when the broker is away: the sweep will send again."""


class _Channel(kombu_redis.Channel):
    """Drops what is no message, where kombu would end the whole worker.

    Anybody who reaches Redis can put garbage on a queue. A message is only a hint, so
    nothing is lost with one that cannot be read: what it stood for is placed anew.
    """

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except self.connection_errors:
            raise
        except Empty:
            raise
        except ResponseError as exc:  # the queue's key holds something that is no list
            log.warning("queue_removed", error=type(exc).__name__)
            self._remove_queues()
        except Exception as exc:  # noqa: BLE001  whatever a message can break
            log.warning("message_dropped", error=type(exc).__name__)
        raise Empty

    def _remove_queues(self) -> None:
        with self.conn_or_acquire() as client:
            for queue in self.active_queues:
                for step in self.priority_steps:
                    client.delete(self._q_for_pri(queue, step))  # type: ignore[no-untyped-call]


class _Transport(kombu_redis.Transport):
    Channel = _Channel


class FarmCelery(Celery):  # type: ignore[misc]  # Celery is not typed
    """Celery that reads its queues through a channel which garbage does not end."""

    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:
        """The connection of a worker's consumer."""
        connection: Connection = super().connection_for_read(url, **options)
        connection.transport_cls = _Transport
        return connection


def make_celery(broker_url: str) -> Celery:
    """The Celery application, for sending and for a worker alike."""
    app = FarmCelery("farm", broker=broker_url, set_as_current=False)
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
