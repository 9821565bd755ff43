"""Private folders, the janitor, and the log's file."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

from farm.protocol import RegistryCredential
from farm.states import Outcome
from workers.attemptdir import AttemptDir, Claimed, is_abandoned
from workers.janitor import Janitor
from workers.logship import LogFile
from workers.process import identity_of
from workers.spool import Spool

CLAIMED = Claimed(7, 2, "0123456789abcdef")


def test_nothing_in_an_attempts_folder_is_for_others(tmp_path: Path) -> None:
    with AttemptDir.create(tmp_path / "tmp", CLAIMED) as folder:
        folder.write_logins(
            [
                RegistryCredential(host="docker.io", username="u", password="p:w"),
                RegistryCredential(host="registry.example", username="u", password="x"),
            ]
        )
        paths = folder.write_secrets({"b": "2", "a": "1\n"})
        folder.write_git_credential("u", "p")
        assert paths["a"].read_text() == "1\n"
        auths = json.loads((folder.docker_config / "config.json").read_text())["auths"]
        assert set(auths) == {"https://index.docker.io/v1/", "registry.example"}
        for path in folder.path.rglob("*"):
            if path.is_file() and path != folder.git_config:
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        folder.forget_credentials()
        assert not folder.docker_config.exists()
        assert not folder.git_credential.exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_with_a_living_holder_is_left_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    with AttemptDir.create(tmp_path / "tmp", CLAIMED) as folder:
        spool.log_path(7, 2, CLAIMED.claim).write_text("x")
        Janitor(tmp_path / "tmp", spool).sweep()
        assert folder.path.exists()
        assert spool.log_path(7, 2, CLAIMED.claim).exists()
        assert not is_abandoned(folder.path)


def test_what_a_killed_process_left_is_ended_reported_and_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    script = (
        "import os, sys; from pathlib import Path;"
        "from workers.attemptdir import AttemptDir, Claimed;"
        f"AttemptDir.create(Path(sys.argv[1]), Claimed(7, 2, '{CLAIMED.claim}'));"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "tmp")], check=False)
    (folder,) = (tmp_path / "tmp").iterdir()
    (folder / "source").mkdir(mode=0o000)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as left:
        found = identity_of(left.pid)
        assert found is not None
        (folder / "processes").write_text(f"{found.pid} {found.started}\n{os.getpid()} 1\n")
        Janitor(tmp_path / "tmp", spool).sweep()
        assert left.wait(5) == -9
    assert list((tmp_path / "tmp").iterdir()) == []
    (kept,) = (tmp_path / "spool").glob("*.json")
    assert json.loads(kept.read_text())["finish"]["outcome"] == Outcome.LOST


def test_a_log_that_fits_is_kept_as_it_is(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", 64 * 1024)
    for n in range(10):
        log.write(f"#0 line {n}")
    log.close_tail()
    assert log.read(0) == b"".join(b"#0 line %d\n" % n for n in range(10))
    log.close()


def test_a_log_over_its_limit_keeps_head_and_tail_with_a_line_between(tmp_path: Path) -> None:
    limit = 64 * 1024
    log = LogFile(tmp_path / "log", limit)
    for n in range(20_000):
        log.write(f"#1 {n:06}")
    log.close_tail()
    log.close()
    content = (tmp_path / "log").read_text()
    lines = content.splitlines()
    assert len(content.encode()) <= limit
    assert lines[0] == "#1 000000"
    assert lines[-1] == "#1 019999"
    (marker,) = [line for line in lines if line.startswith("#0 … ")]
    dropped = int(marker.split()[2])
    assert dropped + len(lines) - 1 == 20_000
