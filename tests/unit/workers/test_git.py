"""How git is called, and what its complaints mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.errors import AttemptError
from farm.reasons import Reason
from workers.address import Pin, is_public
from workers.attemptdir import AttemptDir, Claimed
from workers.git import FetchOrder, Git
from workers.giterrors import explain, is_corrupt
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
        ("fatal: a sentence of tomorrow", Reason.UNKNOWN),
        ("", Reason.UNKNOWN),
    ],
)
def test_what_git_says_has_its_reason(stderr: str, reason: Reason) -> None:
    assert explain(stderr).reason is reason


def test_a_damaged_mirror_is_seen() -> None:
    assert is_corrupt("error: object file objects/12/34 is empty")
    assert not is_corrupt("fatal: couldn't find remote ref x")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *(
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1%eth0",
            "fd00:ec2::254",
        ),
        *("::ffff:169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
def test_an_address_that_is_not_the_internet_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["140.82.121.4", "2606:50c0:8000::153", "::ffff:140.82.121.4"])
def test_a_public_address_passes(address: str) -> None:
    assert is_public(address)


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
