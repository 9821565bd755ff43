"""The verbs of those who run a farm: they work beside it, without its server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import click

from farm.cli.output import json_option, note, print_json, print_table
from farm.errors import FarmError, SettingsError, Unavailable

if TYPE_CHECKING:
    from farm.findings import Finding
    from farm.settings import Loaded

FAILED, UNREACHABLE = 1, 5


class DatabaseAway(click.ClickException):
    """The database does not answer, or is not what this version needs."""

    exit_code = UNREACHABLE


@click.group()
def db() -> None:
    """Bring the database up to date."""


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the schema to what this version needs; makes the database if there is none.

    \b
    Example:
      FARM_DATABASE_URL=postgresql://farm@db/farm farm db upgrade
    """
    with _explained():
        from farm import schema

        url = _load().settings.database
        schema.upgrade(url)
        note(f"The database is at {schema.current(url)}.")


@db.command("current")
@json_option
def db_current(*, as_json: bool) -> None:
    """Print the revision of the schema, and whether it is the one that this version needs.

    \b
    Example:
      farm db current
    """
    with _explained():
        from farm import schema

        found, newest = schema.current(_load().settings.database), schema.NEWEST
    if as_json:
        print_json({"current": found, "newest": newest})
        return
    click.echo(found or "none")
    if found != newest:
        note(f"This version of the farm needs {newest}: run `farm db upgrade`.")


@click.group()
def config() -> None:
    """Check the settings."""


@config.command("check")
@json_option
def config_check(*, as_json: bool) -> None:
    """Print every setting with where it comes from; secrets are not shown.

    Exits with 2 and names every variable that is wrong.

    \b
    Examples:
      farm config check
      FARM_DATABASE_URL_FILE=/run/secrets/db farm config check --json
    """
    with _explained():
        from farm import settings as farm_settings

        loaded = _load()
    shown = shown_settings(loaded)
    if as_json:
        print_json({name: {"value": value, "source": source} for name, value, source in shown})
    else:
        print_table(("VARIABLE", "VALUE", "FROM"), shown)
    if not loaded.settings.insecure_ok:
        for problem in farm_settings.unsafe_for_production(loaded.settings):
            note(f"Not safe for production: {problem}")


@click.command()
@click.argument("parts", metavar="[PART]...", nargs=-1)
@json_option
def doctor(parts: tuple[str, ...], *, as_json: bool) -> None:
    """Find out what is wrong, and what to do about it.

    PART is `control`, the control plane, or `worker`, a Docker host; both without one.
    Exits with 1 when something is wrong.

    \b
    Examples:
      farm doctor
      farm doctor worker --json
    """
    from farm.logging import to_stderr

    to_stderr()  # a check's own warnings are not its findings
    doctors = {entry.name: entry for entry in entry_points(group="farm.doctor")}
    if unknown := set(parts) - doctors.keys():
        raise click.UsageError(f"no part {min(unknown)}: name some of {', '.join(doctors)}")
    found = [finding for part in parts or doctors for finding in _findings(doctors[part])]
    if as_json:
        print_json(
            [{"check": f.check, "ok": f.ok, "detail": f.detail, "cure": _cure(f)} for f in found]
        )
    else:
        print_table(
            ("CHECK", "", "FOUND", "CURE"),
            [(f.check, "ok" if f.ok else "wrong", f.detail, _cure(f)) for f in found],
        )
    if not all(finding.ok for finding in found):
        raise click.exceptions.Exit(FAILED)


def shown_settings(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Variable, value in effect and source of every setting; a secret's value is not shown."""
    from farm import settings as farm_settings

    settings = loaded.settings
    filled_in = {
        "database_url": settings.database,
        "worker_redis_url": settings.broker_for_workers,
        "server": settings.server or settings.url,
    }
    rows = []
    for name in type(settings).model_fields:
        value = filled_in.get(name, getattr(settings, name))
        text = "" if value is None else str(value)
        if name in farm_settings.SECRET_SETTINGS and text:
            text = _redacted(text)
        rows.append((farm_settings.variable_of(name), text, loaded.sources[name]))
    return rows


def create_local_token(name: str, scopes: Sequence[str], expires_days: int | None) -> str:
    """Make a token directly in the database that the settings name."""
    with _explained():
        from farm import access, schema
        from farm import db as database

        url = _load().settings.database
        if schema.current(url) != schema.NEWEST:
            raise DatabaseAway("the database is not up to date here: run `farm db upgrade`")
        farm = database.Database(url)
        try:
            with farm.write() as session:
                return access.create_token(
                    session,
                    name=name,
                    scopes=scopes,
                    now=database.now(session),
                    expires_in=timedelta(days=expires_days) if expires_days else None,
                )
        finally:
            farm.dispose()


def _cure(finding: Finding) -> str:
    return "" if finding.ok else finding.cure


def _findings(entry: EntryPoint) -> Iterable[Finding]:
    from farm.findings import Finding

    try:
        examine = entry.load()
    except ImportError as exc:
        detail = f"cannot be examined here: no module {exc.name}"
        cure = "Install the farm anew, or leave this part out."
        return [Finding(entry.name, ok=False, detail=detail, cure=cure)]
    return list(examine())


def _load() -> Loaded:
    from farm import settings as farm_settings

    return farm_settings.load()


def _redacted(text: str) -> str:
    """Of a URL its scheme, host and path, which tell where it leads; of anything else nothing."""
    from urllib.parse import urlsplit

    try:
        url = urlsplit(text)
        host = url.hostname or ""
        port = f":{url.port}" if url.port else ""
    except ValueError:
        return "(set)"
    if not url.scheme or "://" not in text:
        return "(set)"
    hidden = "(hidden)@" if "@" in url.netloc else ""
    return f"{url.scheme}://{hidden}{host}{port}{url.path}"


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of the farm as sentences with the right exit code."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SettingsError as exc:
        raise click.UsageError(str(exc)) from exc
    except Unavailable as exc:
        raise DatabaseAway(exc.message) from exc
    except FarmError as exc:
        raise click.UsageError(str(exc)) from exc
    except (SQLAlchemyError, OSError) as exc:
        raise DatabaseAway(f"the database does not answer ({type(exc).__name__})") from exc
