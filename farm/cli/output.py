"""How things are shown: tables and relative times for people, plain tabs and RFC 3339 for scripts.

Text of a server, a log or a Dockerfile may hold control sequences; `plain` takes
them out before it meets a terminal.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import click

_SEQUENCES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_COLOURS = {
    "succeeded": "green",
    "ok": "green",
    "online": "green",
    "failed": "red",
    "errored": "red",
    "offline": "red",
    "wrong": "red",
    "engine down": "red",
    "running": "cyan",
    "queued": "yellow",
    "waiting_approval": "yellow",
    "draining": "yellow",
}
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_KIB = 1024
_MINUTE, _HOUR = 60, 3600

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API has it.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print ids only.")


def on_terminal() -> bool:
    """Whether a person reads the output."""
    return sys.stdout.isatty()


def note(message: str) -> None:
    """A message for people: stderr, so that stdout holds data alone."""
    click.echo(plain(message), err=True)


def plain(text: str) -> str:
    """A text without control sequences and without characters that hide others."""
    return _SEQUENCES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def print_json(value: Any) -> None:
    """The value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned with a head on a terminal; elsewhere one tab-separated line per row, no head."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not on_terminal():
        for row in cells:
            click.echo("\t".join(row))
        return
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    for number, row in enumerate([list(headers), *cells]):
        style = _bold if number == 0 else _coloured
        texts = [
            style(text) + " " * (width - len(text)) for text, width in zip(row, widths, strict=True)
        ]
        click.echo("  ".join(texts).rstrip())


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """What is known of one thing, a line each; on a terminal without what is empty."""
    lines = [(name, _cell(value)) for name, value in facts]
    if not on_terminal():
        for name, value in lines:
            click.echo(f"{name}\t{value}")
        return
    lines = [(name, value) for name, value in lines if value]
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        click.echo(f"{_bold(name)}{' ' * (width - len(name))}  {_coloured(value)}")


def print_list(
    items: Sequence[dict[str, Any]],
    headers: Sequence[str],
    row: Callable[[dict[str, Any]], Sequence[object]],
    *,
    key: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """A list in the form that was asked for: JSON, ids or a table."""
    if as_json:
        print_json(items)
    elif quiet:
        for item in items:
            click.echo(plain(str(item[key])))
    elif items or not on_terminal():
        print_table(headers, [row(item) for item in items])
    else:
        note("There are none.")


def when(moment: str | None) -> str:
    """A moment: how long ago for people, RFC 3339 as it came for scripts."""
    if not moment or not on_terminal():
        return moment or ""
    seconds = time.time() - datetime.fromisoformat(moment).timestamp()
    return f"in {span(-seconds)}" if seconds <= -1 else f"{span(max(seconds, 0))} ago"


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "0s"


def duration(seconds: float | None) -> str:
    """How long something took; the bare number of seconds for scripts."""
    if seconds is None:
        return ""
    if not on_terminal():
        return f"{seconds:g}"
    return clock(seconds) if seconds >= _MINUTE else f"{seconds:.1f}s"


def clock(seconds: float) -> str:
    """1:05 or 2:03:09, as a watch has it."""
    whole = int(seconds)
    minutes = f"{whole % _HOUR // _MINUTE}:{whole % _MINUTE:02d}"
    return minutes if whole < _HOUR else f"{whole // _HOUR}:{minutes:0>5}"


def size(count: int | None) -> str:
    """Bytes, with a unit for people."""
    if count is None:
        return ""
    if not on_terminal():
        return str(count)
    if count < _KIB:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= _KIB
        if amount < _KIB:
            return f"{amount:.1f} {unit}"
    return f"{amount / _KIB:.1f} TiB"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(plain(str(value)).replace("\t", " ").splitlines())


def _bold(text: str) -> str:
    return click.style(text, bold=True)


def _coloured(text: str) -> str:
    colour = _COLOURS.get(text)
    return click.style(text, fg=colour) if colour else text
