"""Tags end where the control plane wants them, whoever moved them last."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from farm.errors import AttemptError, StaleAttempt
from farm.protocol import DesiredTag, PublishAnswer
from farm.reasons import Reason
from tests.unit.workers.fake_registry import HOST, FakeRegistry
from workers.publishing import move_tags

TAG = f"{HOST}/team/app:main"
OTHER = f"{HOST}/team/app:other"


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def others(**digests: str | None) -> PublishAnswer:
    """Nothing is owned any more."""
    listed = [DesiredTag(reference=f"{HOST}/team/app:{t}", digest=d) for t, d in digests.items()]
    return PublishAnswer(owned=[], others=listed)


def answers(*given: PublishAnswer | StaleAttempt) -> Callable[[], PublishAnswer]:
    """A control plane that says these things in turn, and the last one from then on."""
    left = list(given)

    def publish() -> PublishAnswer:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, StaleAttempt):
            raise answer
        return answer

    return publish


def test_a_resumed_attempt_puts_back_the_tag_that_its_predecessor_moved_too_late(
    registry: FakeRegistry,
) -> None:
    nine, ten = registry.add(b"9"), registry.add(b"10")
    registry.tags["main"] = nine  # 10 had put its own before 9's late PUT
    assert (
        move_tags(registry.registries(), nine, answers(others(main=ten)), maybe_moved=[TAG]) == []
    )
    assert registry.tags["main"] == ten


def test_a_tag_that_somebody_else_moved_on_is_left_alone(registry: FakeRegistry) -> None:
    nine, ten, eleven = (registry.add(content) for content in (b"9", b"10", b"11"))
    registry.tags["main"] = eleven
    move_tags(registry.registries(), nine, answers(others(main=ten)), maybe_moved=[TAG])
    assert registry.tags["main"] == eleven


def test_a_tag_put_back_too_late_itself_is_put_right(registry: FakeRegistry) -> None:
    nine, ten, eleven = (registry.add(content) for content in (b"9", b"10", b"11"))
    registry.tags["main"] = nine
    publish = answers(others(main=ten), others(main=eleven))
    move_tags(registry.registries(), nine, publish, maybe_moved=[TAG])
    assert registry.tags["main"] == eleven


def test_a_stale_attempt_puts_back_what_it_moved_and_nothing_else(registry: FakeRegistry) -> None:
    nine, ten = registry.add(b"9"), registry.add(b"10")
    registry.tags["other"] = nine
    stale = StaleAttempt("given up", tags=[(TAG, ten), (OTHER, ten)])
    publish = answers(PublishAnswer(owned=[TAG], others=[]), stale)
    with pytest.raises(StaleAttempt):
        move_tags(registry.registries(), nine, publish)
    assert registry.tags == {"main": ten, "other": nine}


def test_a_later_tags_error_leaves_no_earlier_tag_where_it_does_not_belong(
    registry: FakeRegistry,
) -> None:
    nine, ten = registry.add(b"9"), registry.add(b"10")
    registry.refused.add("other")
    publish = answers(PublishAnswer(owned=[TAG, OTHER], others=[]), others(main=ten, other=ten))
    with pytest.raises(AttemptError) as caught:
        move_tags(registry.registries(), nine, publish)
    assert caught.value.reason is Reason.REGISTRY_UNAUTHORIZED
    assert registry.tags == {"main": ten}


def test_a_tag_that_never_stays_is_an_error(registry: FakeRegistry) -> None:
    nine, ten = registry.add(b"9"), registry.add(b"10")
    registry.on_put = lambda tag: registry.tags.update({tag: ten})
    with pytest.raises(AttemptError, match="does not stay"):
        move_tags(registry.registries(), nine, answers(PublishAnswer(owned=[TAG], others=[])))
