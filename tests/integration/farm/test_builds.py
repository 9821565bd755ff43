"""What people ask of builds, before a worker has anything to do with it."""

from typing import Any

import pytest
from pydantic import ValidationError

from farm import builds
from farm.errors import Conflict, Forbidden, Invalid, NotFound
from farm.model import Project
from farm.reasons import Reason, WaitReason
from farm.spec import BuildRequest
from farm.states import BuildStatus, Outcome, Trigger, Zone
from tests.factories import NEWER_SHA, REPOSITORY, SHA, World


def project_of(world: World, build_id: int) -> Project:
    with world.database.read() as session:
        return session.get_one(Project, world.row(build_id).project_id)


def test_a_build_exists_queued_from_the_moment_it_is_asked_for(world: World) -> None:
    row = world.row(world.build(trigger=Trigger.CLI))
    assert (row.status, row.trigger, row.created_at) == (
        BuildStatus.QUEUED,
        Trigger.CLI,
        world.now,
    )
    assert world.part(row.id).waiting_reason is WaitReason.NEW


def test_a_new_repository_makes_its_project_named_after_its_path(world: World) -> None:
    project = project_of(world, world.build())
    assert (project.name, project.owner) == ("acme/app", "acme")
    assert not project.trusted_host


def test_another_spelling_of_a_repository_is_the_same_project(world: World) -> None:
    first = world.row(world.build()).project_id
    other = world.build(repository="https://GIT.example:443/acme/app.git/")
    assert world.row(other).project_id == first


def test_a_second_repository_of_the_same_name_gets_a_number(world: World) -> None:
    world.build()
    names = [
        project_of(world, world.build(repository=f"https://{host}.example/acme/app")).name
        for host in ("forge", "mirror")
    ]
    assert names == ["acme/app-2", "acme/app-3"]


def test_a_project_is_built_by_its_name(world: World) -> None:
    first = world.build()
    again = world.build(project="acme/app")
    assert world.row(again).project_id == world.row(first).project_id
    assert world.row(again).spec["repository"] == REPOSITORY


def test_a_project_that_nobody_knows_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.build(project="no/such")


def test_several_platforms_are_refused_by_name(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        world.build(platforms=["linux/amd64", "linux/arm64"])
    assert refused.value.code == "several_platforms"


def test_a_named_commit_is_known_before_a_worker_has_seen_it(world: World) -> None:
    assert world.row(world.build(sha=SHA)).sha == SHA
    assert world.row(world.build()).sha is None


def test_a_secret_that_nobody_stored_fails_the_build_at_once_and_is_named(world: World) -> None:
    world.secret("KNOWN")
    build_id = world.build(secrets=["KNOWN", "NPM_TOKEN"])
    row = world.row(build_id)
    assert (row.status, row.reason) == (BuildStatus.FAILED, Reason.SECRET_MISSING)
    assert row.message == "Not stored: NPM_TOKEN."
    assert row.started_at is None
    assert row.finished_at == world.now
    assert world.place() == []


def test_a_secret_of_another_project_is_missing(world: World) -> None:
    world.build(repository="https://git.example/other/app")
    world.secret("NPM_TOKEN", project="other/app")
    assert world.row(world.build(secrets=["NPM_TOKEN"])).reason is Reason.SECRET_MISSING
    mine = world.build(repository="https://git.example/other/app", secrets=["NPM_TOKEN"])
    assert world.row(mine).status is BuildStatus.QUEUED


def test_a_build_of_the_untrusted_zone_gets_no_secrets(world: World) -> None:
    world.secret("NPM_TOKEN")
    row = world.row(world.build(secrets=["NPM_TOKEN"], zone="untrusted"))
    assert (row.zone, row.reason) == (Zone.UNTRUSTED, Reason.SECRET_MISSING)


@pytest.mark.parametrize(
    ("trust", "asked", "zone"),
    [
        (Zone.TRUSTED, None, Zone.TRUSTED),
        (Zone.TRUSTED, Zone.UNTRUSTED, Zone.UNTRUSTED),
        (Zone.UNTRUSTED, None, Zone.UNTRUSTED),
        (Zone.UNTRUSTED, Zone.UNTRUSTED, Zone.UNTRUSTED),
        (Zone.UNTRUSTED, Zone.TRUSTED, None),
    ],
)
def test_a_build_is_as_trusted_as_who_asks_or_less(
    world: World, trust: Zone, asked: Zone | None, zone: Zone | None
) -> None:
    wanted = BuildRequest(repository=REPOSITORY, zone=asked)
    with world.database.write() as session:
        if zone is None:
            with pytest.raises(Forbidden):
                builds.request(session, wanted, trigger=Trigger.API, now=world.now, trust=trust)
            return
        build = builds.request(session, wanted, trigger=Trigger.API, now=world.now, trust=trust)
        assert build.zone is zone


def test_a_retry_is_a_new_build_of_the_same_commit_linked_to_the_old(world: World) -> None:
    worker = world.worker()
    old = world.build(build_args={"A": "b"}, priority="high")
    part = world.start(worker, old).part
    world.resolve(part, SHA)
    world.finish(part, Outcome.FAILED, Reason.STEP_FAILED)
    new = world.retry(old)
    row, was = world.row(new), world.row(old)
    assert (row.retry_of, row.trigger, row.status) == (old, Trigger.RETRY, BuildStatus.QUEUED)
    assert (row.sha, row.spec, row.priority) == (SHA, was.spec, was.priority)
    assert was.status is BuildStatus.FAILED
    world.cancel(new)
    again = world.row(world.retry(new))
    assert (again.retry_of, again.root_id) == (new, old)


def test_what_is_not_over_cannot_be_retried(world: World) -> None:
    build_id = world.build()
    with pytest.raises(Conflict) as refused:
        world.retry(build_id)
    assert refused.value.code == "build_not_over"
    world.start(world.worker(), build_id)
    with pytest.raises(Conflict):
        world.retry(build_id)


def test_a_build_that_never_was_is_not_found(world: World) -> None:
    for act in (world.retry, world.cancel):
        with pytest.raises(NotFound):
            act(10**6)


def test_a_pull_request_is_a_group_and_a_plain_build_is_not(world: World) -> None:
    first, second = (world.row(world.build(pull_request=7)) for _ in range(2))
    assert first.group_key == second.group_key != ""
    assert world.row(world.build(pull_request=8)).group_key != first.group_key
    other_image = world.build(pull_request=7, file="other.Dockerfile")
    assert world.row(other_image).group_key != first.group_key
    assert world.row(world.build()).group_key == ""


def test_a_cache_belongs_to_a_project_a_file_and_a_target(world: World) -> None:
    def key(**body: Any) -> str:
        return world.row(world.build(**body)).cache_key

    assert key() == key(ref="main") == key(sha=NEWER_SHA)
    different = {key(), key(file="x"), key(target="x"), key(context="x")}
    different.add(key(repository="https://git.example/other/app"))
    assert len(different) == 5


def test_a_request_that_makes_no_sense_never_reaches_the_database(world: World) -> None:
    with pytest.raises(ValidationError):
        world.build(push=True, tags=[])
