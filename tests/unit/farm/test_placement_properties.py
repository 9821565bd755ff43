"""What holds for every plan, whatever waits and whatever works."""

from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from farm.placement import Held, Plan, WaitingPart, Warmth, WorkerState, place
from farm.reasons import WaitReason
from farm.states import Priority, Zone
from tests.unit.farm.plans import NOW, held, part, worker

LABELS = st.frozensets(st.sampled_from(["gpu", "big"]), max_size=2)
GROUPS = st.sampled_from(["", "", "pr-1", "pr-2"])
KEYS = st.sampled_from(["a", "b", "c"])
OWNERS = st.sampled_from(["ada", "bob", "eve"])
ZONES = st.sampled_from([Zone.TRUSTED, Zone.TRUSTED, Zone.TRUSTED, Zone.UNTRUSTED])
SECONDS = st.none() | st.floats(1, 300)


def fields(**values: Any) -> dict[str, Any]:
    """What a drawn row is made of."""
    return values


workers = st.lists(
    st.builds(
        fields,
        zone=ZONES,
        labels=LABELS,
        slots=st.integers(0, 3),
        platforms=st.sampled_from([frozenset({"linux/amd64"}), frozenset({"linux/arm64"})]),
        containerd_store=st.booleans(),
        online=st.sampled_from([True, True, True, False]),
        draining=st.sampled_from([False, False, False, True]),
        disk_ok=st.sampled_from([True, True, True, False]),
    ),
    max_size=6,
).map(lambda rows: [worker(n, **row) for n, row in enumerate(rows, 1)])

parts = st.lists(
    st.builds(
        fields,
        project_id=st.integers(1, 3),
        owner=OWNERS,
        group_key=GROUPS,
        cache_key=KEYS,
        platform=st.sampled_from([None, None, "linux/amd64", "linux/arm64"]),
        zone=ZONES,
        labels=st.sampled_from([frozenset[str]()] * 3 + [frozenset({"gpu"})]),
        priority=st.sampled_from(Priority),
        since=st.integers(0, 900).map(lambda s: NOW - timedelta(seconds=s)),
        not_before=st.none() | st.integers(-9, 9).map(lambda s: NOW + timedelta(seconds=s)),
        needs_containerd_store=st.sampled_from([False, False, False, True]),
        avoid=st.frozensets(st.integers(1, 6), max_size=2),
    ),
    max_size=12,
).map(lambda rows: [part(n, **row) for n, row in enumerate(rows, 1)])

busy = st.lists(
    st.builds(
        fields,
        project_id=st.integers(1, 3),
        owner=OWNERS,
        group_key=st.sampled_from(["", "", "", "pr-1"]),
        cache_key=KEYS,
        since=st.integers(0, 600).map(lambda s: NOW - timedelta(seconds=s)),
    ).flatmap(lambda row: st.integers(1, 6).map(lambda w: held(w, **row))),
    max_size=6,
)
warmth = st.dictionaries(
    KEYS, st.dictionaries(st.integers(1, 6), st.builds(Warmth, SECONDS, SECONDS), max_size=3)
)
fit_workers = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(
    lambda slots: [worker(n, slots=count) for n, count in enumerate(slots, 1)]
)
fit_parts = st.lists(
    st.builds(fields, project_id=st.integers(1, 2), owner=OWNERS, group_key=GROUPS, cache_key=KEYS),
    max_size=10,
).map(lambda rows: [part(n, **row) for n, row in enumerate(rows, 1)])
flawed_workers = st.lists(
    st.builds(
        fields,
        slots=st.integers(1, 3),
        online=st.booleans(),
        draining=st.booleans(),
        disk_ok=st.booleans(),
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: [worker(n, **row) for n, row in enumerate(rows, 1)])
caps = st.sampled_from([0, 0, 1, 2])
Warm = dict[str, dict[int, Warmth]]

every_plan = settings(max_examples=80, deadline=None)


def make(p: list[WaitingPart], w: list[WorkerState], b: list[Held], warm: Warm, cap: int) -> Plan:
    return place(p, w, b, warm, now=NOW, project_cap=cap)


def fit(p: WaitingPart, w: WorkerState) -> bool:
    """Said again in other words than the product's: may this worker have this part now?"""
    able = (
        w.zone is p.zone
        and not p.labels - w.labels
        and p.platform in {None, *w.platforms}
        and (not p.needs_containerd_store or w.containerd_store)
    )
    return able and w.online and w.disk_ok and not w.draining


@every_plan
@given(parts, workers, busy, warmth, caps)
def test_every_part_is_assigned_or_told_why_and_never_both(
    p: list[WaitingPart], w: list[WorkerState], b: list[Held], warm: Warm, cap: int
) -> None:
    answer = make(p, w, b, warm, cap)
    assert {*answer.assignments, *answer.waiting} == {each.part_id for each in p}
    assert not set(answer.assignments) & set(answer.waiting)


@every_plan
@given(fit_parts, fit_workers, busy, warmth, caps)
def test_no_worker_gets_more_than_its_slots(
    p: list[WaitingPart], w: list[WorkerState], b: list[Held], warm: Warm, cap: int
) -> None:
    given_to = Counter(make(p, w, b, warm, cap).assignments.values())
    taken = Counter(each.worker_id for each in b)
    for each in w:
        room = max(0, each.slots - taken[each.worker_id])
        assert given_to[each.worker_id] <= room


@every_plan
@given(parts | fit_parts, workers | flawed_workers, busy, warmth, caps)
def test_nothing_goes_to_a_worker_that_is_not_fit_for_it(
    p: list[WaitingPart], w: list[WorkerState], b: list[Held], warm: Warm, cap: int
) -> None:
    by_id, staff = {each.part_id: each for each in p}, {each.worker_id: each for each in w}
    for part_id, worker_id in make(p, w, b, warm, cap).assignments.items():
        assert fit(by_id[part_id], staff[worker_id])
        start = by_id[part_id].not_before
        assert start is None or start <= NOW


@every_plan
@given(parts, workers, busy, warmth, caps)
def test_unschedulable_is_said_exactly_of_what_no_worker_could_ever_take(
    p: list[WaitingPart], w: list[WorkerState], b: list[Held], warm: Warm, cap: int
) -> None:
    answer = make(p, w, b, warm, cap)
    at_their_best = [
        worker(
            each.worker_id,
            zone=each.zone,
            labels=each.labels,
            platforms=each.platforms,
            containerd_store=each.containerd_store,
        )
        for each in w
    ]
    for each in p:
        if each.not_before and each.not_before > NOW:
            continue
        never = bool(w) and not any(fit(each, able) for able in at_their_best)
        why = answer.waiting.get(each.part_id)
        assert never is (why is not None and why.reason is WaitReason.UNSCHEDULABLE)


@every_plan
@given(fit_parts, fit_workers, busy, warmth, caps)
def test_one_of_a_group_at_a_time_and_no_project_past_its_cap(
    p: list[WaitingPart], w: list[WorkerState], b: list[Held], warm: Warm, cap: int
) -> None:
    answer = make(p, w, b, warm, cap)
    gone = [each for each in p if each.part_id in answer.assignments]
    running = {each.group_key for each in b if each.group_key}
    started = Counter(each.group_key for each in gone if each.group_key)
    assert not set(started) & running
    assert all(count == 1 for count in started.values())
    projects = Counter([*(h.project_id for h in b), *(each.project_id for each in gone)])
    for each in gone:
        assert not cap or projects[each.project_id] <= cap


@every_plan
@given(parts, workers, busy, warmth, caps, st.randoms(use_true_random=False))
def test_the_same_farm_gives_the_same_plan_in_whatever_order_it_is_listed(
    p: list[WaitingPart], w: list[WorkerState], b: list[Held], warm: Warm, cap: int, dice: Random
) -> None:
    first = make(p, w, b, warm, cap)
    assert make(p, w, b, warm, cap) == first
    for rows in (p, w, b):
        dice.shuffle(rows)
    assert make(p, w, b, warm, cap).assignments == first.assignments


@every_plan
@given(parts, workers, busy, warmth)
def test_nobody_of_a_lower_priority_takes_a_slot_that_a_higher_one_could_have(
    p: list[WaitingPart], w: list[WorkerState], b: list[Held], warm: Warm
) -> None:
    """Who waits for its warm worker, or for its group, does not count: it gave way by itself."""
    answer = make(p, w, b, warm, 0)
    staff = {each.worker_id: each for each in w}
    rank = list(Priority).index
    for each in p:
        why = answer.waiting.get(each.part_id)
        if why is None or why.reason is not WaitReason.SLOTS_BUSY:
            continue
        for other in p:
            worker_id = answer.assignments.get(other.part_id)
            if worker_id is None or worker_id in each.avoid:
                continue
            if rank(other.priority) > rank(each.priority):
                assert not fit(each, staff[worker_id])


@every_plan
@given(st.integers(1, 6), st.integers(1, 20), st.integers(1, 20))
def test_owners_who_ask_for_alike_get_shares_that_differ_by_one_at_most(
    slots: int, of_ada: int, of_bob: int
) -> None:
    waiting = [part(n, owner="ada") for n in range(1, of_ada + 1)]
    waiting += [part(100 + n, owner="bob") for n in range(1, of_bob + 1)]
    gone = Counter(
        "ada" if part_id < 100 else "bob"
        for part_id in make(waiting, [worker(1, slots=slots)], [], {}, 0).assignments
    )
    assert sum(gone.values()) == min(slots, of_ada + of_bob)
    if min(of_ada, of_bob) >= slots:
        assert abs(gone["ada"] - gone["bob"]) <= 1


@every_plan
@given(workers, st.integers(1, 6))
def test_a_part_alone_goes_to_its_warm_worker_whenever_that_one_is_fit_and_free(
    w: list[WorkerState], number: int
) -> None:
    alone = part(1, cache_key="a")
    warm = {"a": {number: Warmth(10.0, 60.0)}}
    answer = make([alone], w, [], warm, 0)
    home = next((each for each in w if each.worker_id == number), None)
    if home is not None and home.slots and fit(alone, home):
        assert answer.assignments == {1: number}
