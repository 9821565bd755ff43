"""Who owns a tag: the newest build of a name; a stale or older one puts back what it moved."""

from typing import Any

import pytest
from sqlalchemy import select

from farm.credentials import claim_answer
from farm.errors import StaleAttempt
from farm.model import Part, Tag, Worker
from farm.protocol import DesiredTag
from farm.reasons import Reason
from farm.states import BuildStatus, Outcome
from tests.factories import DIGEST, NEWER_SHA, OTHER_DIGEST, SHA, TAG, World


def desired(world: World, reference: str = TAG) -> str | None:
    with world.database.read() as session:
        return session.scalars(select(Tag.digest).where(Tag.reference == reference)).first()


def running(world: World, worker: Worker, sha: str, **body: Any) -> Part:
    """A build that has found its commit."""
    build_id = world.build(**body)
    world.later(1)
    part = world.start(worker, build_id).part
    world.later(1)
    world.resolve(part, sha)
    return part


def test_the_first_build_of_a_name_owns_it(world: World) -> None:
    answer = world.publish(running(world, world.worker(), SHA))
    assert (answer.owned, answer.others) == ([TAG], [])
    assert desired(world) == DIGEST


def test_a_publish_repeated_gets_the_same_answer(world: World) -> None:
    part = running(world, world.worker(), SHA)
    assert world.publish(part) == world.publish(part)


def test_a_newer_commit_takes_the_name_over(world: World) -> None:
    worker = world.worker()
    world.publish(running(world, worker, SHA))
    answer = world.publish(running(world, worker, NEWER_SHA), OTHER_DIGEST)
    assert answer.owned == [TAG]
    assert desired(world) == OTHER_DIGEST


def test_an_older_build_that_finishes_later_does_not_move_the_name(world: World) -> None:
    worker = world.worker()
    older = running(world, worker, SHA)
    newer = running(world, worker, NEWER_SHA)
    world.publish(newer, OTHER_DIGEST)
    answer = world.publish(older, DIGEST)
    assert answer.owned == []
    assert answer.others == [DesiredTag(reference=TAG, digest=OTHER_DIGEST)]
    assert desired(world) == OTHER_DIGEST
    assert world.finish(older) is BuildStatus.SUCCEEDED
    assert world.row(older.build_id).image_tags == []


def test_an_owner_learns_from_asking_again_that_a_newer_build_took_over(world: World) -> None:
    worker = world.worker()
    older, newer = running(world, worker, SHA), running(world, worker, NEWER_SHA)
    assert world.publish(older).owned == [TAG]
    world.publish(newer, OTHER_DIGEST)
    assert world.publish(older).others == [DesiredTag(reference=TAG, digest=OTHER_DIGEST)]


def test_of_two_builds_of_one_commit_the_later_asked_for_owns_the_name(world: World) -> None:
    worker = world.worker()
    first, second = running(world, worker, SHA), running(world, worker, SHA)
    world.publish(second, OTHER_DIGEST)
    assert world.publish(first).owned == []
    assert desired(world) == OTHER_DIGEST


def test_a_retry_keeps_its_originals_place(world: World) -> None:
    worker = world.worker()
    original = running(world, worker, SHA)
    world.finish(original, Outcome.FAILED, Reason.STEP_FAILED)
    world.publish(running(world, worker, NEWER_SHA), OTHER_DIGEST)
    retry = world.retry(original.build_id)
    part = world.start(worker, retry, "r" * 16).part
    assert world.publish(part, token="r" * 16).owned == []
    assert desired(world) == OTHER_DIGEST


def test_a_retry_of_a_retry_keeps_that_place_too(world: World) -> None:
    worker = world.worker()
    first = running(world, worker, SHA)
    world.finish(first, Outcome.FAILED, Reason.STEP_FAILED)
    second = world.retry(first.build_id)
    world.cancel(second)
    later = running(world, worker, SHA)
    world.publish(later, OTHER_DIGEST)
    part = world.start(worker, world.retry(second), "r" * 16).part
    assert world.publish(part, token="r" * 16).owned == []


def test_names_are_owned_one_by_one(world: World) -> None:
    worker = world.worker()
    mine = "registry.example/acme/app:mine"
    older = running(world, worker, SHA, tags=[TAG, mine])
    world.publish(running(world, worker, NEWER_SHA), OTHER_DIGEST)
    answer = world.publish(older)
    assert answer.owned == [mine]
    assert [other.reference for other in answer.others] == [TAG]


def test_a_build_that_pushes_nothing_owns_no_name(world: World) -> None:
    answer = world.publish(running(world, world.worker(), SHA, push=False))
    assert (answer.owned, answer.others) == ([], [])
    assert desired(world) is None


def test_a_stale_publish_moves_nothing_and_is_told_where_the_names_belong(world: World) -> None:
    worker = world.worker()
    stale = running(world, worker, SHA)
    world.hand_back(stale)
    world.publish(running(world, worker, NEWER_SHA), OTHER_DIGEST)
    with pytest.raises(StaleAttempt) as refused:
        world.publish(stale)
    assert refused.value.tags == ((TAG, OTHER_DIGEST),)
    assert desired(world) == OTHER_DIGEST


def test_a_stale_publish_of_a_name_that_nobody_has_is_told_so(world: World) -> None:
    stale = running(world, world.worker(), SHA)
    world.hand_back(stale)
    with pytest.raises(StaleAttempt) as refused:
        world.publish(stale)
    assert refused.value.tags == ((TAG, None),)


def test_a_stale_finish_is_refused_and_moves_nothing(world: World) -> None:
    worker = world.worker()
    stale = running(world, worker, SHA)
    world.publish(stale)
    world.hand_back(stale)
    with pytest.raises(StaleAttempt):
        world.finish(stale)
    assert world.row(stale.build_id).status is BuildStatus.QUEUED
    assert desired(world) == DIGEST


def test_after_a_publish_the_next_attempt_only_puts_the_tags(world: World) -> None:
    worker = world.worker()
    first = running(world, worker, SHA)
    world.publish(first)
    world.hand_back(first)
    claimed = world.start(worker, first.build_id, "n" * 16)
    with world.database.read() as session:
        answer = claim_answer(session, claimed, world.sealer, world.settings)
    assert answer.published is not None
    assert (answer.published.digest, answer.published.size) == (DIGEST, 1000)
    assert world.publish(claimed.part, token="n" * 16).owned == [TAG]
    assert world.finish(claimed.part, token="n" * 16) is BuildStatus.SUCCEEDED
    assert world.row(first.build_id).image_digest == DIGEST


def test_a_branch_that_was_reset_to_an_earlier_commit_owns_its_names_again(world: World) -> None:
    worker = world.worker()
    world.publish(running(world, worker, SHA))
    world.publish(running(world, worker, NEWER_SHA), OTHER_DIGEST)
    assert world.publish(running(world, worker, SHA)).owned == [TAG]
    assert desired(world) == DIGEST


@pytest.mark.parametrize("known", [True, False])
def test_a_worker_that_looked_before_a_newer_commit_came_does_not_make_its_own_newer(
    world: World,
    known: bool,  # noqa: FBT001, a parameter of the test
) -> None:
    worker = world.worker()
    if known:
        running(world, worker, SHA)
    slow = world.start(worker, world.build()).part
    world.later(1)
    world.publish(running(world, worker, NEWER_SHA), OTHER_DIGEST)
    world.resolve(slow, SHA)
    assert world.publish(slow).owned == []
    assert desired(world) == OTHER_DIGEST


def test_a_named_older_commit_built_again_does_not_move_the_name(world: World) -> None:
    worker = world.worker()
    running(world, worker, SHA)
    world.publish(running(world, worker, NEWER_SHA), OTHER_DIGEST)
    again = world.start(worker, world.build(sha=SHA)).part
    assert world.publish(again).owned == []


def test_a_commit_is_in_the_order_of_its_own_ref(world: World) -> None:
    worker = world.worker()
    on_main = running(world, worker, SHA, ref="main", tags=[TAG])
    on_pull = running(world, worker, SHA, pull_request=3, tags=["registry.example/acme/app:pr-3"])
    assert world.publish(on_pull, OTHER_DIGEST).owned == ["registry.example/acme/app:pr-3"]
    assert world.publish(on_main).owned == [TAG]
