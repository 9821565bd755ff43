"""Placement rule by rule: DESIGN section 7."""

from datetime import timedelta
from typing import Any

import pytest

from farm.placement import OVERDUE, Plan, Warmth, cold_order
from farm.reasons import WaitReason
from farm.states import Priority, Zone
from tests.unit.farm.plans import NOW, held, part, plan, worker

WARM = Warmth(warm_s=10.0, cold_s=100.0)


def why(answer: Plan, number: int) -> WaitReason:
    return answer.waiting[number].reason


def test_a_part_goes_to_a_free_worker() -> None:
    answer = plan([part(1)], [worker(7)])
    assert answer.assignments == {1: 7}
    assert answer.waiting == {}


def test_without_workers_a_part_waits_for_one() -> None:
    assert why(plan([part(1)], []), 1) is WaitReason.NO_WORKER


@pytest.mark.parametrize(
    ("wanted", "has"),
    [
        ({"zone": Zone.UNTRUSTED}, {}),
        ({}, {"zone": Zone.UNTRUSTED}),
        ({"labels": frozenset({"gpu"})}, {"labels": frozenset({"cpu"})}),
        ({"labels": frozenset({"gpu", "big"})}, {"labels": frozenset({"gpu"})}),
        ({"platform": "linux/arm64"}, {}),
        ({"needs_containerd_store": True}, {}),
    ],
)
def test_what_no_worker_could_ever_take_is_said_to_be_unschedulable(
    wanted: dict[str, Any], has: dict[str, Any]
) -> None:
    answer = plan([part(1, **wanted)], [worker(1, **has), worker(2, **has)])
    assert why(answer, 1) is WaitReason.UNSCHEDULABLE
    assert answer.assignments == {}


@pytest.mark.parametrize(
    ("wanted", "has"),
    [
        ({"zone": Zone.UNTRUSTED}, {"zone": Zone.UNTRUSTED}),
        ({"labels": frozenset({"gpu"})}, {"labels": frozenset({"gpu", "big"})}),
        ({"platform": "linux/amd64"}, {}),
        ({"needs_containerd_store": True}, {"containerd_store": True}),
    ],
)
def test_a_part_goes_where_its_needs_are_met(wanted: dict[str, Any], has: dict[str, Any]) -> None:
    assert plan([part(1, **wanted)], [worker(1, slots=0), worker(2, **has)]).assignments == {1: 2}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"online": False}, WaitReason.WORKERS_OFFLINE),
        ({"draining": True}, WaitReason.WORKERS_DRAINING),
        ({"disk_ok": False}, WaitReason.DISK_LOW),
    ],
)
def test_a_worker_that_is_not_fit_now_gets_nothing_and_the_part_says_why(
    state: dict[str, Any], reason: WaitReason
) -> None:
    answer = plan([part(1)], [worker(1, **state), worker(2, zone=Zone.UNTRUSTED)])
    assert why(answer, 1) is reason


def test_a_part_that_is_to_wait_waits_though_a_worker_is_free() -> None:
    later = part(1, not_before=NOW + timedelta(seconds=1))
    assert why(plan([later], [worker(1)]), 1) is WaitReason.RETRY_LATER
    due = part(1, not_before=NOW)
    assert plan([due], [worker(1)]).assignments == {1: 1}


def test_a_part_goes_elsewhere_than_where_it_was_lost() -> None:
    lost = part(1, avoid=frozenset({1}), cache_key="k")
    assert plan([lost], [worker(1), worker(2)], warm={"k": {1: WARM}}).assignments == {1: 2}


def test_a_part_goes_back_to_where_it_was_lost_when_there_is_no_other() -> None:
    lost = part(1, avoid=frozenset({1}))
    assert plan([lost], [worker(1), worker(2, draining=True)]).assignments == {1: 1}


def test_a_worker_gets_no_more_than_its_free_slots() -> None:
    answer = plan([part(n) for n in range(1, 6)], [worker(1, slots=3)], [held(1)])
    assert len(answer.assignments) == 2
    assert {why.reason for why in answer.waiting.values()} == {WaitReason.SLOTS_BUSY}


def test_a_worker_that_gave_slots_up_gets_nothing_until_it_is_below_its_number() -> None:
    answer = plan([part(1)], [worker(1, slots=1)], [held(1), held(1)])
    assert answer.assignments == {}


def test_one_build_of_a_group_at_a_time() -> None:
    pair = [part(1, group_key="pr-1"), part(2, group_key="pr-1")]
    answer = plan(pair, [worker(1, slots=4)])
    assert answer.assignments == {1: 1}
    assert why(answer, 2) is WaitReason.SAME_GROUP
    running = plan([part(3, group_key="pr-1")], [worker(1, slots=4)], [held(1, group_key="pr-1")])
    assert why(running, 3) is WaitReason.SAME_GROUP


def test_parts_without_a_group_do_not_wait_for_each_other() -> None:
    assert len(plan([part(1), part(2)], [worker(1, slots=2)], [held(2)]).assignments) == 2


def test_a_project_runs_no_more_than_its_cap() -> None:
    parts = [part(1, project_id=5), part(2, project_id=5), part(3, project_id=6)]
    answer = plan(parts, [worker(1, slots=9)], [held(1, project_id=5)], project_cap=2)
    assert set(answer.assignments) == {1, 3}
    assert why(answer, 2) is WaitReason.PROJECT_CAP


def test_no_cap_is_no_limit() -> None:
    parts = [part(n, project_id=5) for n in range(1, 9)]
    assert len(plan(parts, [worker(1, slots=9)]).assignments) == 8


def test_high_goes_before_normal_before_low() -> None:
    parts = [
        part(1, priority=Priority.LOW),
        part(2, priority=Priority.NORMAL),
        part(3, priority=Priority.HIGH),
    ]
    assert plan(parts, [worker(1)]).assignments == {3: 1}
    assert set(plan(parts, [worker(1, slots=2)]).assignments) == {2, 3}
    assert plan(parts, [worker(1)]).waiting[1].position == 2


def test_the_owner_with_the_fewest_running_goes_first() -> None:
    parts = [part(1, owner="many"), part(2, owner="few")]
    busy = [held(2, owner="many"), held(2, owner="many"), held(2, owner="few")]
    assert plan(parts, [worker(1)], busy).assignments == {2: 1}


def test_owners_take_turns_however_much_one_of_them_asks_for() -> None:
    flood = [part(n, owner="flood") for n in range(1, 50)]
    answer = plan([*flood, part(60, owner="one"), part(61, owner="one")], [worker(1, slots=4)])
    assert {60, 61} <= set(answer.assignments)


def test_among_equals_the_oldest_goes_first() -> None:
    parts = [part(1, since=NOW), part(2, since=NOW - timedelta(seconds=1))]
    assert plan(parts, [worker(1)]).assignments == {2: 1}


def test_a_part_goes_where_its_cache_is_warm() -> None:
    workers = [worker(n) for n in range(1, 10)]
    assert plan([part(1, cache_key="k")], workers, warm={"k": {6: WARM}}).assignments == {1: 6}


def test_among_warm_workers_the_freest_is_taken() -> None:
    workers = [worker(1, slots=2), worker(2, slots=2)]
    warm = {"k": {1: WARM, 2: WARM}}
    assert plan([part(1, cache_key="k")], workers, [held(1)], warm).assignments == {1: 2}


def test_a_freed_slot_serves_its_own_line_first() -> None:
    parts = [part(1, cache_key="cold"), part(2, cache_key="warm")]
    assert plan(parts, [worker(1)], warm={"warm": {1: WARM}}).assignments == {2: 1}


def test_an_overdue_part_is_not_passed_by_a_warm_line_for_ever() -> None:
    overdue = part(1, cache_key="cold", since=NOW - OVERDUE - timedelta(seconds=1))
    parts = [overdue, part(2, cache_key="warm")]
    assert plan(parts, [worker(1)], warm={"warm": {1: WARM}}).assignments == {1: 1}


def test_a_part_waits_for_its_warm_worker_while_that_is_quicker_than_a_cold_start() -> None:
    busy = [held(1, cache_key="k", since=NOW - timedelta(seconds=5))]
    answer = plan([part(1, cache_key="k")], [worker(1), worker(2)], busy, {"k": {1: WARM}})
    assert why(answer, 1) is WaitReason.WARM_WORKER_BUSY
    assert answer.assignments == {}


def test_a_part_starts_cold_when_its_warm_line_is_longer_than_that_costs() -> None:
    little = Warmth(warm_s=50.0, cold_s=55.0)
    busy = [held(1, cache_key="k", since=NOW)]
    answer = plan([part(1, cache_key="k")], [worker(1), worker(2)], busy, {"k": {1: little}})
    assert answer.assignments == {1: 2}


def test_a_line_that_grows_sends_the_next_one_elsewhere() -> None:
    busy = [held(1, cache_key="k", since=NOW)]
    warm = {"k": {1: Warmth(warm_s=30.0, cold_s=65.0)}}  # the wait is 30 s, a cold start costs 35
    parts = [part(1, cache_key="k"), part(2, cache_key="k"), part(3, cache_key="k")]
    answer = plan(parts, [worker(1), worker(2), worker(3)], busy, warm)
    assert why(answer, 1) is WaitReason.WARM_WORKER_BUSY
    assert len(answer.assignments) == 2


def test_when_nothing_is_free_a_part_waits_for_its_slot_and_is_told_when() -> None:
    busy = [held(1, cache_key="k", since=NOW - timedelta(seconds=4))]
    first, second = plan([part(1), part(2)], [worker(1)], busy, {"k": {1: WARM}}).waiting.values()
    assert (first.reason, first.position) == (WaitReason.SLOTS_BUSY, 1)
    assert first.eta_s == (3.0, 14.0)
    assert second.position == 2
    assert second.eta_s is not None
    assert second.eta_s[0] > first.eta_s[0]


def test_who_cannot_be_placed_has_no_position() -> None:
    assert plan([part(1, zone=Zone.UNTRUSTED)], [worker(1)]).waiting[1].position is None


def test_a_worker_that_goes_moves_only_the_keys_that_were_its_own() -> None:
    workers = [worker(n) for n in range(1, 11)]
    keys = [f"key-{n}" for n in range(300)]
    before = {key: cold_order(key, workers)[0].worker_id for key in keys}
    after = {key: cold_order(key, workers[:-1])[0].worker_id for key in keys}
    moved = {key for key in keys if before[key] != after[key]}
    assert moved == {key for key in keys if before[key] == 10}
    assert 10 < len(moved) < 60


def test_cold_starts_of_one_key_prefer_one_worker_whatever_order_they_are_listed_in() -> None:
    workers = [worker(n) for n in range(1, 11)]
    one = plan([part(1, cache_key="k")], workers).assignments
    other = plan([part(1, cache_key="k")], workers[::-1]).assignments
    assert one == other
