"""Every reason explains itself; the fault of each decides whether the farm tries again."""

import pytest

from farm.reasons import Fault, Reason, WaitReason

PROJECT = {
    "step_failed",
    "check_failed",
    "timed_out",
    "out_of_memory",
    "registry_unauthorized",
    "repository_unauthorized",
    "ref_not_found",
    "commit_moved",
    "source_refused",
    "dockerfile_invalid",
    "base_image_unavailable",
    "configuration_invalid",
    "secret_missing",
    "unknown",
}
FARM = {
    "no_space",
    "repository_unavailable",
    "worker_lost",
    "engine_unavailable",
    "worker_fault",
    "unschedulable",
    "waited_too_long",
}
WAIT = {"registry_rate_limited", "registry_unavailable", "worker_stopped"}
PEOPLE = {"superseded", "requested"}


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_has_one_sentence_of_cause_and_one_of_cure(reason: Reason) -> None:
    for sentence in (reason.cause, reason.cure):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert 15 < len(sentence) < 120


def test_no_two_reasons_have_the_same_cause() -> None:
    assert len({reason.cause for reason in Reason}) == len(Reason)


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        (Fault.PROJECT, PROJECT),
        (Fault.FARM, FARM),
        (Fault.WAIT, WAIT),
        (Fault.PEOPLE, PEOPLE),
    ],
)
def test_whose_fault_a_reason_is(fault: Fault, names: set[str]) -> None:
    assert {reason.value for reason in Reason if reason.fault is fault} == names


@pytest.mark.parametrize("reason", list(WaitReason))
def test_a_reason_to_wait_says_so_in_one_sentence(reason: WaitReason) -> None:
    assert reason.sentence[0].isupper()
    assert reason.sentence.endswith(".")


def test_no_reason_to_wait_is_said_twice() -> None:
    assert len({reason.sentence for reason in WaitReason}) == len(WaitReason)
