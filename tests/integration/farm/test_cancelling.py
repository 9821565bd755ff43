"""Cancelling: what waits ends at once, what runs when its worker sees it, what is out stays out."""

import pytest

from farm.errors import Conflict, StaleAttempt
from farm.reasons import Reason
from farm.states import BuildStatus, Outcome
from tests.factories import OTHER_DIGEST, World

S = BuildStatus


def test_a_queued_build_is_cancelled_at_once(world: World) -> None:
    build_id = world.build()
    assert world.cancel(build_id) == []
    row = world.row(build_id)
    assert (row.status, row.reason, row.finished_at) == (
        S.CANCELLED,
        Reason.REQUESTED,
        world.now,
    )


def test_a_placed_build_that_is_cancelled_cannot_be_claimed(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    world.place()
    world.cancel(build_id)
    with pytest.raises(StaleAttempt):
        world.claim(worker, build_id)


def test_a_running_build_is_cancelled_when_its_worker_has_seen_it(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    (told,) = world.cancel(build_id)
    assert told.id == part.id
    assert world.row(build_id).status is S.RUNNING
    assert world.finish(part, Outcome.CANCELLED) is S.CANCELLED
    assert world.row(build_id).reason is Reason.REQUESTED


@pytest.mark.parametrize("outcome", [Outcome.ERRORED, Outcome.CANCELLED])
def test_a_build_to_be_cancelled_is_not_tried_again(world: World, outcome: Outcome) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.cancel(build_id)
    assert world.finish(part, outcome, Reason.WORKER_FAULT) is S.CANCELLED


def test_a_build_to_be_cancelled_is_not_handed_back(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.cancel(build_id)
    assert world.hand_back(part) is S.CANCELLED


def test_a_build_that_came_to_its_own_end_first_keeps_it(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.cancel(build_id)
    assert world.finish(part, Outcome.FAILED, Reason.STEP_FAILED) is S.FAILED


def test_after_a_cancel_nothing_can_be_published(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.cancel(build_id)
    with pytest.raises(Conflict) as refused:
        world.publish(part)
    assert refused.value.code == "cancel_requested"
    assert world.part(build_id).published_at is None


def test_after_the_publish_it_is_too_late_to_cancel(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.publish(part)
    with pytest.raises(Conflict) as refused:
        world.cancel(build_id)
    assert refused.value.code == "too_late"
    assert world.finish(part) is S.SUCCEEDED


def test_it_stays_too_late_when_the_publisher_was_lost(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.publish(part)
    world.hand_back(part)
    with pytest.raises(Conflict) as refused:
        world.cancel(build_id)
    assert refused.value.code == "too_late"


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED])
def test_what_is_over_cannot_be_cancelled(world: World, outcome: Outcome) -> None:
    build_id = world.build(push=False)
    world.finish(world.start(world.worker(), build_id).part, outcome, Reason.STEP_FAILED)
    with pytest.raises(Conflict) as refused:
        world.cancel(build_id)
    assert refused.value.code == "build_over"


def test_a_second_cancel_is_one_cancel(world: World) -> None:
    build_id = world.build()
    world.start(world.worker(), build_id)
    world.cancel(build_id)
    world.cancel(build_id)
    asked = [event for event in world.events(build_id) if event.kind == "cancel_requested"]
    assert len(asked) == 1


def test_another_digest_cannot_be_published_over_the_first(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.publish(part)
    with pytest.raises(Conflict) as refused:
        world.publish(part, OTHER_DIGEST)
    assert refused.value.code == "already_published"
