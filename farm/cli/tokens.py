"""`farm token`: over HTTP, or for the first one directly in the database beside it."""

from __future__ import annotations

import click

from farm.cli.client import Json, connect, path_of
from farm.cli.output import (
    json_option,
    note,
    plain,
    print_json,
    print_list,
    quiet_option,
    when,
)

SCOPES = ("read", "build", "admin", "worker")


@click.group()
def token() -> None:
    """API tokens."""


@token.command("create")
@click.argument("name")
@click.option(
    "-s",
    "--scope",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What it may; repeatable.",
)
@click.option("--expires-days", type=click.IntRange(1, 3650), help="Default: never.")
@click.option("--local", is_flag=True, help="Beside the database, without a server or a token.")
@json_option
def token_create(
    *,
    name: str,
    scope: tuple[str, ...],
    expires_days: int | None,
    local: bool,
    as_json: bool,
) -> None:
    """Make a token and print it, the only time that it is seen.

    admin covers build, build covers read; worker stands alone. With --local the
    default scope is admin: this is how the first token of a farm is made.

    \b
    Examples:
      farm token create ci --scope build --expires-days 90
      farm token create me --local
    """
    if not scope and not local:
        raise click.UsageError("say what it may: --scope read, build, admin or worker")
    made = _create(name, scope, expires_days, local=local)
    if as_json:
        print_json(made)
    else:
        note("The token is shown only now:")
        click.echo(plain(made["token"]))


@token.command("ls")
@json_option
@quiet_option
def token_ls(*, as_json: bool, quiet: bool) -> None:
    """List tokens, never their values.

    \b
    Example:
      farm token ls
    """
    print_list(
        connect().items("/tokens"),
        ("ID", "NAME", "SCOPES", "CREATED", "LAST USED", "EXPIRES", "REVOKED"),
        lambda t: (
            t["id"],
            t["name"],
            " ".join(t["scopes"]),
            when(t["created_at"]),
            when(t["last_used_at"]),
            when(t["expires_at"]),
            "revoked" if t["revoked"] else "",
        ),
        key="id",
        as_json=as_json,
        quiet=quiet,
    )


@token.command("revoke")
@click.argument("token_id", metavar="ID")
def token_revoke(*, token_id: str) -> None:
    """From now on the token opens nothing.

    \b
    Example:
      farm token revoke 3
    """
    connect().delete(path_of("tokens", token_id))
    note(f"Token {token_id} revoked.")


def _create(name: str, scopes: tuple[str, ...], expires_days: int | None, *, local: bool) -> Json:
    if local:
        from farm.cli.operate import create_local_token

        return {"token": create_local_token(name, scopes or ("admin",), expires_days)}
    body: Json = {"name": name, "scopes": list(scopes)}
    if expires_days:
        body["expires_days"] = expires_days
    return connect().post("/tokens", body)
