"""The sweep: leases that ended, parts that nobody claimed, and outages that end nothing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from farm import sweep
from farm.errors import StaleAttempt
from farm.model import Presence, Worker
from farm.reasons import Reason, WaitReason
from farm.states import BuildStatus, Outcome
from farm.sweep import Swept
from tests.factories import LEASE, World

CLAIM_WITHIN = timedelta(seconds=30)


def web_is_up(world: World, *, since_s: float = 3600) -> None:
    """The web process has been heard of a moment ago, and for long."""
    with world.database.write() as session:
        row = session.get(Presence, sweep.WEB)
        up_since = world.now - timedelta(seconds=since_s)
        if row is None:
            row = Presence(role=sweep.WEB, holder="web", up_since=up_since, seen_at=world.now)
            session.add(row)
        row.seen_at = world.now


def sweep_now(world: World) -> Swept:
    with world.database.write() as session:
        return sweep.sweep(session, now=world.now, limits=world.limits, claim_within=CLAIM_WITHIN)


def lose(world: World) -> Swept:
    """The lease ends while the web is up all along."""
    world.later(LEASE.total_seconds() + 1)
    web_is_up(world)
    return sweep_now(world)


def test_a_lease_that_ended_queues_the_part_again_and_burns_an_attempt(world: World) -> None:
    build_id = world.build()
    world.start(world.worker(), build_id)
    assert lose(world).lost == [build_id]
    part = world.part(build_id)
    assert (part.status, part.attempt, part.burnt) == (BuildStatus.QUEUED, 2, 1)
    assert (part.placed_worker_id, part.claim, part.lease_until, part.not_before) == (None,) * 4
    (attempt,) = world.attempts(build_id)
    assert (attempt.outcome, attempt.reason) == (Outcome.LOST, Reason.WORKER_LOST)
    assert world.row(build_id).status is BuildStatus.QUEUED


def test_a_lease_that_is_renewed_does_not_end(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.later(50)
    world.beat(part)
    world.later(50)
    web_is_up(world)
    assert sweep_now(world).lost == []
    assert world.part(build_id).status is BuildStatus.RUNNING


def test_after_three_losses_the_build_is_errored(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    for number in range(3):
        world.start(worker, build_id, f"{number:016d}")
        lose(world)
    row = world.row(build_id)
    assert (row.status, row.reason) == (BuildStatus.ERRORED, Reason.WORKER_LOST)
    assert [a.outcome for a in world.attempts(build_id)] == [Outcome.LOST] * 3


def test_a_worker_that_wakes_after_its_lease_is_refused(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.publish(part)
    lose(world)
    for verb in (world.beat, world.publish, world.finish, world.hand_back):
        with pytest.raises(StaleAttempt):
            verb(part)
    assert world.part(build_id).attempt == 2


def test_a_build_to_be_cancelled_whose_worker_is_lost_is_cancelled(world: World) -> None:
    build_id = world.build()
    world.start(world.worker(), build_id)
    world.cancel(build_id)
    lose(world)
    assert world.row(build_id).status is BuildStatus.CANCELLED
    assert world.row(build_id).reason is Reason.REQUESTED


def test_the_next_attempt_goes_elsewhere(world: World) -> None:
    world.worker("w1")
    build_id = world.build()
    (first,) = world.place()
    worker = world.worker("w2")
    with world.database.read() as session:
        placed = session.get_one(Worker, world.part(build_id).placed_worker_id)
    world.claim(placed, build_id)
    lose(world)
    (second,) = world.place()
    assert (first.worker, second.worker, second.attempt) == ("w1", worker.name, 2)


def test_a_placed_part_that_nobody_claims_is_placed_anew(world: World) -> None:
    world.worker()
    build_id = world.build()
    world.place()
    world.later(30)
    assert sweep_now(world).unclaimed == []
    world.later(1)
    assert sweep_now(world).unclaimed == [world.part(build_id).id]
    part = world.part(build_id)
    assert (part.placed_worker_id, part.attempt, part.waiting_reason) == (None, 1, WaitReason.NEW)
    assert len(world.place()) == 1


def test_a_claimed_part_is_not_freed(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    for _ in range(3):
        world.later(20)
        world.beat(part)
        assert sweep_now(world).unclaimed == []


def test_no_lease_ends_while_the_web_is_down(world: World) -> None:
    build_id = world.build()
    world.start(world.worker(), build_id)
    web_is_up(world)
    world.later(600)
    assert sweep_now(world).lost == []
    assert world.part(build_id).status is BuildStatus.RUNNING


def test_no_lease_ends_before_the_web_has_been_up_again_for_a_lease(world: World) -> None:
    build_id = world.build()
    world.start(world.worker(), build_id)
    record_up(world)
    world.later(600)  # an outage
    back_at = world.now
    while world.now < back_at + LEASE:
        record_up(world)
        assert sweep_now(world).lost == []
        world.later(1)
    record_up(world)
    assert sweep_now(world).lost == [build_id]


def record_up(world: World) -> None:
    with world.database.write() as session:
        sweep.record_web_up(session, "web", now=world.now, lease=world.limits.lease)


def test_a_worker_that_comes_back_after_an_outage_keeps_its_build(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    record_up(world)
    world.later(600)
    record_up(world)
    world.later(20)
    world.beat(part)
    for _ in range(50):
        world.later(1)
        record_up(world)
        assert sweep_now(world).lost == []


def test_a_short_silence_of_the_web_is_no_outage(world: World) -> None:
    record_up(world)
    since = world.now
    world.later(4)
    record_up(world)
    with world.database.read() as session:
        assert session.get_one(Presence, sweep.WEB).up_since == since


def test_no_lease_however_short_ends_while_the_web_is_down(world: World) -> None:
    world.limits = replace(world.limits, lease=timedelta(seconds=3))
    build_id = world.build()
    record_up(world)
    world.later(60)
    record_up(world)
    world.start(world.worker(), build_id)
    for _ in range(10):
        world.later(1)
        assert sweep_now(world).lost == []
    record_up(world)
    world.later(1)
    record_up(world)
    assert sweep_now(world).lost == []


def test_before_any_web_process_was_up_no_lease_ends(world: World) -> None:
    build_id = world.build()
    world.start(world.worker(), build_id)
    world.later(600)
    assert sweep_now(world).lost == []


def test_a_build_that_waited_too_long_ends_and_says_for_what(world: World) -> None:
    world.limits = replace(world.limits, longest_wait=timedelta(hours=1))
    world.start(world.worker(slots=1), world.build())
    wanted = {"never": world.build(runs_on=["gpu"]), "busy": world.build()}
    world.place()
    world.later(3600)
    assert sweep_now(world).expired == []
    world.later(1)
    assert set(sweep_now(world).expired) == set(wanted.values())
    never, busy = (world.row(build_id) for build_id in wanted.values())
    assert {never.status, busy.status} == {BuildStatus.ERRORED}
    assert (never.reason, busy.reason) == (Reason.UNSCHEDULABLE, Reason.WAITED_TOO_LONG)
    assert (never.message, busy.message) == (
        WaitReason.UNSCHEDULABLE.sentence,
        WaitReason.SLOTS_BUSY.sentence,
    )


def test_a_build_that_runs_never_waited_too_long(world: World) -> None:
    world.limits = replace(world.limits, longest_wait=timedelta(hours=1))
    build_id = world.build()
    world.start(world.worker(), build_id)
    world.later(7200)
    assert sweep_now(world).expired == []


def test_one_scheduler_leads_and_another_takes_over_when_it_falls_silent(world: World) -> None:
    def leads(holder: str) -> bool:
        with world.database.write() as session:
            return sweep.lead(session, holder, now=world.now)

    lease_s = sweep.SCHEDULER_LEASE.total_seconds()
    assert leads("a")
    assert not leads("b")
    world.later(lease_s)
    assert not leads("b")
    assert leads("a")
    world.later(lease_s + 1)
    assert leads("b")
    assert not leads("a")


def test_a_scheduler_that_resigns_is_followed_at_once(world: World) -> None:
    with world.database.write() as session:
        assert sweep.lead(session, "a", now=world.now)
        sweep.resign(session, "b", now=world.now)
        assert not sweep.lead(session, "b", now=world.now)
        sweep.resign(session, "a", now=world.now)
        assert sweep.lead(session, "b", now=world.now)
