"""The `farm` command itself: global options, and verbs that are loaded when they are used.

The verbs are the entry points of the group `farm.commands`, so that `farm` need not
import `web` or `workers`. Their one-line helps stand here, because asking a verb for
its own would import every package for `farm --help`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

import click
from click.core import ParameterSource

from farm.cli.context import Choice, FromEnvironment

INTERRUPTED = 130

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Builds": {
        "build": "Start a build and follow its log.",
        "ps": "List running and recent builds, newest first.",
        "show": "Show one build: its result, its attempts and its steps.",
        "logs": "Print a build's log, or follow it.",
        "cancel": "Cancel builds: a queued one ends at once, a running one in seconds.",
        "retry": "Build the same again, as a new build, and follow it.",
        "open": "Print the address of a build's page; on a desktop open it.",
    },
    "Farm": {
        "project": "Repositories that the farm builds.",
        "secret": "Values that a Dockerfile may use without keeping them.",
        "registry": "Logins to image registries.",
        "token": "API tokens.",
    },
    "Running a farm": {
        "up": "Run a whole farm on this machine.",
        "web": "Run the web process: pages, API, webhooks.",
        "scheduler": "Run the scheduler: placement and sweep.",
        "worker": "Run a worker on a Docker host; add and list workers.",
        "db": "Bring the database up to date.",
        "config": "Check the settings.",
        "doctor": "Find out what is wrong, and what to do about it.",
    },
}
SHORT_HELP = {verb: line for verbs in SECTIONS.values() for verb, line in verbs.items()}


class Verbs(click.Group):
    """A group whose commands are entry points, imported when they are used."""

    @cached_property
    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group="farm.commands")}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002, click's signature
        """The known verbs in the order of the table, then what other packages add."""
        known = [verb for verb in SHORT_HELP if verb in self._entries]
        return known + sorted(self._entries.keys() - SHORT_HELP.keys())

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002, click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Import the module of one verb."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = entry.load()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by section without importing them."""
        verbs = self.list_commands(ctx)
        for title, section in SECTIONS.items():
            rows = [(verb, line) for verb, line in section.items() if verb in verbs]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        if more := [(verb, "") for verb in verbs if verb not in SHORT_HELP]:
            with formatter.section("More"):
                formatter.write_dl(more)

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; Ctrl-C ends it with 130, as shells expect."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001
    if wanted and not ctx.resilient_parsing:
        from farm import __version__

        click.echo(f"farm {__version__}")
        ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--server", metavar="URL", envvar="FARM_SERVER", help="The farm to talk to.")
@click.option("--context", metavar="NAME", envvar="FARM_CONTEXT", help="A saved server, by name.")
@click.option("--token", cls=FromEnvironment, envvar="FARM_TOKEN", hidden=True)
@click.option("--no-color", cls=FromEnvironment, envvar="NO_COLOR", hidden=True)
@click.option("--force-color", cls=FromEnvironment, envvar="FORCE_COLOR", hidden=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def main(
    ctx: click.Context,
    *,
    server: str | None,
    context: str | None,
    token: str | None,
    no_color: str | None,
    force_color: str | None,
) -> None:
    """A build farm for Docker images: from a pull request to an image in your registry.

    \b
    Examples:
      farm build --repo https://git.example.org/shop/api.git --pr 7 --tag reg.example.org/api:pr-7
      farm ps
      farm logs -f 42

    The server comes from --server, --context, FARM_SERVER with FARM_TOKEN, or the
    saved context that is current; NO_COLOR=1 turns colours off.
    """
    ctx.obj = Choice(
        server=server,
        server_typed=ctx.get_parameter_source("server") is ParameterSource.COMMANDLINE,
        context=context,
        context_typed=ctx.get_parameter_source("context") is ParameterSource.COMMANDLINE,
        token=token,
    )
    if no_color or force_color:
        ctx.color = not no_color
    _show_any_character()


def _show_any_character() -> None:
    """A log may hold what the terminal's character set cannot show: escape it, go on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
