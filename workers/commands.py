"""`farm worker`: run a worker here; its subcommands ask the farm about workers.

Imports stay light: Celery and Docker are read only when a worker really runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import cast

import click

_DELEGATED = {
    "token": "worker_token",
    "ls": "worker_ls",
    "drain": "worker_drain",
    "resume": "worker_resume",
    "rm": "worker_rm",
}


class _WorkerGroup(click.Group):
    """Its subcommands live with the other commands for people, and are imported when used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(_DELEGATED)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _DELEGATED:
            return None
        module = importlib.import_module("farm.cli.admin")
        return cast(click.Command, getattr(module, _DELEGATED[cmd_name]))


@click.group(cls=_WorkerGroup, invoke_without_command=True)
@click.option("--slots", type=click.IntRange(1, 256), help="Builds at once (FARM_WORKER_SLOTS).")
@click.option("--name", help="The name to ask for (FARM_WORKER_NAME).")
@click.pass_context
def worker(ctx: click.Context, slots: int | None, name: str | None) -> None:
    """Build on this host's Docker Engine, or ask about workers.

    Needs FARM_SERVER, and FARM_WORKER_TOKEN the first time.
    """
    if ctx.invoked_subcommand is not None:
        return
    from farm import settings as farm_settings
    from farm.errors import SettingsError

    environment = farm_settings.process_environment()
    if slots is not None:
        environment["FARM_WORKER_SLOTS"] = str(slots)
    if name is not None:
        environment["FARM_WORKER_NAME"] = name
    try:
        settings = farm_settings.load(environment).settings
        from workers import app

        sys.exit(app.run(settings))
    except SettingsError as exc:
        raise click.ClickException(str(exc)) from exc
