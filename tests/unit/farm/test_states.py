"""The table of moves against DESIGN section 5, pair by pair."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.states import MOVES, TERMINAL, BuildStatus, status_of_parts

S = BuildStatus

DESIGN_SECTION_5 = {
    (S.WAITING_APPROVAL, S.QUEUED),
    (S.WAITING_APPROVAL, S.CANCELLED),
    (S.QUEUED, S.RUNNING),
    (S.QUEUED, S.CANCELLED),
    (S.QUEUED, S.FAILED),
    (S.QUEUED, S.ERRORED),
    (S.RUNNING, S.SUCCEEDED),
    (S.RUNNING, S.FAILED),
    (S.RUNNING, S.QUEUED),
    (S.RUNNING, S.ERRORED),
    (S.RUNNING, S.CANCELLED),
}


@pytest.mark.parametrize(("source", "target"), list(product(S, S)))
def test_a_move_is_allowed_exactly_where_the_design_says_so(source: S, target: S) -> None:
    assert (target in MOVES[source]) is ((source, target) in DESIGN_SECTION_5)


def test_the_terminal_states_are_those_that_nothing_leaves() -> None:
    ends = {S.SUCCEEDED, S.FAILED, S.ERRORED, S.CANCELLED, S.SKIPPED}
    assert ends == TERMINAL
    assert {status for status in S if status.terminal} == ends


@pytest.mark.parametrize(
    ("parts", "build"),
    [
        ([S.QUEUED], S.QUEUED),
        ([S.RUNNING], S.RUNNING),
        ([S.QUEUED, S.RUNNING], S.RUNNING),
        ([S.QUEUED, S.SUCCEEDED], S.RUNNING),
        ([S.QUEUED, S.FAILED], S.RUNNING),
        ([S.WAITING_APPROVAL, S.WAITING_APPROVAL], S.WAITING_APPROVAL),
        ([S.SUCCEEDED, S.SUCCEEDED], S.SUCCEEDED),
        ([S.SUCCEEDED, S.FAILED], S.FAILED),
        ([S.ERRORED, S.FAILED], S.FAILED),
        ([S.ERRORED, S.CANCELLED], S.ERRORED),
        ([S.CANCELLED, S.SUCCEEDED], S.CANCELLED),
        ([S.SKIPPED, S.SUCCEEDED], S.SKIPPED),
        ([S.SKIPPED], S.SKIPPED),
    ],
)
def test_a_build_stands_as_its_parts_do(parts: list[S], build: S) -> None:
    assert status_of_parts(parts) is build


@given(st.lists(st.sampled_from(S), min_size=1, max_size=6))
def test_a_build_is_over_exactly_when_all_its_parts_are(parts: list[S]) -> None:
    assert status_of_parts(parts).terminal is all(part.terminal for part in parts)


@given(st.lists(st.sampled_from(S), min_size=1, max_size=6))
def test_the_order_of_the_parts_does_not_matter(parts: list[S]) -> None:
    assert status_of_parts(parts) is status_of_parts(parts[::-1])


@given(st.lists(st.sampled_from(S), min_size=1, max_size=6))
def test_a_build_succeeds_only_when_every_part_did(parts: list[S]) -> None:
    assert (status_of_parts(parts) is S.SUCCEEDED) is (set(parts) == {S.SUCCEEDED})
