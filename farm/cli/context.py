"""Which farm the command line talks to: named servers with their tokens, in one file.

`$XDG_CONFIG_HOME/farm/config.toml` (0600) holds

    current = "local"

    [contexts.local]
    server = "http://127.0.0.1:8080"
    token = "…"

A token is only ever sent to the server that it was saved or given with.
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

AUTH = 4


@dataclass(frozen=True)
class Context:
    """A farm's address (no trailing slash) and the token to use there."""

    server: str
    token: str


@dataclass(frozen=True)
class Choice:
    """What the caller named on the command line (`…_typed`) or in the environment."""

    server: str | None = None
    server_typed: bool = False
    context: str | None = None
    context_typed: bool = False
    token: str | None = None


@dataclass(frozen=True)
class Saved:
    """The content of the file."""

    current: str | None = None
    contexts: dict[str, Context] = field(default_factory=dict)


class FromEnvironment(click.Option):
    """A value that only an environment variable sets: there is no such option to type."""

    def add_to_parser(self, parser: object, ctx: click.Context) -> None:
        """Add nothing: a token typed on a command line would show in process lists."""


class NoContext(click.ClickException):
    """Nobody said which farm to talk to, or with which token."""

    exit_code = AUTH


def config_file() -> Path:
    """Where the contexts are; works without HOME, as the user's home is looked up then."""
    directory = Path(click.get_app_dir("farm"))
    if not directory.is_absolute():  # an empty XDG_CONFIG_HOME counts as none
        directory = Path("~/.config/farm").expanduser()
    return directory / "config.toml"


def load() -> Saved:
    """The saved contexts; none when there is no file."""
    path = config_file()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        contexts = {
            str(name): Context(str(entry["server"]), str(entry["token"]))
            for name, entry in raw.get("contexts", {}).items()
        }
    except FileNotFoundError:
        return Saved()
    except OSError as exc:
        raise click.UsageError(f"{path}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise click.UsageError(
            f"{path} is not a list of contexts; mend it, or delete it and log in again"
        ) from exc
    current = raw.get("current")
    return Saved(current if current in contexts else None, contexts)


def save_context(name: str, server: str, token: str, *, make_current: bool = True) -> None:
    """Remember a server under a name, in place of what had that name."""
    saved = load()
    contexts = saved.contexts | {name: Context(normal_server(server), token)}
    current = name if make_current or saved.current is None else saved.current
    _write(Saved(current, contexts))


def remove_context(name: str) -> None:
    """Forget a server; without any left the file and its directory go too."""
    saved = load()
    contexts = {key: value for key, value in saved.contexts.items() if key != name}
    if contexts:
        current = None if saved.current == name else saved.current
        _write(replace(saved, current=current, contexts=contexts))
        return
    path = config_file()
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody keeps another file there, or it is not there
        path.parent.rmdir()


def resolve(choice: Choice | None = None) -> Context:
    """The farm to talk to: what was typed, else the environment, else the current context.

    Without an argument, the choice is that of the `farm` command which is running.
    """
    choice = choice or _choice_of_command()
    named, server = choice.context, choice.server
    if choice.context_typed and choice.server_typed:
        raise click.UsageError("name either --server or --context, not both")
    if named and server:  # typed beats the environment; in the environment the server does
        named, server = (named, None) if choice.context_typed else (None, server)
    saved = load()
    if named:
        if named not in saved.contexts:
            raise click.UsageError(f"no context of that name in {config_file()}")
        return saved.contexts[named]
    if server:
        server = normal_server(server)
        return Context(server, choice.token or _token_for(saved, server))
    if saved.current is None:
        raise NoContext(
            "no farm to talk to: set FARM_SERVER and FARM_TOKEN, or start one here with `farm up`"
        )
    context = saved.contexts[saved.current]
    return replace(context, token=choice.token) if choice.token else context


def normal_server(server: str) -> str:
    """An address without its trailing slash; refuses what is none."""
    from urllib.parse import urlsplit

    try:
        url = urlsplit(server)
        valid = url.scheme in ("http", "https") and url.hostname and (url.port is None or url.port)
    except ValueError:
        valid = False
    if not valid or url.username or url.password or url.query or url.fragment:
        raise click.UsageError("the server must be an address such as https://farm.example.org")
    return server.rstrip("/")


def _choice_of_command() -> Choice:
    ctx = click.get_current_context(silent=True)
    choice = ctx.find_root().obj if ctx else None
    return choice if isinstance(choice, Choice) else Choice()


def _token_for(saved: Saved, server: str) -> str:
    for context in saved.contexts.values():
        if context.server == server:
            return context.token
    raise NoContext("no token for that server: set FARM_TOKEN (`farm token create` makes one)")


def _write(saved: Saved) -> None:
    import tempfile

    lines = [] if saved.current is None else [f"current = {_quoted(saved.current)}"]
    for name, context in sorted(saved.contexts.items()):
        lines += ["", f"[contexts.{_quoted(name)}]"]
        lines += [
            f"server = {_quoted(context.server)}",
            f"token = {_quoted(context.token)}",
        ]
    path = config_file().resolve()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")  # 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines).lstrip("\n") + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's, but for DEL and for non-ASCII left as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
