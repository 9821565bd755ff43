"""`farm worker token|ls|drain|resume|rm`: the verbs about workers that go over HTTP.

`workers/commands.py` hangs them under `farm worker`, which runs one.
"""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

import click

from farm.cli.client import Json, connect, path_of
from farm.cli.output import (
    json_option,
    note,
    plain,
    print_json,
    print_list,
    quiet_option,
    size,
    when,
)


@click.command("token")
@click.argument("name")
@click.option("--zone", type=click.Choice(["trusted", "untrusted"]), default="trusted")
@click.option("--label", multiple=True, help="What its builds may ask for; repeatable.")
@json_option
@quiet_option
def worker_token(
    *, name: str, zone: str, label: tuple[str, ...], as_json: bool, quiet: bool
) -> None:
    """Make an enrolment token, and print the line to run on a new Docker host.

    Zone and labels come from the token; it serves any number of hosts.

    \b
    Examples:
      farm worker token builders
      farm worker token gpu-hosts --label gpu --label disk=nvme
      farm worker token outsiders --zone untrusted
    """
    api = connect()
    body: Json = {
        "name": name,
        "scopes": ["worker"],
        "zone": zone,
        "labels": list(label),
    }
    made = api.post("/tokens", body)
    if as_json:
        print_json(made)
    elif quiet:
        click.echo(plain(made["token"]))
    else:
        _print_line(api.server, plain(made["token"]))


@click.command("ls")
@json_option
@quiet_option
def worker_ls(*, as_json: bool, quiet: bool) -> None:
    """List workers: what they run, what they can, when they were last heard of.

    \b
    Example:
      farm worker ls
    """
    print_list(
        connect().items("/workers"),
        ("NAME", "STATE", "ZONE", "BUSY", "PLATFORMS", "LABELS", "DISK FREE", "SEEN"),
        _worker_row,
        key="name",
        as_json=as_json,
        quiet=quiet,
    )


@click.command("drain")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def worker_drain(names: tuple[str, ...]) -> None:
    """Give workers no new builds; what they run goes on to its end.

    \b
    Example:
      farm worker drain builder-3
    """
    for name in names:
        connect().patch(path_of("workers", name), {"draining": True})
        note(f"{name} drains.")


@click.command("resume")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def worker_resume(names: tuple[str, ...]) -> None:
    """Give workers builds again.

    \b
    Example:
      farm worker resume builder-3
    """
    for name in names:
        connect().patch(path_of("workers", name), {"draining": False})
        note(f"{name} takes builds.")


@click.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def worker_rm(names: tuple[str, ...]) -> None:
    """Forget workers: their tokens are void and their names free. Drain them first.

    \b
    Example:
      farm worker rm builder-3
    """
    for name in names:
        connect().delete(path_of("workers", name))
        note(f"{name} is removed.")


def _print_line(server: str, token: str) -> None:
    note("Run this on the new host (docs/hosts.md); the token is shown only now:")
    if urlsplit(server).hostname in ("localhost", "127.0.0.1", "::1"):
        note("That address is this machine's alone: put in the one that the new host reaches.")
    script = f"{shlex.quote(server)}/worker/install.sh"
    click.echo(f"curl -fsSL {script} | FARM_WORKER_TOKEN={shlex.quote(token)} sh")


def _worker_row(worker: Json) -> tuple[object, ...]:
    return (
        worker["name"],
        _worker_state(worker),
        worker["zone"],
        f"{worker['busy']}/{worker['slots']}",
        " ".join(worker["platforms"]),
        " ".join(worker["labels"]),
        size(worker["disk_free"]),
        when(worker["last_seen_at"]),
    )


def _worker_state(worker: Json) -> str:
    if not worker["online"]:
        return "offline"
    if not worker["engine_ok"]:
        return "engine down"
    return "draining" if worker["draining"] else "online"
