"""The body of a build request against rows A30 and C1 to C16 of the threat model.

C10 (another team's namespace, `latest` from a pull request) needs a policy of
destinations, which is a later issue; the addresses in it are refused by web/actions.
"""

from typing import Any

import pytest
from pydantic import ValidationError

from farm.spec import BuildRequest, BuildSpec, cached_images

GIT = "https://git.example/acme/app"


def request(**fields: Any) -> BuildRequest:
    return BuildRequest.model_validate({"repository": GIT, **fields})


def many(count: int) -> dict[str, str]:
    return {f"NAME_{n}": "x" for n in range(count)}


REFUSED = [
    ("A30", {"pull_request": -1}),
    ("A30", {"pull_request": 0}),
    ("A30", {"pull_request": 2**63}),
    ("A30", {"pull_request": "2; rm"}),
    ("A30", {"pull_request": "2"}),
    ("A30", {"pull_request": 1.0}),
    ("A30", {"pull_request": True}),
    ("C1", {"file": "../x"}),
    ("C1", {"file": "/etc/shadow"}),
    ("C1", {"file": "-"}),
    ("C2", {"context": "-"}),
    ("C2", {"context": "https://host/x"}),
    ("C2", {"context": "git@host:x"}),
    ("C2", {"context": "--output=x"}),
    ("C2", {"context": ""}),
    ("C3", {"build_args": {"A B": "x"}}),
    ("C3", {"build_args": {"": "x"}}),
    ("C3", {"build_args": {"=v": "x"}}),
    ("C3", {"build_args": {"A=B": "x"}}),
    ("C3", {"build_args": {"A\n": "x"}}),
    ("C3", {"build_args": {"BUILDKIT_SYNTAX": "x"}}),
    ("C3", {"build_args": {"buildkit_syntax": "x"}}),
    ("C3", {"build_args": {"BUILDKIT_CACHE_MOUNT_NS": "x"}}),
    ("C3", {"build_args": {"HTTP_PROXY": "x"}}),
    ("C3", {"build_args": {"https_proxy": "x"}}),
    ("C3", {"build_args": {"A" * 129: "x"}}),
    ("C4", {"build_args": {"NAME": None}}),
    ("C4", {"build_args": ["NAME"]}),
    ("C5", {"build_args": {"A": "\x1b[2J"}}),
    ("C5", {"build_args": {"A": "\x00"}}),
    ("C5", {"build_args": {"A": "\u202e"}}),
    ("C5", {"build_args": {"A": "x" * 2**20}}),
    ("C5", {"build_args": {"A": "\ud800"}}),
    ("C5", {"build_args": {"A": 1}}),
    ("C6", {"build_args": many(65)}),
    ("C6", {"labels": many(65)}),
    ("C6", {"tags": [f"registry.example/a:{n}" for n in range(65)]}),
    ("C6", {"secrets": [f"s{n}" for n in range(65)]}),
    ("C7", {"labels": {"a b": "x"}}),
    ("C7", {"labels": {"com.docker.x": "x"}}),
    ("C7", {"labels": {"Com.Docker.x": "x"}}),
    ("C7", {"labels": {"io.buildkit.x": "x"}}),
    ("C8", {"labels": {"a": None}}),
    ("C8", {"labels": {"a": "x" * 100_000}}),
    ("C8", {"labels": {"a": "\x07"}}),
    ("C8", {"labels": {"a=b": "x"}}),
    ("C8", {"labels": {"": "x"}}),
    ("C9", {"tags": ["--push"]}),
    ("C9", {"tags": ["a@sha256:" + "0" * 64]}),
    ("C9", {"tags": [1]}),
    ("C11", {"platforms": ["linux/evil"]}),
    ("C11", {"platforms": [";id"]}),
    ("C11", {"platforms": ["local"]}),
    ("C11", {"platforms": ["linux/amd64"] * 100}),
    ("C12", {"target": "--no-cache"}),
    ("C12", {"target": "x" * 10_240}),
    ("C12", {"target": "a\n"}),
    ("C12", {"target": ""}),
    ("C13", {"cache_to": ["type=local,dest=/etc"]}),
    ("C13", {"cache_from": ["type=local,src=/etc"]}),
    ("C13", {"cache_from": ["type=registry,ref=--x"]}),
    ("C13", {"cache_from": ["type=registry"]}),
    ("C13", {"cache_from": ["type=registry,ref=a,src=/etc"]}),
    ("C13", {"cache_from": ['type=registry,ref=a,"src=/etc"']}),
    ("C13", {"cache_from": ["type=gha"]}),
    ("C13", {"cache_from": ["type=s3,bucket=b"]}),
    ("C13", {"cache_from": ["type=local,type=registry,ref=a"]}),
    ("C13", {"cache_from": ["type=registry,ref=a,ref=b"]}),
    ("C14", {"secrets": ["id=x,src=/etc/shadow"]}),
    ("C14", {"secrets": ["x,env=FARM_SECRET_KEY"]}),
    ("C14", {"secrets": [{"id": "x", "src": "/etc/shadow"}]}),
    ("C15", {"ssh": ["default"]}),
    ("C15", {"add_host": ["a:1.2.3.4"]}),
    ("C15", {"network": "host"}),
    ("C15", {"allow": ["security.insecure"]}),
    ("C15", {"cgroup_parent": "x"}),
    ("C15", {"ulimit": ["nofile=1"]}),
    ("C15", {"builder": "x"}),
    ("C15", {"output": "type=local,dest=/"}),
    ("C15", {"outputs": ["type=local,dest=/"]}),
    ("C15", {"iidfile": "/x"}),
    ("C15", {"metadata_file": "/x"}),
    ("C15", {"policy": "x"}),
    ("C15", {"attest": "generator=evil/img"}),
    ("C15", {"build_contexts": {"up": "/"}}),
    ("C16", {"priority": 10**9}),
    ("C16", {"priority": "urgent"}),
    ("C16", {"timeout_s": 0}),
    ("C16", {"timeout_s": -1}),
    ("C16", {"timeout_s": 10**9}),
    ("C16", {"timeout_s": "60"}),
    ("C16", {"queue": "default; rm"}),
    ("C16", {"runs_on": ["gpu big"]}),
    ("C16", {"runs_on": [""]}),
    ("C16", {"push": 1}),
    ("C16", {"no_cache": "yes"}),
]


@pytest.mark.parametrize(("row", "fields"), REFUSED)
def test_a_hostile_field_is_refused(row: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        request(**fields)
    assert refused.value.error_count() >= 1, row


@pytest.mark.parametrize(
    "fields",
    [
        {"build_args": {"A": "two\nlines"}},  # C5: a newline is allowed
        {"build_args": {"A": ""}},
        {"build_args": {"A": "x" * 4096}},
        {"build_args": many(64)},
        {"labels": {"org.opencontainers.image.source": "mine"}},  # C7: the project's own wins
        {"labels": {"Maintainer": "ada"}},  # C7: label names have a case in Docker
        {"target": "Build_1"},  # C12: a stage's name may have capitals, Docker reads it so
        {"cache_from": ["registry.example/app:cache", "type=inline"]},
        {"cache_to": ["type=registry,ref=registry.example/app:cache,mode=max"]},
        {"runs_on": ["gpu", "disk=nvme"]},
        {"secrets": ["NPM_TOKEN"]},
    ],
)
def test_an_ordinary_field_is_taken(fields: dict[str, Any]) -> None:
    assert request(**fields).compile(GIT).repository == GIT


def test_a_request_names_a_repository_or_a_project() -> None:
    with pytest.raises(ValidationError, match="either repository or project"):
        BuildRequest.model_validate({})
    with pytest.raises(ValidationError, match="either repository or project"):
        request(project="acme/app")
    assert BuildRequest(project="acme/app").project == "acme/app"


def test_a_request_names_a_pull_request_or_a_ref() -> None:
    with pytest.raises(ValidationError, match="either pull_request or ref"):
        request(pull_request=1, ref="main")


def test_pushing_needs_a_tag() -> None:
    with pytest.raises(ValidationError, match="at least one tag"):
        request(push=True)


@pytest.mark.parametrize(
    ("fields", "push"),
    [
        ({}, False),
        ({"tags": ["registry.example/a:1"]}, True),
        ({"tags": ["registry.example/a:1"], "push": False}, False),
        ({"push": False}, False),
    ],
)
def test_a_build_pushes_when_it_has_tags_unless_it_says_no(
    fields: dict[str, Any],
    push: bool,  # noqa: FBT001, a column of the table
) -> None:
    assert request(**fields).compile(GIT).push is push


@pytest.mark.parametrize(
    ("fields", "file"),
    [
        ({}, "Dockerfile"),
        ({"context": "app"}, "app/Dockerfile"),
        ({"context": "./app/"}, "app/Dockerfile"),
        ({"context": "app", "file": "build/x.Dockerfile"}, "build/x.Dockerfile"),
    ],
)
def test_the_dockerfile_is_in_the_context_unless_it_is_named(
    fields: dict[str, Any], file: str
) -> None:
    assert request(**fields).compile(GIT).file == file


@pytest.mark.parametrize(
    ("fields", "ref"),
    [
        ({}, "HEAD"),
        ({"ref": "main"}, "main"),
        ({"ref": "refs/tags/v1"}, "refs/tags/v1"),
        ({"pull_request": 7}, "refs/pull/7/head"),
    ],
)
def test_what_is_fetched(fields: dict[str, Any], ref: str) -> None:
    assert request(**fields).compile(GIT).git_ref == ref


def test_tags_are_completed_and_each_is_there_once() -> None:
    spec = request(tags=["acme/app:1", "docker.io/acme/app:1", "acme/app"]).compile(GIT)
    assert spec.tags == ["docker.io/acme/app:1", "docker.io/acme/app:latest"]


def test_a_spec_survives_the_database_unchanged() -> None:
    spec = request(
        tags=["acme/app:1"], cache_from=["acme/app:cache"], build_args={"A": "b"}, pull_request=3
    ).compile(GIT)
    assert BuildSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_exporting_a_registry_cache_needs_the_containerd_store() -> None:
    exporting = request(cache_to=["type=registry,ref=acme/app:cache"]).compile(GIT)
    assert exporting.needs_containerd_store
    assert not request(cache_to=["type=inline"]).compile(GIT).needs_containerd_store
    assert not request(cache_from=["acme/app:cache"]).compile(GIT).needs_containerd_store


def test_the_images_of_a_cache_are_known_for_the_address_guard() -> None:
    entries = ["type=registry,ref=10.0.0.1/app:cache,mode=max", "type=inline"]
    assert [image.registry for image in cached_images(entries)] == ["10.0.0.1"]
