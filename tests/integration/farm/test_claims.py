"""Claiming: one conditional UPDATE decides who may build what."""

import pytest

from farm import access, attempts, fleet, projects
from farm.credentials import claim_answer
from farm.errors import StaleAttempt
from farm.protocol import PROTOCOL, Enrolment, StepReport
from farm.reasons import Reason
from farm.states import BuildStatus, Phase, StepStatus, Zone
from tests.factories import DIGEST, LEASE, NEWER_SHA, REPOSITORY, SHA, World, check_in

TOKEN, OTHER = "t" * 16, "u" * 16


def test_a_placed_part_is_claimed_and_runs(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    claimed = world.start(worker, build_id)
    part = world.part(build_id)
    assert (part.status, part.claim, part.phase) == (BuildStatus.RUNNING, TOKEN, Phase.FETCHING)
    assert part.lease_until == world.now + LEASE
    assert part.waiting_reason is None
    assert claimed.spec.repository == REPOSITORY
    (attempt,) = world.attempts(build_id)
    assert (attempt.number, attempt.worker_name, attempt.outcome) == (1, "w1", None)
    assert world.row(build_id).started_at == world.now


def test_a_claim_repeated_with_the_same_token_gets_the_same_answer(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    first = world.start(worker, build_id)
    events = len(world.events(build_id))
    again = world.claim(worker, build_id)
    assert (again.spec, again.part.id, again.build.id) == (
        first.spec,
        first.part.id,
        first.build.id,
    )
    assert len(world.attempts(build_id)) == 1
    assert len(world.events(build_id)) == events


def test_a_second_token_is_stale_even_from_the_same_worker(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    world.start(worker, build_id)
    with pytest.raises(StaleAttempt):
        world.claim(worker, build_id, OTHER)
    assert world.part(build_id).claim == TOKEN


def test_a_worker_that_the_part_was_not_placed_on_is_stale(world: World) -> None:
    placed, build_id = world.worker("w1", slots=1), world.build()
    world.place()
    other = world.worker("w2")
    with pytest.raises(StaleAttempt):
        world.claim(other, build_id)
    assert world.claim(placed, build_id).build.id == build_id


def test_a_part_that_was_never_placed_cannot_be_claimed(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    with pytest.raises(StaleAttempt):
        world.claim(worker, build_id)


@pytest.mark.parametrize("number", [0, 2, 99])
def test_another_attempt_number_is_stale(world: World, number: int) -> None:
    worker, build_id = world.worker(), world.build()
    world.place()
    with world.database.write() as session, pytest.raises(StaleAttempt):
        attempts.claim(
            session,
            worker,
            world.part(build_id).id,
            number,
            TOKEN,
            now=world.now,
            limits=world.limits,
        )


def test_a_part_that_does_not_exist_is_stale_for_every_verb(world: World) -> None:
    worker = world.worker()
    with world.database.write() as session:
        for verb in (
            lambda: attempts.claim(
                session, worker, 999, 1, TOKEN, now=world.now, limits=world.limits
            ),
            lambda: attempts.check_fence(session, 999, 1, TOKEN),
            lambda: attempts.heartbeat(
                session, 999, 1, TOKEN, phase=None, now=world.now, lease=LEASE
            ),
        ):
            with pytest.raises(StaleAttempt):
                verb()


def test_a_heartbeat_renews_the_lease(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.later(50)
    assert world.beat(part) is False
    now = world.part(build_id)
    assert (now.lease_until, now.phase) == (world.now + LEASE, Phase.BUILDING)


def test_a_heartbeat_with_another_token_is_stale_and_renews_nothing(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    until = world.part(build_id).lease_until
    world.later(10)
    with pytest.raises(StaleAttempt):
        world.beat(part, OTHER)
    assert world.part(build_id).lease_until == until


def test_a_heartbeat_tells_of_a_cancel(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.cancel(build_id)
    assert world.beat(part) is True


def test_the_first_report_of_a_commit_wins(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    part = world.start(worker, build_id).part
    assert world.resolve(part, SHA) == SHA
    assert world.resolve(part, NEWER_SHA) == SHA
    assert world.row(build_id).sha == SHA


def test_a_next_attempt_builds_the_commit_that_the_first_one_found(world: World) -> None:
    worker, build_id = world.worker(), world.build()
    world.resolve(world.start(worker, build_id).part, SHA)
    world.hand_back(world.part(build_id))
    claimed = world.start(worker, build_id, OTHER)
    with world.database.read() as session:
        answer = claim_answer(session, claimed, world.sealer, world.settings)
    assert (answer.sha, answer.attempt, answer.published) == (SHA, 2, None)


def test_the_farms_faults_cost_a_build_none_of_its_timeout(world: World) -> None:
    worker, build_id = world.worker(), world.build(timeout_s=100)
    assert world.start(worker, build_id).timeout_s == 100
    world.later(30)
    world.hand_back(world.part(build_id))
    assert world.start(worker, build_id, OTHER).timeout_s == 100


def test_a_claim_token_is_worth_nothing_to_another_worker(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker("w1"), build_id).part
    other = world.worker("w2")
    with pytest.raises(StaleAttempt):
        world.claim(other, build_id)
    with world.database.read() as session:
        with pytest.raises(StaleAttempt):
            attempts.require_worker(session, other.id, part.id, 1)
        with pytest.raises(StaleAttempt):
            attempts.require_worker(session, other.id, part.id, 2)


def test_a_secret_taken_away_while_a_build_waited_fails_it_at_its_claim(world: World) -> None:
    world.secret("NPM_TOKEN")
    worker, build_id = world.worker(), world.build(secrets=["NPM_TOKEN"])
    world.place()
    with world.database.write() as session:
        projects.remove_secret(session, "NPM_TOKEN", None)
    with world.database.write() as session:
        part = world.part(build_id)
        ended = attempts.missing_at_claim(session, worker, part.id, part.attempt, now=world.now)
    assert ended == build_id
    row = world.row(build_id)
    assert (row.status, row.reason) == (BuildStatus.FAILED, Reason.SECRET_MISSING)
    with pytest.raises(StaleAttempt):
        world.claim(worker, build_id)


def test_only_the_worker_that_was_sent_a_part_can_fail_it_for_its_secrets(world: World) -> None:
    world.secret("NPM_TOKEN")
    world.worker("w1")
    build_id = world.build(secrets=["NPM_TOKEN"])
    world.place()
    other, part = world.worker("w2"), world.part(build_id)
    with world.database.write() as session:
        assert (
            attempts.missing_at_claim(session, other, part.id, part.attempt, now=world.now) is None
        )
    assert world.part(build_id).status is BuildStatus.QUEUED


def test_a_claim_carries_the_projects_own_credentials_before_those_for_all(world: World) -> None:
    world.build()
    world.secret("NPM_TOKEN", "for all")
    world.secret("NPM_TOKEN", "for this one", project="acme/app")
    world.secret("OTHER", "not asked for")
    build_id = world.build(secrets=["NPM_TOKEN"])
    world.cancel(build_id - 1)
    claimed = world.start(world.worker(), build_id)
    with world.database.read() as session:
        answer = claim_answer(session, claimed, world.sealer, world.settings)
    assert answer.credentials.secrets == {"NPM_TOKEN": "for this one"}


def test_an_untrusted_build_gets_only_the_logins_that_it_pushes_with(world: World) -> None:
    with world.database.write() as session:
        for host in ("registry.example", "other.example"):
            projects.set_registry(
                session, host=host, username="u", password="p", project=None,
                sealer=world.sealer, now=world.now,
            )  # fmt: skip
        token = access.create_token(
            session, name="e", scopes=["worker"], zone=Zone.UNTRUSTED, now=world.now
        )
        wanted = Enrolment(name="u1", protocol=PROTOCOL, instance="f" * 32)
        own = fleet.enrol(session, token, wanted, now=world.now)
        worker = fleet.authenticate(session, own.token)
        fleet.check_in(session, worker, check_in(), now=world.now)
    claimed = world.start(worker, world.build(zone="untrusted"))
    with world.database.read() as session:
        answer = claim_answer(session, claimed, world.sealer, world.settings)
    assert [login.host for login in answer.credentials.registries] == ["registry.example"]


def step(number: int, *, cached: bool = False, name: str = "RUN true") -> StepReport:
    return StepReport(
        number=number,
        name=name,
        status=StepStatus.SUCCEEDED,
        cached=cached,
        started_at=None,
        duration_s=1.5,
    )


def test_steps_are_stored_each_over_its_earlier_report(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    for reports in ([step(1), step(2)], [step(2, cached=True), step(3), step(3, name="last")], []):
        with world.database.write() as session:
            _, stored = attempts.record_steps(session, part.id, 1, TOKEN, reports)
    row = world.row(build_id)
    assert (row.steps_total, row.steps_cached) == (3, 1)
    assert stored == []


def test_steps_of_another_attempt_are_stale(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    with world.database.write() as session, pytest.raises(StaleAttempt):
        attempts.record_steps(session, part.id, 1, OTHER, [step(1)])
    with world.database.write() as session, pytest.raises(StaleAttempt):
        attempts.record_steps(session, part.id, 2, TOKEN, [step(1)])
    assert world.row(build_id).steps_total == 0


def test_a_part_keeps_its_digest_once_it_is_published(world: World) -> None:
    build_id = world.build()
    part = world.start(world.worker(), build_id).part
    world.publish(part, DIGEST)
    assert (world.part(build_id).digest, world.part(build_id).size) == (DIGEST, 1000)
