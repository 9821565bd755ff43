"""How an attempt's end reaches the control plane: now, or over the spool."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from farm.errors import StaleAttempt
from farm.protocol import Finish
from farm.reasons import Reason
from farm.states import Outcome
from workers.answers import ControlRefused, ControlSilent, NotEnrolled
from workers.control import AttemptControl, insist
from workers.logship import LogShipper
from workers.spool import Spool, Undelivered

log = structlog.get_logger()

LAST_LOG_S = 10.0
"""How long the end waits for the log's last bytes before the spool takes over."""
FINISH_FOR_S = 10.0
"""How long the end itself is tried before the spool takes over."""


@dataclass(frozen=True)
class End:
    """How an attempt ended; no `finish`: the part is handed back."""

    finish: Finish | None
    message: str = ""


def fault_of(error: BaseException) -> End:
    """The end of an attempt that an error of the worker's own broke off."""
    message = f"an error of the worker's own: {type(error).__name__}"
    return End(Finish(outcome=Outcome.ERRORED, reason=Reason.WORKER_FAULT, message=message))


@dataclass
class Timeline:
    """Seconds spent in each part of the recipe."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside."""
        began = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - began
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 4)


class Reporter:
    """Reports the end of one attempt."""

    def __init__(self, control: AttemptControl, spool: Spool) -> None:
        self._control = control
        self._spool = spool

    def deliver(self, end: End | None, shipper: LogShipper) -> None:
        """Bring log and end to the control plane, or leave both to the spool."""
        delivered = shipper.close(within_s=0.0 if end is None else LAST_LOG_S)
        if end is None:
            shipper.discard()
            return
        if end.finish is not None:
            end = End(end.finish.model_copy(update={"log_size": shipper.size}))
        if not delivered:
            self._keep(end, shipper)
        elif self.report(end):
            shipper.discard()

    def report(self, end: End) -> bool:
        """Report the end; False if it went to the spool."""
        control = self._control

        def send() -> None:
            if end.finish is not None:
                control.finish(end.finish)
            else:
                control.hand_back(end.message)

        try:
            insist(send, wait=time.sleep, for_s=FINISH_FOR_S)
        except StaleAttempt:
            log.info("end_void", attempt=control.name)
        except (ControlSilent, NotEnrolled):
            self._keep(end, None)
            return False
        except ControlRefused as exc:
            log.warning("end_refused", attempt=control.name, error=str(exc))
        else:
            outcome = end.finish.outcome if end.finish else Outcome.HANDED_BACK
            log.info("attempt_ended", attempt=control.name, outcome=str(outcome))
        return True

    def _keep(self, end: End, shipper: LogShipper | None) -> None:
        control = self._control
        self._spool.keep(
            Undelivered(
                part=control.part,
                attempt=control.number,
                claim=control.claim_token,
                verb="finish" if end.finish else "hand-back",
                finish=end.finish,
                message=end.message,
                steps=shipper.pending_steps() if shipper else [],
            )
        )
