"""Projects, secrets, registries, tokens and workers over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from farm.cli.admin import worker_ls, worker_token
from farm.states import Zone
from farm.views import ProjectView, RegistryView, SecretView, TokenView, WorkerView
from tests.unit.cli.conftest import TOKEN, Run
from tests.unit.cli.fake_farm import CREATED, Answer, FakeFarm, page

MOMENT = "2026-11-24T07:00:00.000Z"
PROJECT: dict[str, Any] = ProjectView(
    id="1",
    name="shop/api",
    repository="https://git.example.org/shop/api.git",
    git_username="bot",
    has_git_token=True,
    created_at=CREATED,
).model_dump(mode="json")
WORKER: dict[str, Any] = WorkerView(
    id="1",
    name="builder-1",
    zone=Zone.TRUSTED,
    labels=["gpu"],
    slots=4,
    busy=1,
    platforms=["linux/amd64"],
    online=True,
    draining=False,
    engine_ok=True,
    version="0.1.0",
    engine={},
    disk_free=10,
    disk_total=20,
    last_seen_at=CREATED,
).model_dump(mode="json")


def test_a_project_is_added_with_its_token_from_stdin(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /projects", Answer(PROJECT, 201))
    repo = PROJECT["repository"]

    done = run(
        *["project", "add", "shop/api", "--repo", repo, "--git-username", "bot"],
        "--git-token-stdin",
        stdin="s3cret\n",
    )

    assert done.exit_code == 0, done.stderr
    assert farm.asked[0].body == {
        "name": "shop/api",
        "repository": repo,
        "git_username": "bot",
        "git_token": "s3cret",
    }
    assert "s3cret" not in done.output


def test_a_project_is_added_with_its_token_from_a_file(
    run: Run, farm: FakeFarm, tmp_path: Path
) -> None:
    farm.on("POST /projects", Answer(PROJECT, 201))
    (tmp_path / "token").write_text("s3cret")
    common = ["project", "add", "shop/api", "--repo", "https://git.example.org/a/b"]

    done = run(*common, "--git-token-file", str(tmp_path / "token"), "--json")
    both = run(*common, "--git-token-file", str(tmp_path / "token"), "--git-token-stdin")

    assert json.loads(done.stdout) == PROJECT
    assert farm.asked[0].body["git_token"] == "s3cret"
    assert both.exit_code == 2


def test_projects_are_listed_and_shown(run: Run, farm: FakeFarm) -> None:
    farm.on("GET /projects", page(PROJECT))
    farm.on("GET /projects/shop/api", PROJECT)

    assert run("project", "ls").stdout == f"shop/api\t{PROJECT['repository']}\tyes\t{MOMENT}\n"
    assert run("project", "ls", "-q").stdout == "shop/api\n"
    assert json.loads(run("project", "ls", "--json").stdout) == [PROJECT]
    assert "git token\tyes\n" in run("project", "show", "shop/api").stdout
    assert json.loads(run("project", "show", "shop/api", "--json").stdout) == PROJECT


def test_a_project_is_removed_without_a_question_only_when_told_so(
    run: Run, farm: FakeFarm
) -> None:
    farm.on("DELETE /projects/shop/api", Answer(b"", 204))

    refused = run("project", "rm", "shop/api")
    assert (refused.exit_code, len(farm.asked)) == (2, 0)
    assert "--yes" in refused.stderr

    assert run("project", "rm", "shop/api", "--yes").exit_code == 0
    assert len(farm.asked) == 1


def test_a_secret_comes_from_stdin_less_its_last_newline(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /secrets", Answer({}, 201))

    done = run("secret", "set", "npm", "--project", "shop/api", stdin="two\nlines\r\n")

    assert done.exit_code == 0
    assert farm.asked[0].body == {"name": "npm", "value": "two\nlines", "project": "shop/api"}


def test_a_secret_from_a_file_is_kept_byte_for_byte(
    run: Run, farm: FakeFarm, tmp_path: Path
) -> None:
    farm.on("POST /secrets", Answer({}, 201))
    (tmp_path / "value").write_text("line\n")

    run("secret", "set", "npm", "--value-file", str(tmp_path / "value"))
    run("secret", "set", "npm", "--value-file", "-", stdin="piped\n")

    assert [asked.body["value"] for asked in farm.asked] == ["line\n", "piped"]


@pytest.mark.parametrize("value", [b"", b"\n", b"\xff\xfe"])
def test_a_value_that_cannot_be_one_is_refused(run: Run, farm: FakeFarm, value: bytes) -> None:
    assert run("secret", "set", "npm", stdin=value).exit_code == 2
    assert farm.asked == []


def test_secrets_are_listed_and_removed(run: Run, farm: FakeFarm) -> None:
    view = SecretView(name="npm", project=None, updated_at=CREATED)
    farm.on("GET /secrets", page(view.model_dump(mode="json")))
    farm.on("DELETE /secrets/npm", Answer(b"", 204))

    assert run("secret", "ls").stdout == f"npm\t\t{MOMENT}\n"
    assert run("secret", "rm", "npm").exit_code == 0
    assert run("secret", "rm", "npm", "--project", "shop/api").exit_code == 0
    queries = [asked.query for asked in farm.requests("DELETE /secrets/npm")]
    assert queries == [{}, {"project": ["shop/api"]}]


def test_a_registry_login_takes_its_password_from_stdin(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /registries", Answer({}, 201))
    login = ["registry", "login", "reg.example.org:5000", "-u", "farm"]

    assert run(*login, stdin="pw").exit_code == 2
    done = run(*login, "--password-stdin", stdin="pw\n")

    assert done.exit_code == 0
    assert [asked.body for asked in farm.asked] == [
        {"host": "reg.example.org:5000", "username": "farm", "password": "pw", "project": None}
    ]
    assert "pw" not in done.output


def test_logins_are_listed_and_removed(run: Run, farm: FakeFarm) -> None:
    view = RegistryView(host="r.example.org:5000", username="u", project="a/b", updated_at=CREATED)
    farm.on("GET /registries", page(view.model_dump(mode="json")))
    farm.on("DELETE /registries/r.example.org:5000", Answer(b"", 204))

    assert run("registry", "ls").stdout == f"r.example.org:5000\tu\ta/b\t{MOMENT}\n"
    assert run("registry", "rm", "r.example.org:5000", "--project", "a/b").exit_code == 0
    assert farm.asked[-1].query == {"project": ["a/b"]}


def test_a_token_is_printed_alone_on_stdout(run: Run, farm: FakeFarm) -> None:
    farm.on("POST /tokens", Answer({"token": "farm_new"}, 201))

    done = run("token", "create", "ci", "-s", "build", "-s", "read", "--expires-days", "90")

    assert done.stdout == "farm_new\n"
    assert farm.asked[0].body == {"name": "ci", "scopes": ["build", "read"], "expires_days": 90}
    assert run("token", "create", "ci").exit_code == 2


def test_tokens_are_listed_and_revoked(run: Run, farm: FakeFarm) -> None:
    view = TokenView(
        id="3",
        name="ci",
        scopes=["build"],
        created_at=CREATED,
        last_used_at=None,
        expires_at=CREATED,
        revoked=True,
    )
    farm.on("GET /tokens", page(view.model_dump(mode="json")))
    farm.on("DELETE /tokens/3", Answer(b"", 204))

    assert run("token", "ls").stdout == f"3\tci\tbuild\t{MOMENT}\t\t{MOMENT}\trevoked\n"
    assert run("token", "revoke", "3").exit_code == 0


def worker_command(farm: FakeFarm, command: Any, *args: str) -> str:
    """The output of a verb that hangs under `farm worker`, run by itself."""
    from farm.cli.context import save_context

    save_context("here", farm.url, TOKEN)
    done = CliRunner().invoke(command, args)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_worker_token_is_the_line_for_a_new_host(farm: FakeFarm, home: Path) -> None:
    farm.on("POST /tokens", Answer({"token": "farm_w"}, 201))
    options = ["gpus", "--zone", "untrusted", "--label", "gpu", "--label", "disk=nvme"]

    shown = worker_command(farm, worker_token, *options)

    line = f"curl -fsSL {farm.url}/worker/install.sh | FARM_WORKER_TOKEN=farm_w sh\n"
    assert shown == line
    assert farm.asked[0].body == {
        "name": "gpus",
        "scopes": ["worker"],
        "zone": "untrusted",
        "labels": ["gpu", "disk=nvme"],
    }
    assert worker_command(farm, worker_token, "gpus", "-q") == "farm_w\n"
    assert json.loads(worker_command(farm, worker_token, "x", "--json")) == {"token": "farm_w"}


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "online"),
        ({"draining": True}, "draining"),
        ({"engine_ok": False}, "engine down"),
        ({"online": False, "draining": True}, "offline"),
    ],
)
def test_workers_are_listed_with_their_state(
    farm: FakeFarm, home: Path, change: dict[str, bool], state: str
) -> None:
    farm.on("GET /workers", page(WORKER | change))
    assert WorkerView.model_validate(WORKER | change).state == state

    shown = worker_command(farm, worker_ls)

    assert shown == f"builder-1\t{state}\ttrusted\t1/4\tlinux/amd64\tgpu\t10\t{MOMENT}\n"
    assert json.loads(worker_command(farm, worker_ls, "--json")) == [WORKER | change]
