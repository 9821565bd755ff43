"""One attempt on a real engine, registry and git server."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from farm.protocol import (
    Credentials,
    DesiredTag,
    GitCredential,
    PublishAnswer,
    PublishedImage,
)
from farm.reasons import Reason
from farm.spec import BuildSpec
from farm.states import Outcome, StepStatus
from scripts.sample.processes import wait_until
from tests.integration.workers.conftest import Bench
from tests.integration.workers.fake_control import FakeAttempt
from tests.services.engine import Engine
from tests.services.farm import processes_with
from tests.services.gitserver import Credentials as GitLogin
from tests.services.gitserver import GitServer, Repository
from tests.services.registry import Login, Registry
from workers.buildx import Buildx
from workers.runner import Attempt

pytestmark = pytest.mark.engine


def repository_with(git_server: GitServer, base_image: str, *steps: str) -> Repository:
    lines = [f"FROM {base_image}", "COPY app /app", *steps]
    return git_server.make_repository(
        "team/app", {"Dockerfile": "\n".join(lines) + "\n", "app/main.py": "print(1)\n"}
    )


def spec_for(git_server: GitServer, repository: Repository, **fields: object) -> BuildSpec:
    return BuildSpec.model_validate({"repository": git_server.url_of(repository), **fields})


def reason_of(attempt: FakeAttempt) -> tuple[Outcome, Reason | None, str]:
    assert attempt.finish is not None
    return attempt.finish.outcome, attempt.finish.reason, attempt.finish.message


def test_an_image_is_built_pushed_and_tagged(
    bench: Bench, git_server: GitServer, base_image: str, registry: Registry, engine: Engine
) -> None:
    repository = repository_with(git_server, base_image, "RUN echo built; test ! -e /app/.git")
    tag = f"{registry.host}/team/app:main"
    attempt = bench.run(
        bench.order(spec_for(git_server, repository, tags=[tag], push=True, labels={"mine": "yes"}))
    )
    assert attempt.finish is not None, attempt.text
    assert attempt.finish.outcome is Outcome.SUCCEEDED, attempt.text
    assert registry.digest("team/app", "main") == attempt.finish.digest
    assert registry.digest("team/app", "farm-bench-0") == attempt.finish.digest
    assert attempt.finish.size
    assert attempt.finish.log_size == len(attempt.log)
    config = registry.image_config("team/app", "main")
    labels = config["config"]["Labels"]  # type: ignore[index]
    assert labels["org.opencontainers.image.revision"] == repository.sha("refs/heads/main")
    assert (labels["mine"], labels["farm.build.id"]) == ("yes", "x")
    assert attempt.commit is not None
    assert attempt.commit.sha == repository.sha("refs/heads/main")
    assert any(step.name.startswith("[3/3] RUN") for step in attempt.steps.values())
    assert {step.status for step in attempt.steps.values()} == {StepStatus.SUCCEEDED}
    assert bench.leftovers() == []


def test_a_build_that_is_cached_from_end_to_end_has_the_same_digest_again(
    bench: Bench, git_server: GitServer, base_image: str, registry: Registry
) -> None:
    repository = repository_with(git_server, base_image, "RUN date > /made")
    spec = spec_for(git_server, repository, tags=[f"{registry.host}/team/again:1"], push=True)
    first, second = (bench.run(bench.order(spec)).finish for _ in range(2))
    assert first
    assert second
    assert first.digest == second.digest


def test_a_failing_step_reports_its_name_and_exit_code(
    bench: Bench, git_server: GitServer, base_image: str
) -> None:
    repository = repository_with(git_server, base_image, "RUN echo so far; exit 7")
    attempt = bench.run(bench.order(spec_for(git_server, repository)))
    assert reason_of(attempt) == (
        Outcome.FAILED,
        Reason.STEP_FAILED,
        "[3/3] RUN echo so far; exit 7: exit code 7",
    )
    assert "so far" in attempt.text
    failed = [s for s in attempt.steps.values() if s.status is StepStatus.FAILED]
    assert [step.name for step in failed] == ["[3/3] RUN echo so far; exit 7"]


def test_an_unpushed_image_has_a_digest_and_leaves_no_name_in_the_engine(
    bench: Bench, git_server: GitServer, base_image: str, engine: Engine
) -> None:
    repository = repository_with(git_server, base_image)
    attempt = bench.run(bench.order(spec_for(git_server, repository)))
    assert attempt.finish is not None
    assert attempt.finish.outcome is Outcome.SUCCEEDED, attempt.text
    assert attempt.finish.digest
    assert attempt.finish.size
    assert "farm-bench" not in engine.docker("image", "ls", "--format", "{{.Repository}}")


def test_a_secret_reaches_its_step_and_nobody_else(
    bench: Bench, git_server: GitServer, base_image: str
) -> None:
    step = (
        "RUN --mount=type=secret,id=token cat /run/secrets/token; "
        "base64 /run/secrets/token; sed 's/./&\\n/9' /run/secrets/token; exit 3"
    )
    repository = repository_with(git_server, base_image, step)
    secret = "hunter2-is-no-password"
    attempt = bench.run(
        bench.order(
            spec_for(git_server, repository, secrets=["token"]),
            credentials=Credentials(secrets={"token": secret}),
        )
    )
    assert reason_of(attempt)[1] is Reason.STEP_FAILED, attempt.text
    assert "***" in attempt.text
    assert secret not in attempt.text
    assert "aHVudGVyMi1pcy1uby1wYXNz" not in attempt.text
    assert bench.leftovers() == []


def test_a_secret_that_is_not_stored_is_named(
    bench: Bench, git_server: GitServer, base_image: str
) -> None:
    repository = repository_with(git_server, base_image)
    attempt = bench.run(bench.order(spec_for(git_server, repository, secrets=["nope"])))
    assert reason_of(attempt) == (Outcome.FAILED, Reason.SECRET_MISSING, "not stored: nope")


@pytest.mark.parametrize("asked_by", ["cancel", "stale", "timeout", "shutdown"])
def test_a_build_that_is_told_to_stop_leaves_no_process_and_no_folder(
    bench: Bench, git_server: GitServer, base_image: str, asked_by: str
) -> None:
    repository = repository_with(git_server, base_image, "RUN echo now; sleep 61.25")
    spec = spec_for(git_server, repository, no_cache=True)
    attempt = bench.order(spec, timeout_s=4 if asked_by == "timeout" else 60)
    with bench.running(attempt):
        wait_until(lambda: " now\n" in attempt.text, what="in the step", seconds=30)
        if asked_by == "shutdown":
            bench.hand_back()
        else:
            attempt.cancel = asked_by == "cancel"
            attempt.stale = asked_by == "stale"
    wait_until(lambda: not processes_with("sleep 61.25"), what="step ended", seconds=10)
    assert not processes_with(str(bench.layout.tmp))
    assert bench.leftovers() == []
    match asked_by:
        case "cancel":
            assert reason_of(attempt)[:2] == (Outcome.CANCELLED, Reason.REQUESTED)
        case "timeout":
            assert reason_of(attempt)[:2] == (Outcome.FAILED, Reason.TIMED_OUT)
        case "stale":
            assert attempt.finish is None
        case "shutdown":
            assert attempt.handed_back is not None


def test_a_silent_control_plane_stops_no_build_and_gets_log_and_result_later(
    bench: Bench, git_server: GitServer, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.reporting.LAST_LOG_S", 0.5)
    monkeypatch.setattr("workers.reporting.FINISH_FOR_S", 0.5)
    repository = repository_with(git_server, base_image, "RUN echo first; sleep 2; echo last;")
    attempt = bench.order(spec_for(git_server, repository, no_cache=True))
    with bench.running(attempt):
        wait_until(lambda: " first\n" in attempt.text, what="in the step", seconds=30)
        bench.plane.silent = True
    assert attempt.finish is None
    assert " last\n" not in attempt.text
    assert bench.tools.spool.send(bench.tools.control) == 1
    bench.plane.silent = False
    assert bench.tools.spool.send(bench.tools.control) == 0
    assert attempt.finish is not None
    assert attempt.finish.outcome is Outcome.SUCCEEDED
    assert " last\n" in attempt.text
    assert attempt.finish.log_size == len(attempt.log)
    assert list(bench.layout.spool.iterdir()) == []


def test_a_void_claim_changes_nothing(bench: Bench, git_server: GitServer, base_image: str) -> None:
    repository = repository_with(git_server, base_image)
    attempt = bench.order(spec_for(git_server, repository))
    attempt.claim = "somebody else"
    bench.run(attempt)
    assert bench.plane.requests == ["/worker/v1/attempts/1/1/claim"]


def test_a_published_part_has_only_its_tags_put(
    bench: Bench, git_server: GitServer, base_image: str, registry: Registry
) -> None:
    repository = repository_with(git_server, base_image)
    tag = f"{registry.host}/team/late:1"
    spec = spec_for(git_server, repository, tags=[tag], push=True)
    first = bench.run(bench.order(spec)).finish
    assert first
    assert first.digest
    other = spec.model_copy(update={"tags": [f"{registry.host}/team/late:2"]})
    second = bench.run(
        bench.order(other, published=PublishedImage(digest=first.digest, size=first.size))
    )
    assert second.finish is not None
    assert second.finish.digest == first.digest
    assert second.steps == {}
    assert registry.digest("team/late", "2") == first.digest


def test_a_stale_publish_puts_back_the_tag_that_it_moved(
    bench: Bench, git_server: GitServer, base_image: str, registry: Registry
) -> None:
    repository = repository_with(git_server, base_image, "RUN cat /proc/uptime > /made")
    tag = f"{registry.host}/team/moved:1"
    spec = spec_for(git_server, repository, tags=[tag], push=True, no_cache=True)
    winner = bench.run(bench.order(spec)).finish
    assert winner
    assert winner.digest
    attempt = bench.order(spec)
    asked: list[int] = []

    def lose_the_second_time() -> None:
        asked.append(1)
        attempt.stale = len(asked) == 1

    attempt.on_publish = lose_the_second_time
    attempt.desired = [DesiredTag(reference=tag, digest=winner.digest)]
    bench.run(attempt)
    assert attempt.finish is None
    assert registry.digest("team/moved", "1") == winner.digest
    assert registry.digest("team/moved", "farm-bench-0") != winner.digest


def test_a_tag_that_a_newer_build_took_in_between_is_given_back(
    bench: Bench, git_server: GitServer, base_image: str, registry: Registry
) -> None:
    repository = repository_with(git_server, base_image, "RUN cat /proc/uptime > /made")
    tags = [f"{registry.host}/team/shared:{n}" for n in ("mine", "theirs")]
    spec = spec_for(git_server, repository, tags=tags, push=True, no_cache=True)
    newer = bench.run(bench.order(spec)).finish
    assert newer
    assert newer.digest
    attempt = bench.order(spec)
    taken = PublishAnswer(
        owned=tags[:1], others=[DesiredTag(reference=tags[1], digest=newer.digest)]
    )
    attempt.publish_answers = [PublishAnswer(owned=tags, others=[]), taken, taken]
    older = bench.run(attempt).finish
    assert older
    assert older.outcome is Outcome.SUCCEEDED
    assert registry.digest("team/shared", "mine") == older.digest
    assert registry.digest("team/shared", "theirs") == newer.digest


def test_a_private_registry_without_a_login_is_refused_before_building(
    bench: Bench, git_server: GitServer, base_image: str, private_registry: Registry
) -> None:
    repository = repository_with(git_server, base_image)
    tag = f"{private_registry.host}/team/app:1"
    attempt = bench.run(bench.order(spec_for(git_server, repository, tags=[tag], push=True)))
    outcome, reason, message = reason_of(attempt)
    assert (outcome, reason) == (Outcome.FAILED, Reason.REGISTRY_UNAUTHORIZED)
    assert private_registry.host in message
    assert attempt.steps == {}


def test_private_things_work_with_their_credentials(
    bench: Bench, git_server: GitServer, base_image: str, private_registry: Registry
) -> None:
    repository = repository_with(git_server, base_image)
    git_server.credentials[repository.name] = GitLogin("someone", "git-token-1234")
    login = private_registry.login
    assert isinstance(login, Login)
    tag = f"{private_registry.host}/team/app:1"
    credentials = Credentials.model_validate(
        {
            "git": GitCredential(username="someone", password="git-token-1234").model_dump(),
            "registries": [
                {
                    "host": private_registry.host,
                    "username": login.username,
                    "password": login.password,
                }
            ],
        }
    )
    attempt = bench.run(
        bench.order(
            spec_for(git_server, repository, tags=[tag], push=True), credentials=credentials
        )
    )
    assert attempt.finish is not None
    assert attempt.finish.outcome is Outcome.SUCCEEDED, attempt.text
    assert private_registry.digest("team/app", "1") == attempt.finish.digest
    assert "git-token-1234" not in attempt.text


@pytest.mark.parametrize(
    ("dockerfile", "reason"),
    [
        ("FORM scratch\n", Reason.DOCKERFILE_INVALID),
        ("FROM scratch\nCOPY nothere /x\n", Reason.STEP_FAILED),
        ("FROM {registry}/no/such:1\nRUN true\n", Reason.BASE_IMAGE_UNAVAILABLE),
        ("FROM localhost:1/no/such:1\nRUN true\n", Reason.REGISTRY_UNAVAILABLE),
        ("FROM {base}\nRUN --mount=type=secret,id=x,required=true true\n", Reason.SECRET_MISSING),
        ("FROM {base}\nRUN sh -c 'kill -9 $$'; exit $?\n", Reason.OUT_OF_MEMORY),
        ("FROM {base}\nRUN echo No space left on device; exit 1\n", Reason.STEP_FAILED),
    ],
)
def test_what_is_wrong_with_a_dockerfile_is_said(
    bench: Bench,
    git_server: GitServer,
    base_image: str,
    registry: Registry,
    dockerfile: str,
    reason: Reason,
) -> None:
    text = dockerfile.replace("{base}", base_image).replace("{registry}", registry.host)
    repository = git_server.make_repository("team/wrong", {"Dockerfile": text})
    attempt = bench.run(bench.order(spec_for(git_server, repository)))
    assert reason_of(attempt)[1] is reason, (reason_of(attempt), attempt.text)


def test_a_log_over_its_limit_keeps_its_head_and_its_tail(
    bench: Bench, git_server: GitServer, base_image: str
) -> None:
    step = "RUN i=0; while [ $i -lt 4000 ]; do echo line-$i; i=$((i+1)); done"
    repository = repository_with(git_server, base_image, step)
    spec = spec_for(git_server, repository, no_cache=True)
    attempt = bench.run(bench.order(spec, log_limit=64 * 1024))
    assert attempt.finish is not None
    assert len(attempt.log) <= 64 * 1024
    assert " line-0\n" in attempt.text
    assert " line-3999\n" in attempt.text
    assert "lines (" in attempt.text
    assert attempt.text.splitlines()[-1] == "#0 succeeded"


def test_an_error_of_the_workers_own_is_reported_with_the_log_and_leaves_nothing(
    bench: Bench, git_server: GitServer, base_image: str, engine: Engine
) -> None:
    def break_down() -> bool:
        raise ZeroDivisionError

    repository = repository_with(git_server, base_image, "RUN echo No space left on device.")
    attempt = bench.order(spec_for(git_server, repository, no_cache=True))
    broken = Buildx({"DOCKER_HOST": engine.host}, disk_is_full=break_down)
    running = Attempt(replace(bench.tools, buildx=broken), attempt.answer.part_id, 1)
    with pytest.raises(ZeroDivisionError) as caught:
        running.carry_out()
    running.report_fault(caught.value)
    assert reason_of(attempt)[:2] == (Outcome.ERRORED, Reason.WORKER_FAULT)
    assert "No space left" in attempt.text.splitlines()[-1]
    assert attempt.finish is not None
    assert attempt.finish.log_size == len(attempt.log)
    assert bench.plane.requests.count("/worker/v1/attempts/1/1/finish") == 1
    assert bench.leftovers() == []
    assert list(bench.layout.spool.iterdir()) == []
    assert not {thread.name for thread in threading.enumerate()} & {"log", "lease"}


def test_a_timeout_during_publish_does_not_undo_the_build(
    bench: Bench, git_server: GitServer, base_image: str, registry: Registry
) -> None:
    repository = repository_with(git_server, base_image)
    tag = f"{registry.host}/team/timely:1"
    attempt = bench.order(spec_for(git_server, repository, tags=[tag], push=True), timeout_s=5)
    pauses = [5.5]
    attempt.on_publish = lambda: time.sleep(pauses.pop() if pauses else 0)
    bench.run(attempt)
    assert attempt.finish is not None
    assert attempt.finish.outcome is Outcome.SUCCEEDED, attempt.text
    assert registry.digest("team/timely", "1") == attempt.finish.digest


def test_a_worker_that_learns_from_its_heartbeat_that_it_is_stale_still_puts_its_tag_back(
    bench: Bench, git_server: GitServer, base_image: str, registry: Registry
) -> None:
    repository = repository_with(git_server, base_image, "RUN cat /proc/uptime > /made")
    tag = f"{registry.host}/team/late-news:1"
    spec = spec_for(git_server, repository, tags=[tag], push=True, no_cache=True)
    winner = bench.run(bench.order(spec)).finish
    assert winner
    assert winner.digest
    attempt = bench.order(spec)

    def lose_after_the_first_answer() -> None:
        attempt.stale = True
        attempt.publish_is_silent_until = time.monotonic() + 1

    attempt.on_publish = lose_after_the_first_answer
    attempt.desired = [DesiredTag(reference=tag, digest=winner.digest)]
    bench.run(attempt)
    assert attempt.finish is None
    assert registry.digest("team/late-news", "1") == winner.digest


def test_a_resumed_attempt_repairs_what_its_predecessor_moved_too_late(
    bench: Bench, git_server: GitServer, base_image: str, registry: Registry
) -> None:
    repository = repository_with(git_server, base_image, "RUN cat /proc/uptime > /made")
    tag = f"{registry.host}/team/resumed:1"
    spec = spec_for(git_server, repository, tags=[tag], push=True, no_cache=True)
    ten = bench.run(bench.order(spec)).finish
    nine = bench.run(bench.order(spec)).finish  # its PUT comes last
    assert ten
    assert nine
    assert nine.digest
    assert registry.digest("team/resumed", "1") == nine.digest
    image = PublishedImage(digest=nine.digest, size=nine.size)
    again = bench.order(spec, published=image, timeout_s=0)
    taken = PublishAnswer(owned=[], others=[DesiredTag(reference=tag, digest=ten.digest)])
    again.publish_answers = [taken] * 3
    finish = bench.run(again).finish
    assert finish
    assert finish.outcome is Outcome.SUCCEEDED
    assert registry.digest("team/resumed", "1") == ten.digest
