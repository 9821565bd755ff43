"""Who may stop an attempt, and from when on nobody may."""

from __future__ import annotations

import time

import pytest

from farm.errors import StaleAttempt
from workers.stop import Cause, Stop

LIGHT = [Cause.TIMED_OUT, Cause.CANCELLED, Cause.HAND_BACK]


@pytest.mark.parametrize("cause", LIGHT)
def test_what_was_asked_while_publish_was_in_flight_does_not_undo_the_build(cause: Cause) -> None:
    stop = Stop()
    stop.ask(cause)
    stop.commit()
    stop.check()
    assert stop.cause is None


@pytest.mark.parametrize("cause", LIGHT)
def test_a_published_build_is_stopped_by_nothing_lighter_than_stale(cause: Cause) -> None:
    stop = Stop(timeout_s=0)
    stop.commit()
    stop.ask(cause)
    stop.check()
    assert stop.watch_deadline() > 0


def test_a_published_build_waits_as_long_as_it_says() -> None:
    stop = Stop()
    stop.ask(Cause.CANCELLED)
    stop.commit()
    began = time.monotonic()
    stop.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_a_stale_attempt_stops_also_when_it_is_published() -> None:
    before, after = Stop(), Stop()
    before.ask(Cause.STALE)
    before.commit()
    after.commit()
    after.ask(Cause.STALE)
    for stop in (before, after):
        with pytest.raises(StaleAttempt):
            stop.check()
