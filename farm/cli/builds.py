"""The verbs of those who submit builds and look at them."""

from __future__ import annotations

import sys
from typing import Any

import click

from farm.cli import show as shown
from farm.cli.client import Api, ApiError, Json, Unreachable, connect, path_of
from farm.cli.context import FromEnvironment
from farm.cli.follow import exit_code, follow, log_target, summary
from farm.cli.output import (
    json_option,
    note,
    on_terminal,
    plain,
    print_json,
    print_list,
    quiet_option,
)
from farm.cli.request import request_body, request_options

RECENT = 20
ACTIVE = ["running", "queued", "waiting_approval"]
STATUSES = [*ACTIVE, "succeeded", "failed", "errored", "cancelled", "skipped"]

detach_option = click.option("-d", "--detach", is_flag=True, help="Do not follow the build.")
build_id = click.argument("build_id", metavar="ID")


@click.command()
@request_options
@detach_option
@json_option
@quiet_option
def build(*, detach: bool, as_json: bool, quiet: bool, **wanted: Any) -> None:
    """Start a build and follow its log.

    The exit code is the build's result: 0 succeeded, 1 failed, 124 timed out.
    Ctrl-C on a terminal asks whether to detach or to cancel.

    \b
    Examples:
      farm build --repo https://git.example.org/shop/api.git --pr 7 --tag reg.example.org/api:pr-7
      farm build --project shop/api --ref v1.2 --tag reg.example.org/api:1.2 --arg DEBUG=0
      farm build --project shop/api --no-push --detach --quiet
    """
    body = request_body(wanted)
    api = connect()
    started = api.post_keyed("/builds", body)
    _after_start(api, started, detach=detach, as_json=as_json, quiet=quiet)


@click.command()
@click.option("--project", metavar="NAME", help="Only builds of this project.")
@click.option(
    "--pr",
    metavar="N",
    type=click.IntRange(1),
    help="Only builds of this pull request.",
)
@click.option("-s", "--status", multiple=True, type=click.Choice(STATUSES), help="Repeatable.")
@click.option("--q", metavar="TEXT", help="An id, #PR, or the beginning of a commit or digest.")
@click.option("-n", "--limit", type=click.IntRange(1), help=f"At most so many; default {RECENT}.")
@click.option("-a", "--all", "everything", is_flag=True, help="The whole history.")
@json_option
@quiet_option
def ps(*, as_json: bool, quiet: bool, everything: bool, **wanted: Any) -> None:
    """List running and recent builds, newest first.

    Without --limit, --status or --all: whatever is not over, and the newest few.

    \b
    Examples:
      farm ps
      farm ps --project shop/api --pr 7
      farm ps --status failed --status errored --limit 50 --json
    """
    query = {
        "project": wanted["project"],
        "pull_request": wanted["pr"],
        "q": wanted["q"],
    }
    status, limit = list(wanted["status"]), wanted["limit"]
    if everything and limit:
        raise click.UsageError("name either --limit or --all, not both")
    api = connect()
    found = api.items(
        "/builds",
        query | {"status": status or None},
        limit=None if everything else limit or RECENT,
    )
    if not everything and not status and not limit and len(found) == RECENT:
        found += _older_active(api, query, found)
    print_list(found, shown.HEADERS, shown.row, key="id", as_json=as_json, quiet=quiet)


@click.command()
@build_id
@json_option
def show(build_id: str, *, as_json: bool) -> None:
    """Show one build: its result, its attempts and its steps.

    \b
    Examples:
      farm show 42
      farm show 42 --json
    """
    api = connect()
    found = api.get(path_of("builds", build_id))
    if as_json:
        print_json(found)
        return
    steps = api.get(path_of("builds", build_id) + "/steps")["items"]
    shown.print_build(found, steps)


@click.command()
@build_id
@click.option("-f", "--follow", "following", is_flag=True, help="Follow it to the build's end.")
@click.option("--attempt", metavar="N", type=click.IntRange(1), help="Not the latest attempt.")
@click.option("--platform", metavar="OS/ARCH", help="The log of this part.")
@click.option("--raw", is_flag=True, help="Keep control sequences on a terminal.")
def logs(
    build_id: str,
    *,
    following: bool,
    attempt: int | None,
    platform: str | None,
    raw: bool,
) -> None:
    """Print a build's log, or follow it.

    Every line begins with its step, `#7 …`.
    With -f the exit code is the build's result, as with `farm build`.

    \b
    Examples:
      farm logs 42
      farm logs -f 42
      farm logs 42 --attempt 1 > first.log
    """
    if following and (attempt or platform):
        raise click.UsageError("--follow shows the latest attempt; leave out --attempt, --platform")
    api = connect()
    if following:
        _follow(api, build_id, raw=raw)
        return
    query = {"attempt": attempt, "platform": platform}
    shown.print_log(api.text(path_of("builds", build_id) + "/log", query), raw=raw)


@click.command()
@click.argument("build_ids", metavar="ID...", nargs=-1, required=True)
@json_option
@quiet_option
def cancel(build_ids: tuple[str, ...], *, as_json: bool, quiet: bool) -> None:
    """Cancel builds: a queued one ends at once, a running one in seconds.

    \b
    Examples:
      farm cancel 42
      farm cancel $(farm ps --project shop/api --status queued --quiet)
    """
    api = connect()
    done: list[Json] = []
    refusal: ApiError | None = None
    for number in build_ids:
        try:
            done.append(api.post(path_of("builds", number) + "/cancel"))
        except ApiError as exc:
            if isinstance(exc, Unreachable):
                raise
            note(f"Build {number}: {exc.message}")
            refusal = exc
            continue
        if not (as_json or quiet):
            note(f"Build {number}: {_cancelled(done[-1])}")
    if as_json:
        print_json(done)
    elif quiet:
        for item in done:
            click.echo(plain(item["id"]))
    if refusal:
        raise click.exceptions.Exit(refusal.exit_code)


@click.command()
@build_id
@detach_option
@json_option
@quiet_option
def retry(build_id: str, *, detach: bool, as_json: bool, quiet: bool) -> None:
    """Build the same again, as a new build, and follow it.

    The new build links to the old one and keeps its place for its tags.

    \b
    Examples:
      farm retry 42
      farm retry 42 --detach
    """
    api = connect()
    started = api.post(path_of("builds", build_id) + "/retry")
    _after_start(api, started, detach=detach, as_json=as_json, quiet=quiet)


@click.command("open")
@build_id
@click.option("--desktop", cls=FromEnvironment, envvar=["DISPLAY", "WAYLAND_DISPLAY"], hidden=True)
def open_page(build_id: str, *, desktop: str | None) -> None:
    """Print the address of a build's page; on a desktop open it.

    \b
    Example:
      farm open 42
    """
    url = str(connect().get(path_of("builds", build_id))["url"])
    click.echo(plain(url))
    windows = desktop or sys.platform in ("darwin", "win32")
    if on_terminal() and windows and url.startswith(("http://", "https://")):
        import webbrowser

        webbrowser.open(url)


def _older_active(api: Api, query: dict[str, Any], newest: list[Json]) -> list[Json]:
    """Builds that are not over, but older than the newest few."""
    known = {item["id"] for item in newest}
    active = api.items("/builds", query | {"status": ACTIVE})
    return [item for item in active if item["id"] not in known]


def _after_start(api: Api, started: Json, *, detach: bool, as_json: bool, quiet: bool) -> None:
    if quiet:
        click.echo(plain(started["id"]))
    elif not (detach and as_json):
        note(f"Build {started['id']} of {started['project']}: {started['url']}")
    if detach:
        if as_json:
            print_json(started)
        elif not quiet:
            click.echo(plain(started["id"]))
        return
    _follow(api, started["id"], as_json=as_json, quiet=quiet)


def _follow(
    api: Api,
    number: str,
    *,
    as_json: bool = False,
    quiet: bool = False,
    raw: bool = False,
) -> None:
    """Follow to the end; leaves with the build's result as the exit code."""
    ended = follow(api, number, to=log_target(as_json=as_json, quiet=quiet), raw=raw)
    if as_json:
        print_json(ended)
    note(summary(ended))
    raise click.exceptions.Exit(exit_code(ended))


def _cancelled(item: Json) -> str:
    return "cancelled." if item["status"] == "cancelled" else "will be cancelled in a moment."
