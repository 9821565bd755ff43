"""Hostile repository URLs: rows A1 to A24 of the threat model, by number.

A21 and A22 (redirects, rebinding) are the worker's: tests of workers/git.py. A10's
http:// is well-formed here and refused by web/actions.py unless FARM_INSECURE_OK=1.
"""

import pytest

from farm import guard
from farm.errors import Invalid
from farm.references import normal_repository, parse_repository_url, project_name_of

MALFORMED = [
    ("A1", "ext::sh -c touch% /tmp/pwn"),
    ("A2", "EXT::sh -c touch% /tmp/pwn"),
    ("A2", "eXt::sh"),
    ("A3", "fd::17"),
    ("A4", "--upload-pack=touch /tmp/pwn"),
    ("A4", "--upload-pack=touch"),
    ("A4", "https://host/--upload-pack=touch/x"),
    ("A6", "-ccore.sshCommand=touch"),
    ("A7", "ssh://-oProxyCommand=touch%20x/"),
    ("A7", "https://-oProxyCommand=x/a/b"),
    ("A8", "git@-oProxyCommand=x:y"),
    ("A8", "user@host:path"),
    ("A8", "ssh://git@host/owner/name"),
    ("A9", "file:///etc"),
    ("A9", "/etc"),
    ("A9", "../x"),
    ("A9", "C:\\x"),
    ("A9", "https://host/a/../../etc"),
    ("A10", "git://host/x"),
    ("A14", "https://①②⑦.0.0.1/x"),
    ("A14", "https://127。0。0。1/x"),
    ("A14", "https://ⓛocalhost/x"),
    ("A18", "https://github.com@127.0.0.1/x"),
    ("A18", "https://github.com\\@127.0.0.1/x"),
    ("A18", "https://127.0.0.1#@github.com/x"),
    ("A18", "https://127.0.0.1?@github.com/x"),
    ("A19", "https://github.com\t.evil/x"),
    ("A19", "https://github.com\n/x"),
    ("A19", "https://github.com/x\n"),
    ("A20", "https://user:pass@host/x.git"),
    ("A20", "https://token@host/x.git"),
    ("A20", "https://:@host/x.git"),
    ("A23", "https:///x"),
    ("A23", "https://host:99999/x"),
    ("A23", "https://h:443:80/x"),
    ("A23", "https://h:0/x"),
    ("A23", "https://[::1/x"),
    ("A23", "https://host"),
    ("A23", "https://host/"),
    ("A24", "https://host/" + "a" * 100_000),
    ("A24", "https://host/a\x00b"),
    ("A24", "https://host/a\u202eb"),
    ("A24", ""),
    ("A24", "https://host/a b"),
]


@pytest.mark.parametrize(("row", "url"), MALFORMED)
def test_what_is_no_clone_url_is_refused_and_not_repeated(row: str, url: str) -> None:
    with pytest.raises(ValueError, match=r"must|is not a URL") as refused:
        parse_repository_url(url)
    assert not url or url not in str(refused.value), row


INSIDE = [
    ("A11", "169.254.169.254"),
    ("A12", "127.0.0.1"),
    ("A12", "localhost"),
    ("A12", "localhost."),
    ("A12", "LOCALHOST"),
    ("A12", "farm.localhost"),
    ("A13", "127.1"),
    ("A13", "2130706433"),
    ("A13", "0x7f.1"),
    ("A13", "0177.0.0.1"),
    ("A13", "0"),
    ("A13", "127.0.0.1."),
    ("A15", "::ffff:169.254.169.254"),
    ("A15", "::ffff:127.0.0.1"),
    ("A15", "64:ff9b::7f00:1"),
    ("A15", "64:ff9b:1::7f00:1"),
    ("A15", "2002:7f00:1::"),
    ("A15", "::1"),
    ("A15", "::127.0.0.1"),
    ("A15", "::"),
    ("A15", "fe80::1"),
    ("A15", "fd00:ec2::254"),
    ("A15", "2001:0:7f00:1::"),
    ("A16", "168.63.129.16"),
    ("A16", "192.0.0.192"),
    ("A16", "224.0.0.1"),
    ("A16", "ff02::1"),
    ("A17", "100.64.0.1"),
    ("A17", "10.0.0.1"),
    ("A17", "172.16.0.1"),
    ("A17", "192.168.1.1"),
    ("A17", "0.0.0.0"),
    ("A17", "255.255.255.255"),
]


@pytest.mark.parametrize(("row", "host"), INSIDE)
def test_an_address_inside_is_refused(row: str, host: str) -> None:
    with pytest.raises(Invalid) as refused:
        guard.check_host(host, field="repository", insecure_ok=False)
    assert refused.value.code == "address_refused", row
    assert host not in refused.value.message


@pytest.mark.parametrize("host", ["93.184.215.14", "2606:4700::1111", "8.8.8.8"])
def test_a_public_address_passes(host: str) -> None:
    guard.check_host(host, field="repository", insecure_ok=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_a_trial_farm_may_use_its_own_machine(host: str) -> None:
    guard.check_host(host, field="repository", insecure_ok=True)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "10.0.0.1",
        "168.63.129.16",
        "fe80::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
    ],
)
def test_a_trial_farm_still_refuses_what_is_not_its_own_machine(host: str) -> None:
    with pytest.raises(Invalid):
        guard.check_host(host, field="repository", insecure_ok=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/owner/name",
        "https://git.example/owner/name.git",
        "https://git.example:8443/group/sub/name.git",
        "http://127.0.0.1:3000/owner/name",
        "https://[2606:4700::1111]/owner/name",
        "https://git.example/name",
        "https://git.example./owner/name",
        "https://a-b.git.example/o-w_n.er/n-a_m.e",
    ],
)
def test_a_clone_url_over_http_is_taken(url: str) -> None:
    assert parse_repository_url(url).hostname


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://git.example/acme/app.git", "acme/app"),
        ("https://git.example/acme/app", "acme/app"),
        ("https://git.example/acme/app/", "acme/app"),
        ("https://git.example/group/sub/app.git", "sub/app"),
        ("https://git.example/app", "app"),
    ],
)
def test_a_project_is_named_after_the_last_two_segments(url: str, name: str) -> None:
    assert project_name_of(url) == name


@pytest.mark.parametrize(
    "spelling",
    [
        "https://git.example/acme/app",
        "https://git.example/acme/app.git",
        "https://git.example/acme/app/",
        "https://GIT.Example/acme/app.git",
        "https://git.example:443/acme/app.git",
        "https://git.example./acme/app",
        "https://git.example//acme/app",
        "HTTPS://git.example/acme/app.git/",
    ],
)
def test_two_spellings_of_a_repository_are_one(spelling: str) -> None:
    assert normal_repository(spelling) == "https://git.example/acme/app"


def test_two_repositories_are_never_one() -> None:
    urls = {
        "https://git.example/acme/app",
        "https://git.example/acme/App",
        "https://git.example:8443/acme/app",
        "https://git.example/acme/app/more",
        "http://git.example/acme/app",
    }
    assert len({normal_repository(url) for url in urls}) == len(urls)
