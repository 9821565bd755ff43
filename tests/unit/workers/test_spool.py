"""Results that wait on the worker's disk, and logs on their way."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from farm.protocol import Finish, StepReport
from farm.states import Outcome, StepStatus
from tests.unit.workers.fake_farm import control_of, page, problem
from workers.attemptdir import AttemptDir, Claimed
from workers.janitor import Janitor
from workers.logship import LogShipper
from workers.spool import Spool, Undelivered
from workers.stop import Stop

CLAIM = "0123456789abcdef"
STEP = StepReport(
    number=1, name="x", status=StepStatus.SUCCEEDED, cached=False, started_at=None, duration_s=1
)
END = Undelivered(
    part=7,
    attempt=2,
    claim=CLAIM,
    verb="finish",
    finish=Finish(outcome=Outcome.SUCCEEDED),
    message="",
    steps=[STEP],
)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    found = Spool(tmp_path / "spool")
    found.prepare()
    found.keep(END)
    found.log_path(7, 2, CLAIM).write_text("#0 hello\n")
    return found


def test_a_refused_log_and_refused_steps_do_not_drop_the_end(spool: Spool, tmp_path: Path) -> None:
    verbs: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        verbs.append(request.url.path.rpartition("/")[2])
        return httpx.Response(204) if verbs[-1] == "finish" else problem(413, "too_large")

    with control_of(tmp_path, answer) as control:
        assert spool.send(control) == 0
    assert verbs == ["log", "steps", "finish"]


def test_an_end_waits_while_a_proxy_answers_for_the_farm(spool: Spool, tmp_path: Path) -> None:
    with control_of(tmp_path, lambda _: page(404)) as control:
        assert spool.send(control) == 1
    assert spool.holds(7, 2, CLAIM)


def test_the_log_of_an_attempt_that_begins_during_a_sweep_stays(tmp_path: Path) -> None:
    class Slow(Spool):
        """An attempt begins after the folders were listed."""

        def drop_orphans(self, *logs: object, in_use: set[str]) -> None:
            folder = AttemptDir.create(tmp_path / "tmp", Claimed(7, 2, CLAIM))
            self.log_path(7, 2, CLAIM).write_text("#0 begins\n")
            super().drop_orphans(*logs, in_use=in_use)  # type: ignore[arg-type]
            folder.remove()

    spool = Slow(tmp_path / "spool")
    spool.prepare()
    Janitor(tmp_path / "tmp", spool).sweep()
    assert spool.log_path(7, 2, CLAIM).exists()


def test_a_shipper_that_is_left_with_an_error_leaves_no_thread_and_no_file(tmp_path: Path) -> None:
    before = threading.active_count()
    with control_of(tmp_path, lambda _: page(503)) as control:
        shipper = LogShipper(control.attempt(1, 1, "c"), Stop(), tmp_path / "log", 10_000)

        def break_off() -> None:
            with shipper:
                shipper.line("#0 here")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            break_off()
    assert threading.active_count() == before
    with pytest.raises(OSError):
        shipper.line("#0 closed")
