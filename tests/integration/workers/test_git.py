"""Fetching and exporting from a real git server, honest and hostile repositories."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from farm.errors import AttemptError
from farm.protocol import GitCredential
from farm.reasons import Reason
from scripts.sample.processes import program
from tests.services.gitserver import Credentials, GitServer, Repository
from workers.attemptdir import AttemptDir, Claimed
from workers.git import Fetched, FetchOrder, Git
from workers.stop import Cause, Stop

FILES = {"Dockerfile": "FROM scratch\n", "app/main.py": "print(1)\n"}


@pytest.fixture
def git(tmp_path: Path) -> Git:
    found = Git(tmp_path / "worker", insecure_ok=True, own_environment={})
    found.prepare()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[AttemptDir]:
    with AttemptDir.create(tmp_path / "tmp", Claimed(1, 1, "claim")) as found:
        yield found


@pytest.fixture
def repository(git_server: GitServer) -> Repository:
    return git_server.make_repository("team/app", FILES)


Fetch = Callable[..., Fetched]


@pytest.fixture
def fetch(git: Git, git_server: GitServer, repository: Repository, folder: AttemptDir) -> Fetch:
    def call(
        ref: str = "HEAD", *, sha: str | None = None, login: GitCredential | None = None
    ) -> Fetched:
        order = FetchOrder(git_server.url_of(repository), ref, sha, "1.1")
        return git.fetch(order, login, folder, Stop())

    return call


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(AttemptError) as caught:
        call()
    return caught.value.reason


def test_the_default_branch_a_branch_a_tag_and_a_pull_request_are_found(
    fetch: Fetch, repository: Repository
) -> None:
    main = repository.sha("refs/heads/main")
    side = repository.commit({"x": "1"}, branch="feature/x")
    proposal = repository.open_pull_request(5, {"y": "1"})
    repository.git("tag", "v1", main)
    repository.git(
        *("-c", "user.name=a", "-c", "user.email=a@b.c"),
        *("tag", "--annotate", "--message=x", "v2", side),
    )
    assert fetch().sha == main
    assert fetch("feature/x").sha == side
    assert fetch("v1").sha == main
    assert fetch("v2").sha == side
    assert fetch("refs/pull/5/head").sha == proposal
    assert fetch("refs/heads/main").commit_date.tzinfo is not None


def test_a_name_that_is_both_a_branch_and_a_tag_is_the_branch(
    fetch: Fetch, repository: Repository
) -> None:
    first = repository.sha("refs/heads/main")
    second = repository.commit({"x": "2"}, branch="both")
    repository.git("tag", "both", first)
    assert fetch("both").sha == second


def test_what_is_not_there_is_said(fetch: Fetch) -> None:
    assert reason_of(lambda: fetch("no/such")) is Reason.REF_NOT_FOUND
    assert reason_of(lambda: fetch("refs/pull/9/head")) is Reason.REF_NOT_FOUND


def test_a_named_commit_must_be_part_of_its_ref(fetch: Fetch, repository: Repository) -> None:
    first = repository.sha("refs/heads/main")
    repository.commit({"x": "2"})
    assert fetch("main", sha=first).sha == first
    elsewhere = repository.commit({"x": "3"}, branch="other")
    fetch("other")  # it is in the mirror now, but not in this branch
    assert reason_of(lambda: fetch("main", sha=elsewhere)) is Reason.COMMIT_MOVED
    assert reason_of(lambda: fetch("main", sha="0" * 40)) is Reason.COMMIT_MOVED


def test_a_forced_push_moves_a_named_commit_away(fetch: Fetch, repository: Repository) -> None:
    old = repository.open_pull_request(1, {"x": "1"})
    assert fetch("refs/pull/1/head", sha=old).sha == old
    new = repository.open_pull_request(1, {"x": "2"})
    assert reason_of(lambda: fetch("refs/pull/1/head", sha=old)) is Reason.COMMIT_MOVED
    assert fetch("refs/pull/1/head").sha == new


def test_a_private_repository_needs_its_token_and_the_token_is_nowhere(
    fetch: Fetch, git: Git, git_server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    git_server.credentials[repository.name] = Credentials("bot", "t0ken-of-the-bot")
    assert reason_of(fetch) is Reason.REPOSITORY_UNAUTHORIZED
    wrong = GitCredential(username="bot", password="wrong-token")
    assert reason_of(lambda: fetch(login=wrong)) is Reason.REPOSITORY_UNAUTHORIZED


def test_the_token_of_a_private_repository_is_kept_nowhere(
    fetch: Fetch, git_server: GitServer, repository: Repository, tmp_path: Path, folder: AttemptDir
) -> None:
    git_server.credentials[repository.name] = Credentials("bot", "t0ken-of-the-bot")
    fetch(login=GitCredential(username="bot", password="t0ken-of-the-bot"))
    folder.forget_credentials()
    holding = subprocess.run(
        [program("grep"), "-rl", "t0ken-of-the-bot", str(tmp_path / "worker"), str(folder.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert holding.stdout == ""


def test_an_unknown_repository_and_a_dead_server_differ(
    git: Git, git_server: GitServer, folder: AttemptDir
) -> None:
    def fetch_from(url: str) -> Fetched:
        return git.fetch(FetchOrder(url, "HEAD", None, "1.1"), None, folder, Stop())

    unknown = f"{git_server.url}/team/none.git"
    assert reason_of(lambda: fetch_from(unknown)) is Reason.REPOSITORY_UNAUTHORIZED
    dead = "http://127.0.0.1:1/team/app.git"
    assert reason_of(lambda: fetch_from(dead)) is Reason.REPOSITORY_UNAVAILABLE


def test_a_redirect_is_not_followed(git: Git, git_server: GitServer, folder: AttemptDir) -> None:
    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{git_server.url}{self.path}")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    git_server.make_repository("team/behind", FILES)
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/team/behind.git"
        order = FetchOrder(url, "HEAD", None, "1.1")
        reason = reason_of(lambda: git.fetch(order, None, folder, Stop()))
        server.shutdown()
    assert reason is Reason.CONFIGURATION_INVALID


def test_an_export_is_what_a_checkout_would_be(
    fetch: Fetch, git: Git, repository: Repository, folder: AttemptDir
) -> None:
    repository.commit(
        {
            ".gitattributes": "secret.txt export-ignore\nsubst.txt export-subst\n*.f filter=x\n",
            "secret.txt": "kept",
            "subst.txt": "$Format:%H$",
            "a.f": "plain",
            "run.sh": "#!/bin/sh\n",
        },
        executable=frozenset({"run.sh"}),
    )
    export = git.export(fetch(), folder, Stop())
    assert (export / "secret.txt").read_text() == "kept"
    assert (export / "subst.txt").read_text() == "$Format:%H$"
    assert (export / "a.f").read_text() == "plain"
    assert (export / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (export / "a.f").stat().st_mode & 0o777 == 0o644
    assert (export / "app").stat().st_mode & 0o777 == 0o755
    assert not (export / ".git").exists()


def test_a_second_fetch_brings_only_what_is_new_and_refs_do_not_pile_up(
    fetch: Fetch, git: Git, repository: Repository, tmp_path: Path
) -> None:
    mirror = fetch().mirror
    for number in range(1, 6):
        repository.open_pull_request(number, {"x": str(number)})
        fetched = fetch(f"refs/pull/{number}/head")
        with AttemptDir.create(tmp_path / "tmp", Claimed(2, number, "c")) as folder:
            git.export(fetched, folder, Stop())
    listed = subprocess.run(
        [program("git"), f"--git-dir={mirror}", "for-each-ref", "--format=%(refname)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert all(ref.startswith("refs/kept/") for ref in listed)
    assert 1 <= len(listed) <= 5


@pytest.mark.parametrize(
    "files",
    [
        {
            "ctx/HEAD": "ref: refs/heads/x\n",
            "ctx/objects/x": "",
            "ctx/refs/x": "",
            "ctx/config": "",
        },
        {"HEAD": "x", "objects/x": "", "refs/x": ""},
        {".g\u200cit/config": "[core]\n"},
    ],
)
def test_a_hostile_tree_is_refused_before_it_is_written(
    fetch: Fetch,
    git: Git,
    repository: Repository,
    folder: AttemptDir,
    tmp_path: Path,
    files: dict[str, str],
) -> None:
    repository.commit(files)
    reason = reason_of(lambda: git.export(fetch(), folder, Stop()))
    assert reason is Reason.SOURCE_REFUSED
    assert not folder.source.exists()
    assert not list(tmp_path.glob("worker/mirrors/*/refs/farm/*"))


def test_a_bomb_of_names_costs_nothing(
    fetch: Fetch, git: Git, repository: Repository, folder: AttemptDir
) -> None:
    blob = repository.git("hash-object", "-w", "--stdin", stdin=b"x")
    tree = repository.git(
        "mktree", stdin=b"".join(b"100644 blob %s\tf%d\n" % (blob.encode(), n) for n in range(10))
    )
    for _ in range(7):
        tree = repository.git(
            "mktree",
            stdin=b"".join(b"040000 tree %s\td%d\n" % (tree.encode(), n) for n in range(10)),
        )
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    bomb = repository.git(*identity, "commit-tree", tree, "-m", "bomb")
    repository.git("update-ref", "refs/heads/main", bomb)
    assert reason_of(lambda: git.export(fetch(), folder, Stop())) is Reason.SOURCE_REFUSED


def test_a_damaged_mirror_is_made_anew(fetch: Fetch, repository: Repository) -> None:
    mirror = fetch().mirror
    (mirror / "HEAD").write_text("nonsense")
    repository.commit({"x": "2"})
    reason_of(fetch)
    assert fetch().sha == repository.sha("refs/heads/main")


def test_fetches_of_one_mirror_take_turns_and_all_succeed(
    git: Git, git_server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    shas = [repository.open_pull_request(n, {"x": str(n)}) for n in range(1, 7)]
    found: dict[int, str] = {}

    def one(number: int) -> None:
        order = FetchOrder(
            git_server.url_of(repository), f"refs/pull/{number}/head", None, f"{number}.1"
        )
        with AttemptDir.create(tmp_path / "tmp", Claimed(number, 1, "c")) as folder:
            fetched = git.fetch(order, None, folder, Stop())
            git.export(fetched, folder, Stop())
            found[number] = fetched.sha

    threads = [threading.Thread(target=one, args=[number]) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[number] for number in range(1, 7)] == shas


DATED = "tree {tree}\nauthor a <a@b.c> {date}\ncommitter a <a@b.c> {date}\n\nx\n"


@pytest.mark.parametrize("date", ["1700000000 +051800", "253402300800 +0000", "99999999999 -9999"])
def test_a_hostile_date_is_no_fault_of_the_workers(
    fetch: Fetch, repository: Repository, date: str
) -> None:
    tree = repository.git("rev-parse", "refs/heads/main^{tree}")
    text = DATED.format(tree=tree, date=date).encode()
    commit = repository.git(
        "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=text
    )
    repository.git("update-ref", "refs/heads/main", commit)
    found = fetch()
    assert found.sha == commit
    assert 2023 <= found.commit_date.year <= 2100
    assert found.commit_date.utcoffset() == timedelta(0)


def test_an_early_end_of_tar_does_not_hang_the_export(
    fetch: Fetch,
    git: Git,
    repository: Repository,
    folder: AttemptDir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository.commit({"large": "0123456789abcdef" * 100_000})
    fetched = fetch()
    monkeypatch.setattr("workers.git.tool", lambda _name: program("false"))
    with stopping_after(20) as stop:
        assert reason_of(lambda: git.export(fetched, folder, stop)) is Reason.WORKER_FAULT


@contextmanager
def stopping_after(seconds: float) -> Iterator[Stop]:
    """A stop that gives up, so that what hangs fails here."""
    stop = Stop()
    timer = threading.Timer(seconds, stop.ask, [Cause.STALE])
    timer.start()
    yield stop
    timer.cancel()


def test_a_fetch_that_is_too_large_is_refused_and_leaves_nothing(
    fetch: Fetch, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("workers.mirrors.FETCH_LIMIT", 1024**2)
    repository.commit({f"f{n}": secrets.token_hex(32 * 1024) for n in range(150)})
    with pytest.raises(AttemptError, match="more than 1 MiB") as caught:
        fetch()
    assert caught.value.reason is Reason.SOURCE_REFUSED
    assert not list((tmp_path / "worker").glob("mirrors/*/objects/pack/*"))


def test_a_fetch_ends_when_the_disk_gets_full(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.mirrors.FREE_FLOOR", 2**63)
    assert reason_of(fetch) is Reason.NO_SPACE
    monkeypatch.undo()
    assert fetch().sha


def packs(mirror: Path) -> list[Path]:
    return list(mirror.glob("objects/pack/*.pack"))


def test_a_mirror_in_many_pieces_becomes_one_and_can_be_exported_from(
    fetch: Fetch,
    git: Git,
    repository: Repository,
    folder: AttemptDir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.mirrors.MOST_PACKS", 2)
    for number in range(3):
        repository.commit({f"{number}/f{n}": f"{number} {n}" for n in range(120)})
        fetched = fetch()
    (fetched.mirror / "objects" / "pack" / "tmp_pack_killed").write_text("x")
    assert len(packs(fetched.mirror)) == 3
    git.tidy()
    assert len(packs(fetched.mirror)) == 1
    assert not list(fetched.mirror.glob("objects/pack/tmp_*"))
    assert (git.export(fetched, folder, Stop()) / "2" / "f119").read_text() == "2 119"
    assert fetch().sha == repository.sha("refs/heads/main")


def test_refs_of_killed_attempts_go_with_what_they_held(fetch: Fetch, git: Git) -> None:
    fetched = fetch()
    ref = fetched.mirror / fetched.ref
    git.tidy()
    assert ref.exists()
    age(ref, days=2)
    git.tidy()
    assert not ref.exists()


def test_a_mirror_that_nobody_uses_goes_and_comes_back(
    fetch: Fetch, git: Git, repository: Repository
) -> None:
    mirror = fetch().mirror
    age(mirror.with_suffix(".lock"), days=29)
    git.tidy()
    assert mirror.exists()
    age(mirror.with_suffix(".lock"), days=31)
    git.tidy()
    assert not mirror.exists()
    assert fetch().sha == repository.sha("refs/heads/main")
    git.tidy()
    assert mirror.exists()


def test_a_mirror_in_use_is_not_tidied(fetch: Fetch, git: Git) -> None:
    mirror = fetch().mirror
    lock = mirror.with_suffix(".lock")
    age(lock, days=31)
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        git.tidy()
    assert mirror.exists()


def age(path: Path, *, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then))
