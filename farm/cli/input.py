"""What people type or pipe in: never a question without a terminal, never a secret in argv."""

from __future__ import annotations

import sys
from pathlib import Path

import click

file_type = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


def may_ask() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def secret_value(source: Path | None, prompt: str) -> str:
    """A secret value: from a file, from stdin less its last newline, or typed unseen."""
    if source is not None and str(source) != "-":
        data = source.read_bytes()
    elif source is None and may_ask():
        return str(click.prompt(prompt, hide_input=True, err=True))
    else:
        data = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise click.UsageError("the value must be UTF-8 text") from None
    if not text:
        raise click.UsageError("the value is empty")
    return text
