"""Git refs, commits, paths and image references: rows A5, A25-A28 and C1, C2, C9-C12."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from farm.references import (
    check_ref,
    check_registry_host,
    check_repository_path,
    parse_image_reference,
)
from farm.spec import Sha

BAD_REFS = [
    ("A5", "--upload-pack=touch /tmp/pwn"),
    ("A5", "--upload-pack=touch"),
    ("A25", "a..b"),
    ("A25", "a b"),
    ("A25", "a~1"),
    ("A25", "a^"),
    ("A25", "x.lock"),
    ("A25", "a/x.lock/b"),
    ("A25", ".x"),
    ("A25", "a/.x"),
    ("A25", "x/"),
    ("A25", "x."),
    ("A25", "@{-1}"),
    ("A25", "@"),
    ("A25", ""),
    ("A25", "a//b"),
    ("A25", "/a"),
    ("A25", "a?"),
    ("A25", "a*"),
    ("A25", "a["),
    ("A25", "a\\b"),
    ("A26", "-f"),
    ("A26", "+refs/*:refs/*"),
    ("A26", "+main"),
    ("A26", ":main"),
    ("A26", "main:main"),
    ("A27", "a\nb"),
    ("A27", "main\n"),
    ("A27", "a\x00b"),
    ("A27", "$(id)"),
    ("A27", "a;b"),
    ("A27", "a`b`"),
    ("A27", "a|b"),
    ("A27", "a'b"),
    ("A27", 'a"b'),
    ("A27", "a\u202eb"),
    ("A27", "a\ud800"),
    ("A27", "a" * 256),
]


@pytest.mark.parametrize(("row", "ref"), BAD_REFS)
def test_what_git_or_a_shell_could_misread_is_no_ref(row: str, ref: str) -> None:
    with pytest.raises(ValueError, match=r"must|is not a valid git ref") as refused:
        check_ref(ref)
    assert len(ref) < 3 or ref not in str(refused.value), row


@pytest.mark.parametrize(
    "ref",
    [
        "main",
        "refs/heads/main",
        "refs/tags/v1.2.3",
        "feature/-x",
        "v1.0",
        "fix_#12",
        "größe",
        "HEAD",
    ],
)
def test_an_ordinary_ref_is_taken_as_it_is(ref: str) -> None:
    assert check_ref(ref) == ref


class _Commit(BaseModel):
    sha: Sha


@pytest.mark.parametrize(
    ("row", "sha"),
    [
        ("A28", "HEAD"),
        ("A28", "A" * 40),
        ("A28", "a" * 39),
        ("A28", "a" * 41),
        ("A28", "0" * 40),
        ("A28", "0" * 64),
        ("A28", "abc1234"),
        ("A28", "a" * 40 + "\n"),
        ("A28", ""),
    ],
)
def test_a_commit_is_named_in_full(row: str, sha: str) -> None:
    with pytest.raises(ValidationError):
        _Commit(sha=sha)
    assert row


@pytest.mark.parametrize("sha", ["a" * 40, "0123456789abcdef" * 4])
def test_both_of_gits_hashes_are_commits(sha: str) -> None:
    assert _Commit(sha=sha).sha == sha


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ("C1", "../x"),
        ("C1", "a/../../x"),
        ("C1", "/etc/shadow"),
        ("C1", "-"),
        ("C1", "--help"),
        ("C1", "a\x00b"),
        ("C1", "C:\\x"),
        ("C1", "a\\b"),
        ("C1", "a/-x"),
        ("C1", "~/x"),
        ("C1", ".git/config"),
        ("C1", "a/.GIT/config"),
        ("C1", "a\nb"),
        ("C1", "a" * 1025),
        ("C2", "https://host/x"),
        ("C2", "git@host:x"),
        ("C2", "--output=x"),
        ("C2", "/"),
        ("C2", ""),
        ("C2", "docker-image://x"),
    ],
)
def test_a_path_never_leaves_the_repository(row: str, path: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_repository_path(path)
    assert row


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("./././Dockerfile", "Dockerfile"),  # C1: normalised, not refused
        ("a//b/", "a/b"),
        (".", "."),
        ("./", "."),
        ("deploy/docker file", "deploy/docker file"),
        ("a/..b", "a/..b"),
    ],
)
def test_a_path_is_normalised(path: str, normal: str) -> None:
    assert check_repository_path(path) == normal


@pytest.mark.parametrize(
    ("row", "reference"),
    [
        ("C9", "Foo/Bar:1"),
        ("C9", "a:b\nc"),
        ("C9", "a:b\n"),
        ("C9", "a:" + "x" * 129),
        ("C9", "a//b"),
        ("C9", "../x"),
        ("C9", "-x"),
        ("C9", "--push"),
        ("C9", "a@sha256:" + "0" * 64),
        ("C9", "a:b@sha256:" + "0" * 64),
        ("C9", "$(id)"),
        ("C9", "a;id"),
        ("C9", "h:99999/a"),
        ("C9", "h:0/a"),
        ("C9", "a" * 256),
        ("C9", "ubuntu\u202e"),
        ("C9", "x/y:.z"),
        ("C9", ""),
        ("C9", "a b"),
        ("C9", "registry.example/:tag"),
        ("C9", "https://registry.example/a"),
    ],
)
def test_what_is_no_image_reference_is_refused(row: str, reference: str) -> None:
    with pytest.raises(ValueError, match="must") as refused:
        parse_image_reference(reference)
    assert len(reference) < 3 or reference not in str(refused.value), row


@pytest.mark.parametrize(
    ("reference", "whole"),
    [
        ("app", "docker.io/library/app:latest"),
        ("acme/app:1", "docker.io/acme/app:1"),
        ("docker.io/app", "docker.io/library/app:latest"),
        ("index.docker.io/acme/app", "docker.io/acme/app:latest"),
        ("registry.example/a/b/c:v1.2-x_y", "registry.example/a/b/c:v1.2-x_y"),
        ("localhost:5000/app:pr-1", "localhost:5000/app:pr-1"),
        ("localhost/app", "localhost/app:latest"),
        ("Registry.Example/app:Tag", "registry.example/app:Tag"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1"),
        ("a__b/c---d", "docker.io/a__b/c---d:latest"),
    ],
)
def test_a_reference_is_completed_as_docker_does(reference: str, whole: str) -> None:
    assert str(parse_image_reference(reference)) == whole


@given(st.text(alphabet="aA0._-/:@[] \n%", max_size=40))
def test_a_completed_reference_reads_the_same_again(text: str) -> None:
    try:
        once = parse_image_reference(text)
    except ValueError:
        return
    assert parse_image_reference(str(once)) == once


@pytest.mark.parametrize(
    ("given_host", "host"),
    [
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("Registry.Example", "registry.example"),
        ("localhost:5000", "localhost:5000"),
        (" registry.example ", "registry.example"),
    ],
)
def test_a_registry_is_known_by_its_host(given_host: str, host: str) -> None:
    assert check_registry_host(given_host) == host


@pytest.mark.parametrize(
    "text", ["https://registry.example", "registry.example/path", "a b", "-x", "a\nb", "a;b"]
)
def test_what_is_no_host_is_no_registry(text: str) -> None:
    with pytest.raises(ValueError, match="must be a registry's host"):
        check_registry_host(text)
