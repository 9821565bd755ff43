"""How an attempt ends, and what becomes of its part: whose fault it was decides."""

from datetime import timedelta

import pytest

from farm import attempts
from farm.errors import Conflict, StaleAttempt
from farm.model import CacheUse
from farm.protocol import Finish
from farm.reasons import Reason
from farm.states import BuildStatus, Outcome
from tests.factories import DIGEST, World

S = BuildStatus


def test_a_success_ends_the_build_with_its_digest(world: World) -> None:
    build_id = world.build()
    world.succeed(world.worker(), build_id)
    row = world.row(build_id)
    assert (row.status, row.image_digest, row.image_size) == (S.SUCCEEDED, DIGEST, 1000)
    assert row.image_tags == ["registry.example/acme/app:1"]
    assert (row.reason, row.finished_at) == (None, world.now)


def test_a_success_that_published_nothing_is_refused(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    with pytest.raises(Conflict) as refused:
        world.finish(part)
    assert refused.value.code == "not_published"
    assert world.row(build_id).status is S.RUNNING


def test_a_build_that_pushes_nothing_needs_no_publish(world: World) -> None:
    build_id = world.build(push=False)
    part = world.start(world.worker(), build_id).part
    assert world.finish(part) is S.SUCCEEDED


def test_a_finish_repeated_is_accepted_once(world: World) -> None:
    build_id = world.build()
    part = world.succeed(world.worker(), build_id)
    events = len(world.events(build_id))
    assert world.finish(part) is S.SUCCEEDED
    assert len(world.events(build_id)) == events


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ERRORED, Outcome.CANCELLED])
def test_a_finish_repeated_with_another_outcome_is_stale(world: World, outcome: Outcome) -> None:
    build_id = world.build()
    part = world.succeed(world.worker(), build_id)
    with pytest.raises(StaleAttempt):
        world.finish(part, outcome, Reason.STEP_FAILED)
    assert world.row(build_id).status is S.SUCCEEDED


@pytest.mark.parametrize(
    "reason", [Reason.STEP_FAILED, Reason.TIMED_OUT, Reason.REGISTRY_UNAUTHORIZED, Reason.UNKNOWN]
)
def test_the_projects_fault_fails_at_once(world: World, reason: Reason) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    assert world.finish(part, Outcome.FAILED, reason) is S.FAILED
    row = world.row(build_id)
    assert (row.status, row.reason) == (S.FAILED, reason)
    assert len(world.attempts(build_id)) == 1


@pytest.mark.parametrize("reason", [Reason.ENGINE_UNAVAILABLE, Reason.NO_SPACE])
def test_the_farms_fault_is_tried_again_a_little_later(world: World, reason: Reason) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    assert world.finish(part, Outcome.ERRORED, reason) is S.QUEUED
    again = world.part(build_id)
    assert (again.attempt, again.burnt, again.placed_worker_id, again.claim) == (2, 1, None, None)
    assert again.not_before == world.now + timedelta(seconds=5)
    assert world.place() == []
    world.later(5)
    assert len(world.place()) == 1


def test_each_fault_of_the_farm_waits_longer_and_the_third_ends_the_build(world: World) -> None:
    worker, build_id, waits = world.worker(), world.build(), []
    for n in range(3):
        part = world.start(worker, build_id, f"token{n}" * 3).part
        status = world.finish(
            part, Outcome.ERRORED, Reason.ENGINE_UNAVAILABLE, token=f"token{n}" * 3
        )
        waits.append((world.part(build_id).not_before or world.now) - world.now)
        world.later(60)
    assert status is S.ERRORED
    assert waits[:2] == [timedelta(seconds=5), timedelta(seconds=10)]
    row = world.row(build_id)
    assert (row.reason, len(world.attempts(build_id))) == (Reason.ENGINE_UNAVAILABLE, 3)
    assert world.place() == []


def test_a_handed_back_part_burns_no_attempt_and_may_start_at_once(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    for number in range(1, 6):
        token = f"token{number}" * 3
        world.start(worker, build_id, token)
        assert world.hand_back(world.part(build_id), token) is S.QUEUED
        assert world.part(build_id).attempt == number + 1
    assert world.part(build_id).burnt == 0
    assert [a.outcome for a in world.attempts(build_id)] == [Outcome.HANDED_BACK] * 5


def test_whatever_reason_a_hand_back_has_it_burns_no_attempt(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    assert world.finish(part, Outcome.HANDED_BACK, Reason.WORKER_FAULT) is S.QUEUED
    again = world.part(build_id)
    assert (again.attempt, again.burnt, again.not_before) == (2, 0, None)


def test_a_hand_back_repeated_is_accepted_once(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.hand_back(part)
    assert world.hand_back(part) is S.QUEUED
    assert world.part(build_id).attempt == 2


def test_a_registry_that_is_away_burns_nothing_and_waits_up_to_the_timeout(world: World) -> None:
    worker, build_id, tried = world.worker(), world.build(timeout_s=1000), 0
    while world.row(build_id).status is not S.ERRORED:
        tried += 1
        assert tried < 30
        token = f"{tried:016d}"
        part = world.start(worker, build_id, token).part
        world.later(1)
        world.finish(part, Outcome.ERRORED, Reason.REGISTRY_UNAVAILABLE, token=token)
        assert world.part(build_id).burnt == 0
        world.now = world.part(build_id).not_before or world.now
    row = world.row(build_id)
    assert tried > 5
    assert row.reason is Reason.REGISTRY_UNAVAILABLE
    assert row.finished_at is not None
    assert row.started_at is not None
    assert timedelta(seconds=500) < row.finished_at - row.started_at < timedelta(seconds=1000)


def test_what_a_worker_took_is_learnt_for_placement(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    part = world.start(worker, build_id).part
    world.later(40)
    world.publish(part)
    world.finish(part)
    with world.database.read() as session:
        use = session.get_one(CacheUse, (world.row(build_id).cache_key, worker.id))
    assert (use.used_at, use.warm_s or use.cold_s) == (world.now, 40)


def test_an_attempt_that_only_moved_tags_teaches_placement_nothing(world: World) -> None:
    worker, build_id = world.worker(), world.build(push=False)
    part = world.start(worker, build_id).part
    with world.database.write() as session:
        report = Finish(outcome=Outcome.SUCCEEDED, phases={"tags": 1.0})
        attempts.finish(session, part.id, 1, "t" * 16, report, now=world.now, limits=world.limits)
    with world.database.read() as session:
        assert session.get(CacheUse, (world.row(build_id).cache_key, worker.id)) is None


def test_each_platform_of_a_build_has_a_cache_of_its_own(world: World) -> None:
    worker, build_id = world.worker(), world.build(platforms=["linux/amd64"])
    world.succeed(worker, build_id)
    with world.database.read() as session:
        key = f"{world.row(build_id).cache_key}/linux/amd64"
        assert session.get_one(CacheUse, (key, worker.id)).used_at == world.now


def test_a_failure_teaches_placement_nothing(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    world.finish(world.start(worker, build_id).part, Outcome.FAILED, Reason.STEP_FAILED)
    with world.database.read() as session:
        assert session.get(CacheUse, (world.row(build_id).cache_key, worker.id)) is None
