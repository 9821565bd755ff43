"""A farm to talk to, and two ways to run the command: in this process, and on a terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from farm.cli.main import main
from farm.settings import process_environment
from tests.unit.cli.fake_farm import FakeFarm

TOKEN = "farm_token_of_the_tests"
COMMAND = [sys.executable, "-c", "from farm.cli.main import main; main()"]

Run = Callable[..., Result]


@pytest.fixture
def farm() -> Iterator[FakeFarm]:
    with FakeFarm() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: nothing of who runs the tests is read or written."""
    for name in process_environment():
        if name.startswith("FARM_") or name in ("NO_COLOR", "FORCE_COLOR", "DISPLAY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def run(farm: FakeFarm, home: Path) -> Run:
    """Run the command in this process, without a terminal, with a server and a token."""

    def invoke(*args: str, stdin: str | bytes | None = None, **env: str | None) -> Result:
        environment = {"FARM_SERVER": farm.url, "FARM_TOKEN": TOKEN} | env
        return CliRunner().invoke(main, args, input=stdin, env=environment, prog_name="farm")

    return invoke


@dataclass
class Process:
    """The command as a process of its own."""

    popen: subprocess.Popen[bytes]
    terminal: int | None

    def type(self, text: str) -> None:
        """Type on its terminal."""
        assert self.terminal is not None
        os.write(self.terminal, text.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.popen.send_signal(signal.SIGINT)

    def read_until(self, text: str) -> str:
        """What the terminal shows, up to a text."""
        shown = ""
        while text not in shown:
            piece = self._read()
            assert piece, f"the command ended without {text!r}; it showed {shown!r}"
            shown += piece
        return shown

    def end(self) -> tuple[int, str]:
        """The exit code, and the rest of what the terminal shows."""
        shown = ""
        while piece := self._read():
            shown += piece
        return self.popen.wait(30), shown

    def _read(self) -> str:
        assert self.terminal is not None
        try:
            return os.read(self.terminal, 65536).decode()
        except OSError:  # Linux: the other side is closed
            return ""


@pytest.fixture
def on_terminal(farm: FakeFarm, home: Path) -> Iterator[Callable[..., Process]]:
    """Start the command on a pseudo-terminal."""
    started: list[Process] = []

    def start(*args: str, **env: str) -> Process:
        ours, theirs = pty.openpty()
        popen = subprocess.Popen(
            [*COMMAND, *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=_environment(farm, home) | {"TERM": "xterm"} | env,
            start_new_session=True,
        )
        os.close(theirs)
        started.append(Process(popen, ours))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.wait()
        if process.terminal is not None:
            os.close(process.terminal)


@pytest.fixture
def without_terminal(farm: FakeFarm, home: Path) -> Iterator[Callable[..., Process]]:
    """Start the command as a script does: pipes, no terminal."""
    started: list[Process] = []

    def start(*args: str) -> Process:
        popen = subprocess.Popen(
            [*COMMAND, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(farm, home),
            start_new_session=True,
        )
        started.append(Process(popen, None))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.communicate()


def _environment(farm: FakeFarm, home: Path) -> dict[str, str]:
    return {
        "FARM_SERVER": farm.url,
        "FARM_TOKEN": TOKEN,
        "XDG_CONFIG_HOME": str(home / "config"),
        "LC_ALL": "C.UTF-8",
    }
