"""The one writer of a status: every pair of states, and the story that it leaves."""

from itertools import product

import pytest
from sqlalchemy import update

from farm import lifecycle
from farm.errors import StaleAttempt
from farm.model import Build, Part
from farm.reasons import Reason
from farm.states import MOVES, BuildStatus
from tests.factories import World


def put(world: World, build_id: int, status: BuildStatus) -> None:
    """Put a build and its part into a state, past every rule."""
    with world.database.write() as session:
        session.execute(update(Build).where(Build.id == build_id).values(status=status))
        session.execute(update(Part).where(Part.build_id == build_id).values(status=status))


def move(world: World, build_id: int, source: BuildStatus, target: BuildStatus) -> BuildStatus:
    with world.database.write() as session:
        part = session.get_one(Part, world.part(build_id).id)
        return lifecycle.move_part(session, part, source, target, now=world.now)


def test_every_pair_of_states_moves_exactly_as_the_table_says(world: World) -> None:
    build_id = world.build()
    for source, target in product(BuildStatus, BuildStatus):
        put(world, build_id, source)
        if target in MOVES[source]:
            assert move(world, build_id, source, target) is target
            assert world.row(build_id).status is target
        else:
            with pytest.raises(ValueError, match="no such move"):
                move(world, build_id, source, target)
            assert world.row(build_id).status is source


def test_a_move_from_a_state_that_is_past_is_stale_and_leaves_no_event(world: World) -> None:
    build_id = world.build()
    put(world, build_id, BuildStatus.RUNNING)
    before = len(world.events(build_id))
    with pytest.raises(StaleAttempt):
        move(world, build_id, BuildStatus.QUEUED, BuildStatus.RUNNING)
    assert len(world.events(build_id)) == before


def test_a_move_of_an_older_attempt_is_stale(world: World) -> None:
    build_id = world.build()
    part = world.part(build_id)
    with world.database.write() as session:
        session.execute(update(Part).where(Part.id == part.id).values(attempt=2))
    with world.database.write() as session, pytest.raises(StaleAttempt):
        lifecycle.move_part(session, part, BuildStatus.QUEUED, BuildStatus.RUNNING, now=world.now)


def test_a_fence_that_does_not_hold_stops_the_move(world: World) -> None:
    build_id = world.build()
    part = world.part(build_id)
    with world.database.write() as session, pytest.raises(StaleAttempt):
        lifecycle.move_part(
            session,
            part,
            BuildStatus.QUEUED,
            BuildStatus.RUNNING,
            now=world.now,
            fence=[Part.claim == "somebody else's"],
        )
    assert world.part(build_id).status is BuildStatus.QUEUED


def test_the_whole_story_of_a_build_is_told_by_its_events(world: World) -> None:
    worker = world.worker()
    build_id = world.build()
    world.later(2)
    world.succeed(worker, build_id)
    told = [(e.kind, e.from_status, e.to_status, e.attempt) for e in world.events(build_id)]
    assert told == [
        ("build", None, "queued", None),
        ("part", "queued", "running", 1),
        ("build", "queued", "running", None),
        ("part", "running", "succeeded", 1),
        ("build", "running", "succeeded", None),
    ]


def test_a_build_keeps_when_it_started_and_ended_and_why(world: World) -> None:
    build_id = world.build()
    asked = world.now
    put(world, build_id, BuildStatus.QUEUED)
    world.later(5)
    move(world, build_id, BuildStatus.QUEUED, BuildStatus.RUNNING)
    ended = world.later(5)
    with world.database.write() as session:
        lifecycle.move_part(
            session,
            session.get_one(Part, world.part(build_id).id),
            BuildStatus.RUNNING,
            BuildStatus.FAILED,
            now=ended,
            reason=Reason.STEP_FAILED,
            message="RUN false: exit code 1",
        )
    row = world.row(build_id)
    assert (row.created_at, row.finished_at) == (asked, ended)
    assert row.started_at == world.later(-5)
    assert (row.reason, row.message) == (Reason.STEP_FAILED, "RUN false: exit code 1")
