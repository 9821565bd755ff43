"""From the options of `farm build` to the body of POST /builds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from farm.cli.client import Json

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_LENGTH = re.compile(r"^([1-9][0-9]{0,6})([smh]?)$")
# The name in the API of every option that is handed on as it is.
_FIELDS = {
    "repo": "repository",
    "project": "project",
    "pr": "pull_request",
    "ref": "ref",
    "sha": "sha",
    "tag": "tags",
    "arg": "build_args",
    "label": "labels",
    "platform": "platforms",
    "file": "file",
    "context": "context",
    "target": "target",
    "secret": "secrets",
    "no_cache": "no_cache",
    "pull": "pull",
    "cache_from": "cache_from",
    "cache_to": "cache_to",
    "runs_on": "runs_on",
    "timeout": "timeout_s",
    "priority": "priority",
}


def pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE, split at the first `=`; the message does not repeat what may be a secret."""
    found: dict[str, str] = {}
    for text in values:
        key, sign, value = text.partition("=")
        if not key or not sign:
            raise click.BadParameter("must be KEY=VALUE")
        found[key] = value
    return found


def length(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """A length of time in seconds, from seconds, minutes or hours."""
    if value is None:
        return None
    match = _LENGTH.match(value)
    if not match:
        raise click.BadParameter("must be a time such as 90s, 30m or 2h")
    return int(match[1]) * _UNITS[match[2]]


_OPTIONS = (
    click.option("--repo", metavar="URL", help="Clone URL of the repository."),
    click.option("--project", metavar="NAME", help="A project that the farm knows, by name."),
    click.option("--pr", metavar="N", type=click.IntRange(1), help="Build this pull request."),
    click.option("--ref", help="Build this branch, tag or refs/…; default: the default branch."),
    click.option("--sha", help="Build exactly this commit of it."),
    click.option(
        "-t",
        "--tag",
        multiple=True,
        metavar="IMAGE",
        help="Push the image as this; repeatable.",
    ),
    click.option(
        "--arg",
        multiple=True,
        metavar="KEY=VALUE",
        callback=pairs,
        help="A build argument; repeatable.",
    ),
    click.option(
        "--label",
        multiple=True,
        metavar="KEY=VALUE",
        callback=pairs,
        help="A label of the image; repeatable.",
    ),
    click.option("--platform", multiple=True, metavar="OS/ARCH", help="Such as linux/arm64."),
    click.option("-f", "--file", metavar="PATH", help="The Dockerfile; default: in the context."),
    click.option("--context", metavar="PATH", help="Directory of the repository to build in."),
    click.option("--target", metavar="STAGE", help="Build up to this stage."),
    click.option("--secret", multiple=True, metavar="NAME", help="A stored secret; repeatable."),
    click.option("--no-cache", is_flag=True, help="Run every step anew."),
    click.option("--pull", is_flag=True, help="Look for newer base images."),
    click.option("--push/--no-push", default=None, help="Default: push when there is a --tag."),
    click.option("--cache-from", multiple=True, metavar="IMAGE", help="A registry cache to read."),
    click.option("--cache-to", multiple=True, metavar="IMAGE", help="A registry cache to write."),
    click.option(
        "--runs-on",
        multiple=True,
        metavar="LABEL",
        help="A label that its worker must have.",
    ),
    click.option(
        "--timeout",
        metavar="TIME",
        callback=length,
        help="The longest it may take, such as 90s, 30m, 2h.",
    ),
    click.option("--priority", type=click.Choice(["high", "normal", "low"])),
)


def request_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what to build."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def request_body(wanted: dict[str, Any]) -> Json:
    """The body with what was asked for, and nothing else: the farm knows the defaults."""
    if bool(wanted["repo"]) == bool(wanted["project"]):
        raise click.UsageError("name the repository: either --repo URL or --project NAME")
    if wanted["pr"] and wanted["ref"]:
        raise click.UsageError("name either --pr or --ref, not both")
    if wanted["push"] and not wanted["tag"]:
        raise click.UsageError("--push needs at least one --tag")
    body: Json = {}
    for option, field in _FIELDS.items():
        value = wanted[option]
        if value:
            body[field] = list(value) if isinstance(value, tuple) else value
    if wanted["push"] is not None:
        body["push"] = wanted["push"]
    return body
