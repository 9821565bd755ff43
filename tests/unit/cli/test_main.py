"""The command as a whole: verbs, help, start-up, and what every verb owes its users."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from farm.cli.main import SHORT_HELP, main
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_farm import FakeFarm, page

HEAVY = {"httpx", "pydantic", "sqlalchemy", "celery", "flask", "rich", "redis", "alembic"}
VERBS = [entry for entry in entry_points(group="farm.commands") if entry.value.startswith("farm.")]
DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def commands() -> Iterator[tuple[list[str], click.Command]]:
    """Every verb of this package, and every verb of its groups."""
    for entry in VERBS:
        command = entry.load()
        yield [entry.name], command
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield [entry.name, name], inner


def imported_by(script: str, env: dict[str, str] | None = None) -> set[str]:
    """The packages that a fresh interpreter has imported when a script is over."""
    code = f"{script}\nimport json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=env or {}
    )
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


def test_help_lists_every_verb_with_a_line(run: Run) -> None:
    shown = run("-h").stdout

    for entry in entry_points(group="farm.commands"):
        assert f"  {entry.name} " in shown
        assert SHORT_HELP[entry.name] in shown


def test_the_short_help_of_a_verb_is_its_own() -> None:
    for entry in VERBS:
        own = entry.load().help.partition("\n\n")[0]
        assert own == SHORT_HELP[entry.name]


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    script = "from farm.cli.main import main\nmain(['--help'], standalone_mode=False)"

    imported = imported_by(script)

    assert not imported & HEAVY
    assert not imported & {"web", "workers"}


def test_ps_and_a_followed_log_import_nothing_heavy(farm: FakeFarm) -> None:
    farm.on("GET /builds", page())
    script = "from farm.cli.main import main\nmain(['ps'], standalone_mode=False)"

    imported = imported_by(script, {"FARM_SERVER": farm.url, "FARM_TOKEN": "x"})

    assert farm.requests("GET /builds")
    assert not imported & HEAVY


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_verb_explains_itself_with_an_example(run: Run, option: str) -> None:
    for path, command in commands():
        done = run(*path, option)

        assert done.exit_code == 0
        if not isinstance(command, click.Group):
            assert "Example" in done.stdout, path
            assert f"farm {' '.join(path)}" in done.stdout, path


def test_the_documentation_has_every_verb_and_every_option() -> None:
    text = DOCS.read_text(encoding="utf-8")

    for entry in entry_points(group="farm.commands"):
        assert f"farm {entry.name}" in text
    for path, command in commands():
        assert f"farm {' '.join(path)}" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[-1] in text, (path, parameter.opts)


def test_the_version_is_that_of_the_package(run: Run) -> None:
    from farm import __version__

    assert run("--version").stdout == f"farm {__version__}\n"


def test_the_package_has_no_other_lazy_names() -> None:
    import farm

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = farm.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("args", [["nonsense"], ["ps", "--nonsense"], ["show"], ["build"]])
def test_a_mistyped_command_is_a_usage_error(run: Run, args: list[str]) -> None:
    done = run(*args)

    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Error: " in done.stderr


def test_a_verb_works_when_called_by_name_from_the_group_of_another_package() -> None:
    from farm.cli.admin import worker_ls, worker_token

    assert (worker_token.name, worker_ls.name) == ("token", "ls")
    assert isinstance(main, click.Group)
