"""How git is called, and what its complaints mean."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from farm.errors import AttemptError
from farm.reasons import Reason
from workers.address import Pin, goes_through_proxy
from workers.attemptdir import AttemptDir, Claimed
from workers.git import FetchOrder, Git
from workers.giterrors import explain, is_corrupt
from workers.process import KEPT_BYTES, READ_BYTES, run
from workers.stop import Stop


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("fatal: couldn't find remote ref refs/heads/x", Reason.REF_NOT_FOUND),
        ("fatal: Authentication failed for 'https://h/x.git/'", Reason.REPOSITORY_UNAUTHORIZED),
        (
            "fatal: could not read Username for 'https://h': terminal prompts disabled",
            Reason.REPOSITORY_UNAUTHORIZED,
        ),
        (
            "remote: no such repository\nfatal: repository 'https://h/x.git/' not found",
            Reason.REPOSITORY_UNAUTHORIZED,
        ),
        (
            "fatal: unable to access 'https://h/': The requested URL returned error: 403",
            Reason.REPOSITORY_UNAUTHORIZED,
        ),
        (
            "fatal: unable to access 'https://h/': The requested URL returned error: 503",
            Reason.REPOSITORY_UNAVAILABLE,
        ),
        (
            "fatal: unable to access 'https://h/': Could not resolve host: h",
            Reason.REPOSITORY_UNAVAILABLE,
        ),
        (
            "fatal: unable to access 'https://h/': Failed to connect to h port 443",
            Reason.REPOSITORY_UNAVAILABLE,
        ),
        (
            "fatal: unable to access 'https://h/': The requested URL returned error: 302",
            Reason.CONFIGURATION_INVALID,
        ),
        (
            "error: object 1234: hasDotgit: contains '.git'\nfatal: fsck error in packed object",
            Reason.SOURCE_REFUSED,
        ),
        ("fatal: write error: No space left on device", Reason.NO_SPACE),
        ("error: RPC failed; curl 18\nfatal: early EOF", Reason.REPOSITORY_UNAVAILABLE),
        (
            "remote: Access to this repository is forbidden\n"
            "fatal: unable to access 'https://h/': The requested URL returned error: 403",
            Reason.REPOSITORY_UNAUTHORIZED,
        ),
        ("remote: You are forbidden to read this.\nfatal: bye", Reason.REPOSITORY_UNAUTHORIZED),
        (
            "remote: fsck error, no space left on device\nfatal: the remote end hung up",
            Reason.REPOSITORY_UNAVAILABLE,
        ),
        ("fatal: a sentence of tomorrow", Reason.UNKNOWN),
        ("", Reason.UNKNOWN),
    ],
)
def test_what_git_says_has_its_reason(stderr: str, reason: Reason) -> None:
    assert explain(stderr).reason is reason


def test_a_damaged_mirror_is_seen() -> None:
    assert is_corrupt("error: object file objects/12/34 is empty")
    assert not is_corrupt("fatal: couldn't find remote ref x")


def test_a_server_cannot_have_a_mirror_thrown_away() -> None:
    assert not is_corrupt("remote: fatal: bad object HEAD\nfatal: the remote end hung up")


def test_a_pin_is_in_the_form_that_curl_reads() -> None:
    pin = Pin("forge.example", 443, ("140.82.121.4", "2606::1"))
    assert str(pin) == "forge.example:443:140.82.121.4,[2606::1]"


@pytest.mark.parametrize(
    "url", ["http://forge.example/a/b", "https://127.0.0.1/a/b", "https://localhost/a/b"]
)
def test_a_strict_worker_fetches_from_public_hosts_over_https_alone(
    url: str, tmp_path: Path
) -> None:
    git = Git(tmp_path, insecure_ok=False, own_environment={})
    git.prepare()
    order = FetchOrder(url, "HEAD", None, "1.1")
    with (
        AttemptDir.create(tmp_path / "tmp", Claimed(1, 1, "x")) as folder,
        pytest.raises(AttemptError) as caught,
    ):
        git.fetch(order, None, folder, Stop())
    assert caught.value.reason is Reason.CONFIGURATION_INVALID


FORGE = "https://git.forge.example/a/b"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"NO_PROXY": "other.example"}, False),
        ({"https_proxy": "", "HTTPS_PROXY": ""}, False),
        ({"http_proxy": "http://p:1"}, False),
        ({"https_proxy": "http://p:1"}, True),
        ({"HTTPS_PROXY": "http://p:1"}, True),
        ({"all_proxy": "http://p:1"}, True),
        ({"https_proxy": "http://p:1", "no_proxy": "forge.example"}, False),
        ({"https_proxy": "http://p:1", "NO_PROXY": "x, .forge.example:443"}, False),
        ({"https_proxy": "http://p:1", "NO_PROXY": "x git.forge.example"}, False),
        ({"https_proxy": "http://p:1", "NO_PROXY": "*"}, False),
        ({"https_proxy": "http://p:1", "NO_PROXY": "e.example,.,"}, True),
    ],
)
def test_a_name_is_left_to_a_proxy_only_when_git_really_uses_it(
    environment: dict[str, str], *, expected: bool
) -> None:
    assert goes_through_proxy(FORGE, environment) is expected


def test_an_address_is_checked_also_behind_a_proxy() -> None:
    assert not goes_through_proxy("https://10.0.0.1/a/b", {"https_proxy": "http://p:1"})


def reason_for(tmp_path: Path, order: FetchOrder, environment: dict[str, str]) -> Reason:
    git = Git(tmp_path, insecure_ok=False, own_environment=environment)
    git.prepare()
    with (
        AttemptDir.create(tmp_path / "tmp", Claimed(1, 1, "x")) as folder,
        pytest.raises(AttemptError) as caught,
    ):
        git.fetch(order, None, folder, Stop())
    return caught.value.reason


def test_no_proxy_alone_does_not_switch_the_check_off(tmp_path: Path) -> None:
    order = FetchOrder("https://localhost:1/a/b", "HEAD", None, "1.1")
    found = reason_for(tmp_path, order, {"NO_PROXY": "example.com", "https_proxy": ""})
    assert found is Reason.CONFIGURATION_INVALID


def test_a_registered_forge_may_be_private_but_is_not_called_over_http(tmp_path: Path) -> None:
    private = FetchOrder("https://localhost:1/a/b", "HEAD", None, "1.1", trusted_host=True)
    assert reason_for(tmp_path, private, {}) is Reason.REPOSITORY_UNAVAILABLE
    plain = FetchOrder("http://localhost:1/a/b", "HEAD", None, "1.1", trusted_host=True)
    assert reason_for(tmp_path, plain, {}) is Reason.CONFIGURATION_INVALID


def test_of_endless_words_the_end_is_kept() -> None:
    script = "import sys\nfor n in range(300000): print('remote: x' * 3, n, file=sys.stderr)"
    ended = run([sys.executable, "-c", script], env={}, on_start=nullcontext)
    assert len(ended.err) <= KEPT_BYTES + READ_BYTES
    assert ended.err.endswith(" 299999\n")


def test_a_command_gets_its_input_and_says_both_things() -> None:
    script = "import sys; d = sys.stdin.read(); print(d); print(d * 100000, file=sys.stderr)"
    ended = run([sys.executable, "-c", script], env={}, on_start=nullcontext, stdin=b"hello")
    assert (ended.code, ended.out) == (0, "hello\n")
    assert ended.err.endswith("hello\n")
