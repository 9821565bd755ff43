"""Two at once: real threads on a real database; on Postgres they truly meet."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from farm import access, attempts, builds, fleet, projects, sweep
from farm.errors import Conflict, FarmError, StaleAttempt
from farm.model import Build, CacheUse, Presence, Tag
from farm.protocol import Enrolment, Finish, Publish
from farm.states import BuildStatus, Outcome
from tests.factories import DIGEST, OTHER_DIGEST, SHA, TAG, World, wait_until

ResultT = TypeVar("ResultT")


def at_once(*acts: Callable[[], ResultT]) -> list[ResultT | FarmError]:
    """Do all of them in the same moment; what each returned, or the farm's error."""
    barrier = Barrier(len(acts))

    def run(act: Callable[[], ResultT]) -> ResultT | FarmError:
        barrier.wait(10)
        try:
            return act()
        except FarmError as refused:
            return refused

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def somebody_waits(world: World) -> bool:
    """Whether a transaction waits for another's lock (SQLite: the second waits to begin)."""
    if world.database.url.get_backend_name() == "sqlite":
        return True
    with world.database.read() as session:
        return bool(session.execute(text("SELECT 1 FROM pg_locks WHERE NOT granted")).first())


def after(
    world: World, first: Callable[[Session], object], second: Callable[[], ResultT]
) -> ResultT:
    """Do `second` while `first` has written and not yet committed; what it then returned."""
    with ThreadPoolExecutor(1) as pool:
        with world.database.write() as session:
            first(session)
            session.flush()
            late: Future[ResultT] = pool.submit(second)
            wait_until(lambda: somebody_waits(world))
        return late.result(20)


@pytest.mark.parametrize("round_", range(5))
def test_of_two_claims_at_once_one_wins(world: World, round_: int) -> None:
    worker, build_id = world.worker(), world.build()
    world.place()
    part = world.part(build_id)

    def claim(token: str) -> str:
        with world.database.write() as session:
            attempts.claim(session, worker, part.id, 1, token, now=world.now, limits=world.limits)
            return token

    answers = at_once(*(lambda t=f"{n:016d}": claim(t) for n in range(4)))
    (winner,) = [answer for answer in answers if isinstance(answer, str)]
    assert sum(isinstance(answer, StaleAttempt) for answer in answers) == 3
    assert world.part(build_id).claim == winner
    assert len(world.attempts(build_id)) == 1


@pytest.mark.parametrize("round_", range(5))
def test_a_cancel_and_a_publish_at_once_are_one_before_the_other(world: World, round_: int) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    cancelled, published = at_once(
        lambda: bool(world.cancel(build_id)), lambda: bool(world.publish(part).owned)
    )
    row, now = world.row(build_id), world.part(build_id)
    if published is True:
        assert isinstance(cancelled, Conflict)
        assert (now.digest, row.cancel_reason) == (DIGEST, None)
        assert world.finish(part) is BuildStatus.SUCCEEDED
    else:
        assert cancelled is True
        assert isinstance(published, Conflict)
        assert now.published_at is None
        assert world.finish(part, Outcome.CANCELLED) is BuildStatus.CANCELLED


@pytest.mark.parametrize("round_", range(3))
def test_a_lost_worker_and_its_finish_at_once_are_one_before_the_other(
    world: World, round_: int
) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.publish(part)
    with world.database.write() as session:
        sweep.record_web_up(session, "web", now=world.now, lease=world.limits.lease)
    world.later(61)
    with world.database.write() as session:
        session.get_one(Presence, sweep.WEB).seen_at = world.now

    def lose() -> bool:
        with world.database.write() as session:
            swept = sweep.sweep(
                session, now=world.now, limits=world.limits, claim_within=world.limits.lease
            )
            return bool(swept.lost)

    lost, finished = at_once(lose, lambda: bool(world.finish(part)))
    status = world.row(build_id).status
    if finished is True:
        assert (lost, status) == (False, BuildStatus.SUCCEEDED)
    else:
        assert isinstance(finished, StaleAttempt)
        assert (lost, status) == (True, BuildStatus.QUEUED)


@pytest.mark.parametrize("round_", range(3))
def test_a_finish_sent_twice_at_once_ends_the_build_once(world: World, round_: int) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.publish(part)
    answers = at_once(lambda: world.finish(part), lambda: world.finish(part))
    assert answers == [BuildStatus.SUCCEEDED] * 2
    ends = [event for event in world.events(build_id) if event.to_status == "succeeded"]
    assert len(ends) == 2  # of the part and of the build


def test_a_cancel_that_waits_for_a_publish_comes_too_late(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part

    def publish(session: Session) -> None:
        image = Publish(digest=DIGEST, size=1)
        attempts.publish(session, part.id, 1, "t" * 16, image, now=world.now)

    def cancel() -> str:
        try:
            world.cancel(build_id)
        except Conflict as refused:
            return refused.code
        return "cancelled"

    assert after(world, publish, cancel) == "too_late"


def test_a_publish_that_waits_for_a_cancel_is_refused(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part

    def publish() -> str:
        try:
            world.publish(part)
        except Conflict as refused:
            return refused.code
        return "published"

    def cancel(session: Session) -> None:
        builds.cancel(session, build_id, now=world.now)

    assert after(world, cancel, publish) == "cancel_requested"


def test_of_two_schedulers_that_start_at_once_one_leads(world: World) -> None:
    def lead() -> bool:
        with world.database.write() as session:
            return sweep.lead(session, "second", now=world.now)

    assert after(world, lambda s: sweep.lead(s, "first", now=world.now), lead) is False


def test_web_processes_that_start_at_once_are_all_recorded(world: World) -> None:
    def up() -> bool:
        with world.database.write() as session:
            sweep.record_web_up(session, "second", now=world.now, lease=world.limits.lease)
        return True

    assert after(
        world,
        lambda s: sweep.record_web_up(s, "first", now=world.now, lease=world.limits.lease),
        up,
    )
    with world.database.read() as session:
        assert session.get_one(Presence, sweep.WEB).holder == "second"


@pytest.mark.parametrize("newer_first", [True, False])
def test_two_builds_that_publish_a_new_name_at_once_leave_it_to_the_newer(
    world: World,
    newer_first: bool,  # noqa: FBT001, a parameter of the test
) -> None:
    worker = world.worker()
    older, newer = (world.start(worker, world.build(sha=sha)).part for sha in (SHA, "b" * 40))
    first, second = (newer, older) if newer_first else (older, newer)
    digests = {older.id: DIGEST, newer.id: OTHER_DIGEST}

    def publish(session: Session) -> None:
        image = Publish(digest=digests[first.id], size=1)
        attempts.publish(session, first.id, 1, "t" * 16, image, now=world.now)

    answer = after(world, publish, lambda: world.publish(second, digests[second.id]))
    assert answer.owned == ([] if newer_first else [TAG])
    with world.database.read() as session:
        assert session.get_one(Tag, TAG).digest == OTHER_DIGEST


def test_of_two_builds_that_find_one_commit_at_once_the_later_owns_the_name(
    world: World,
) -> None:
    worker = world.worker()
    first, second = (world.start(worker, world.build()).part for _ in range(2))
    at_once(lambda: world.resolve(first), lambda: world.resolve(second))
    assert world.publish(second, OTHER_DIGEST).owned == [TAG]
    assert world.publish(first).owned == []
    with world.database.read() as session:
        assert session.get_one(Tag, TAG).digest == OTHER_DIGEST


def test_two_builds_of_one_cache_that_end_at_once_both_end(world: World) -> None:
    worker = world.worker()
    first, second = (world.start(worker, world.build(push=False)).part for _ in range(2))

    def finish(session: Session) -> None:
        report = Finish(outcome=Outcome.SUCCEEDED, phases={"build": 1.0})
        attempts.finish(session, first.id, 1, "t" * 16, report, now=world.now, limits=world.limits)

    assert after(world, finish, lambda: world.finish(second)) is BuildStatus.SUCCEEDED
    with world.database.read() as session:
        assert session.query(CacheUse).count() == 1


def test_a_repository_asked_for_twice_at_once_is_one_project(world: World) -> None:
    url = "https://git.example/acme/new"

    def ensure() -> int:
        with world.database.write() as session:
            return projects.ensure(session, url, now=world.now).id

    made = after(world, lambda s: projects.ensure(s, url, now=world.now), ensure)
    assert made == world.row(world.build(repository=url)).project_id


def test_two_workers_that_ask_for_one_name_at_once_get_two(world: World) -> None:

    with world.database.write() as session:
        token = access.create_token(session, name="e", scopes=["worker"], now=world.now)

    def enrol(session: Session, instance: str) -> str:
        wanted = Enrolment(name="w", protocol=1, instance=instance * 32)
        return fleet.enrol(session, token, wanted, now=world.now).name

    def second() -> str:
        with world.database.write() as session:
            return enrol(session, "b")

    assert after(world, lambda s: enrol(s, "a"), second) == "w-2"


@pytest.mark.parametrize("round_", range(3))
def test_builds_asked_for_at_once_all_exist(world: World, round_: int) -> None:
    ids = at_once(*(world.build for _ in range(6)))
    assert len({*ids}) == 6
    with world.database.read() as session:
        assert session.query(Build).count() == 6
