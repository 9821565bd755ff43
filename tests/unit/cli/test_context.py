"""Which farm the command talks to, and where that is remembered."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from farm.cli.context import (
    Choice,
    Context,
    NoContext,
    config_file,
    load,
    remove_context,
    resolve,
    save_context,
)
from tests.unit.cli.conftest import COMMAND, TOKEN, Run
from tests.unit.cli.fake_farm import FakeFarm, page

pytestmark = pytest.mark.usefixtures("home")


def test_a_saved_context_is_current_and_private() -> None:
    save_context("local", "http://127.0.0.1:8080/", "secret")

    assert resolve(Choice()) == Context("http://127.0.0.1:8080", "secret")
    assert stat.S_IMODE(config_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(config_file().parent.stat().st_mode) == 0o700
    assert [path.name for path in config_file().parent.iterdir()] == ["config.toml"]


def test_a_context_may_be_saved_without_becoming_current() -> None:
    save_context("one", "https://one.example.org", "1")
    save_context("two", "https://two.example.org", "2", make_current=False)

    assert load().current == "one"
    assert set(load().contexts) == {"one", "two"}


def test_any_name_and_token_survives_the_file() -> None:
    name, token = 'a."b"]\n=ü\x7f', 'quote" \\ back\tslash\x7fü\U0001f680'

    save_context(name, "https://farm.example.org", token)

    assert load().contexts[name].token == token


def test_saving_again_replaces_and_keeps_the_others() -> None:
    save_context("one", "https://one.example.org", "old")
    save_context("two", "https://two.example.org", "2")
    save_context("one", "https://one.example.org", "new")

    assert load().contexts["one"].token == "new"
    assert load().contexts["two"].token == "2"


def test_removing_the_last_context_leaves_nothing_behind() -> None:
    save_context("one", "https://one.example.org", "1")
    save_context("two", "https://two.example.org", "2")

    remove_context("two")
    assert load().current is None
    assert config_file().exists()
    remove_context("one")

    assert not config_file().parent.exists()


def test_removing_what_is_not_there_is_harmless() -> None:
    remove_context("nobody")

    assert not config_file().exists()


def test_another_file_in_the_directory_is_kept() -> None:
    save_context("one", "https://one.example.org", "1")
    other = config_file().parent / "notes"
    other.write_text("mine")

    remove_context("one")

    assert other.read_text() == "mine"


def test_a_context_that_is_typed_beats_the_environment() -> None:
    save_context("one", "https://one.example.org", "1")
    choice = Choice(
        server="https://env.example.org", context="one", context_typed=True, token="env"
    )

    assert resolve(choice) == Context("https://one.example.org", "1")


def test_a_server_of_the_environment_beats_the_current_context() -> None:
    save_context("one", "https://one.example.org", "1")

    found = resolve(Choice(server="https://env.example.org", token="env"))

    assert found == Context("https://env.example.org", "env")


def test_a_token_goes_to_no_server_but_its_own() -> None:
    save_context("one", "https://one.example.org", "1")

    with pytest.raises(NoContext, match="no token for that server"):
        resolve(Choice(server="https://other.example.org", server_typed=True))
    found = resolve(Choice(server="https://one.example.org/", server_typed=True))

    assert found.token == "1"


def test_a_token_of_the_environment_goes_with_the_current_context() -> None:
    save_context("one", "https://one.example.org", "1")

    assert resolve(Choice(token="env")) == Context("https://one.example.org", "env")


def test_naming_a_server_and_a_context_is_a_usage_error() -> None:
    choice = Choice("https://a.example.org", server_typed=True, context="b", context_typed=True)

    with pytest.raises(click.UsageError, match="not both"):
        resolve(choice)


@pytest.mark.parametrize(
    "server",
    ["farm.test", "ftp://farm.test", "https:///x", "http://u:p@h", "http://h:x"],
)
def test_what_is_no_address_is_refused_without_repeating_it(server: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        save_context("one", server, "1")

    assert server not in refused.value.message


@pytest.mark.parametrize("content", ["contexts = 7", "not toml", '[contexts.a]\nserver = "x"'])
def test_a_broken_file_is_named(run: Run, content: str) -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text(content)

    done = run("ps", FARM_SERVER=None, FARM_TOKEN=None)

    assert done.exit_code == 2
    assert str(config_file()) in done.stderr


def test_without_a_farm_the_command_says_what_to_do(run: Run) -> None:
    done = run("ps", FARM_SERVER=None, FARM_TOKEN=None)

    assert done.exit_code == 4
    assert "FARM_SERVER" in done.stderr
    assert "farm up" in done.stderr


def test_an_unknown_context_is_a_usage_error(run: Run) -> None:
    assert run("--context", "nobody", "ps").exit_code == 2


def test_the_options_choose_the_farm(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /builds", page())
    save_context("here", farm.url, "of the context")

    assert run("--context", "here", "ps", FARM_SERVER="http://127.0.0.1:1").exit_code == 0
    assert run("--server", farm.url, "ps", FARM_SERVER=None).exit_code == 0
    assert run("ps", FARM_SERVER=None, FARM_TOKEN=None, FARM_CONTEXT="here").exit_code == 0

    sent = [asked.headers["authorization"] for asked in farm.asked]
    assert sent == ["Bearer of the context", f"Bearer {TOKEN}", "Bearer of the context"]


def test_a_token_cannot_be_typed(run: Run) -> None:
    assert run("--token", "x", "ps").exit_code == 2


def test_an_empty_config_home_counts_as_none(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "")

    assert config_file() == home / ".config" / "farm" / "config.toml"


def test_it_works_with_no_environment_at_all() -> None:
    code = "from farm.cli.context import config_file; print(config_file())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True
    )

    assert done.stdout.endswith("/.config/farm/config.toml\n")
    assert Path(done.stdout.strip()).is_absolute()
    bare = subprocess.run([*COMMAND, "--version"], env={}, capture_output=True, check=False)
    assert bare.returncode == 0
