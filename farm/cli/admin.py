"""The verbs of those who look after a farm: projects, secrets, registries, tokens, workers."""

from __future__ import annotations

from pathlib import Path

import click

from farm.cli.client import Json, connect, path_of
from farm.cli.input import file_type, may_ask, secret_value
from farm.cli.output import (
    json_option,
    note,
    print_facts,
    print_json,
    print_list,
    quiet_option,
    when,
)
from farm.cli.tokens import token
from farm.cli.workers import (
    worker_drain,
    worker_ls,
    worker_resume,
    worker_rm,
    worker_token,
)

__all__ = [
    "project",
    "registry",
    "secret",
    "token",
    "worker_drain",
    "worker_ls",
    "worker_resume",
    "worker_rm",
    "worker_token",
]

of_project = click.option("--project", metavar="NAME", help="For this project; default: for all.")


@click.group()
def project() -> None:
    """Repositories that the farm builds."""


git_username_option = click.option(
    "--git-username", metavar="NAME", help="Who reads a private repository."
)
git_token_stdin_option = click.option(
    "--git-token-stdin", is_flag=True, help="Read the git token from stdin."
)
git_token_file_option = click.option(
    "--git-token-file", type=file_type, help="Read the git token from a file."
)


def _git_credentials(username: str | None, path: Path | None, *, from_stdin: bool) -> Json:
    if from_stdin and path:
        raise click.UsageError("name either --git-token-stdin or --git-token-file, not both")
    given: Json = {"git_username": username} if username else {}
    if from_stdin or path:
        given["git_token"] = secret_value(path, "Git token")
    return given


@project.command("add")
@click.argument("name")
@click.option("--repo", required=True, metavar="URL", help="Its clone URL.")
@git_username_option
@git_token_stdin_option
@git_token_file_option
@json_option
def project_add(
    *,
    name: str,
    repo: str,
    git_username: str | None,
    git_token_stdin: bool,
    git_token_file: Path | None,
    as_json: bool,
) -> None:
    """Register a repository, with what it takes to read it.

    \b
    Examples:
      farm project add shop/api --repo https://git.example.org/shop/api.git
      farm project add shop/api --repo https://git.example.org/shop/api.git \\
        --git-username bot --git-token-stdin < token
    """
    given = _git_credentials(git_username, git_token_file, from_stdin=git_token_stdin)
    made = connect().post("/projects", {"name": name, "repository": repo, **given})
    if as_json:
        print_json(made)
    else:
        note(f"Project {name} added.")


@project.command("update")
@click.argument("name")
@git_username_option
@git_token_stdin_option
@git_token_file_option
def project_update(
    *,
    name: str,
    git_username: str | None,
    git_token_stdin: bool,
    git_token_file: Path | None,
) -> None:
    """Give a project other git credentials, also one that a build's URL has made.

    \b
    Example:
      farm project update shop/api --git-token-stdin < token
    """
    given = _git_credentials(git_username, git_token_file, from_stdin=git_token_stdin)
    if not given:
        raise click.UsageError("name what is to change")
    connect().patch(path_of("projects", name), given)
    note(f"Project {name} updated.")


@project.command("ls")
@json_option
@quiet_option
def project_ls(*, as_json: bool, quiet: bool) -> None:
    """List projects.

    \b
    Example:
      farm project ls --json
    """
    print_list(
        connect().items("/projects"),
        ("NAME", "REPOSITORY", "GIT TOKEN", "CREATED"),
        lambda p: (
            p["name"],
            p["repository"],
            p["has_git_token"],
            when(p["created_at"]),
        ),
        key="name",
        as_json=as_json,
        quiet=quiet,
    )


@project.command("show")
@click.argument("name")
@json_option
def project_show(*, name: str, as_json: bool) -> None:
    """Show one project.

    \b
    Example:
      farm project show shop/api
    """
    found = connect().get(path_of("projects", name))
    if as_json:
        print_json(found)
        return
    print_facts(
        [
            ("name", found["name"]),
            ("repository", found["repository"]),
            ("git username", found["git_username"]),
            ("git token", found["has_git_token"]),
            ("created", when(found["created_at"])),
        ]
    )


@project.command("rm")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask; needed without a terminal.")
def project_rm(*, name: str, yes: bool) -> None:
    """Remove a project with its builds, secrets and logins.

    \b
    Example:
      farm project rm shop/api --yes
    """
    if not yes:
        if not may_ask():
            raise click.UsageError("this removes the project's whole history: add --yes")
        click.confirm(f"Remove {name} with its whole history?", abort=True, err=True)
    connect().delete(path_of("projects", name))
    note(f"Project {name} removed.")


@click.group()
def secret() -> None:
    """Values that a Dockerfile may use without keeping them."""


@secret.command("set")
@click.argument("name")
@of_project
@click.option("--value-file", type=file_type, help="Read the value from a file, byte for byte.")
def secret_set(*, name: str, project: str | None, value_file: Path | None) -> None:
    """Store a secret: from a file, from stdin, or typed unseen on a terminal.

    In a Dockerfile: RUN --mount=type=secret,id=NAME …

    \b
    Examples:
      farm secret set npm_token --project shop/api < token
      farm secret set settings --value-file settings.json
    """
    value = secret_value(value_file, f"Value of {name}")
    connect().post("/secrets", {"name": name, "value": value, "project": project})
    note(f"Secret {name} stored.")


@secret.command("ls")
@json_option
@quiet_option
def secret_ls(*, as_json: bool, quiet: bool) -> None:
    """List secrets, never their values.

    \b
    Example:
      farm secret ls
    """
    print_list(
        connect().items("/secrets"),
        ("NAME", "PROJECT", "UPDATED"),
        lambda s: (s["name"], s["project"], when(s["updated_at"])),
        key="name",
        as_json=as_json,
        quiet=quiet,
    )


@secret.command("rm")
@click.argument("name")
@of_project
def secret_rm(*, name: str, project: str | None) -> None:
    """Remove a secret.

    \b
    Example:
      farm secret rm npm_token --project shop/api
    """
    connect().delete(path_of("secrets", name), {"project": project})
    note(f"Secret {name} removed.")


@click.group()
def registry() -> None:
    """Logins to image registries."""


@registry.command("login")
@click.argument("host")
@click.option("-u", "--username", required=True, help="Who logs in there.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@of_project
def registry_login(*, host: str, username: str, password_stdin: bool, project: str | None) -> None:
    """Store a login, for every project or for one.

    \b
    Examples:
      farm registry login reg.example.org -u farm --password-stdin < password
      farm registry login reg.example.org -u shop --project shop/api
    """
    if not password_stdin and not may_ask():
        raise click.UsageError("without a terminal, give the password with --password-stdin")
    password = secret_value(None, f"Password of {username} at {host}")
    body = {
        "host": host,
        "username": username,
        "password": password,
        "project": project,
    }
    connect().post("/registries", body)
    note(f"Login to {host} stored.")


@registry.command("ls")
@json_option
@quiet_option
def registry_ls(*, as_json: bool, quiet: bool) -> None:
    """List logins, never their passwords.

    \b
    Example:
      farm registry ls
    """
    print_list(
        connect().items("/registries"),
        ("HOST", "USERNAME", "PROJECT", "UPDATED"),
        lambda r: (r["host"], r["username"], r["project"], when(r["updated_at"])),
        key="host",
        as_json=as_json,
        quiet=quiet,
    )


@registry.command("rm")
@click.argument("host")
@of_project
def registry_rm(*, host: str, project: str | None) -> None:
    """Remove a login.

    \b
    Example:
      farm registry rm reg.example.org
    """
    connect().delete(path_of("registries", host), {"project": project})
    note(f"Login to {host} removed.")
