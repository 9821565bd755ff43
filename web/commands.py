"""The verbs that run the control plane: `farm web`, `farm scheduler`, `farm up`."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import click

from farm.errors import SettingsError
from farm.settings import Settings, check_safe, load

_HELP = {"help_option_names": ["-h", "--help"]}


@click.command(context_settings=_HELP)
def web() -> None:
    """Serve the pages, the API and the worker API.

    Brings the database's schema up to date first. Settings come from FARM_…
    variables: `farm config check` shows them.
    """
    from farm.logging import configure
    from web.server import Server

    settings = _settings()
    configure(settings)
    Server(settings).run()


@click.command(context_settings=_HELP)
def scheduler() -> None:
    """Place builds on workers and find what was lost. One is active, others stand by."""
    from farm import db, schema
    from farm.broker import Dispatcher
    from farm.logging import configure
    from farm.scheduler import Scheduler
    from farm.wakeups import Wakeups

    settings = _settings()
    configure(settings)
    schema.ensure(settings.database)
    with Wakeups(settings.redis_url) as wakeups:
        loop = Scheduler(
            settings,
            db.Database(settings.database),
            Dispatcher(settings.redis_url),
            wakeups,
        )

        def stop(_signal: int, _frame: FrameType | None) -> None:
            loop.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        loop.run()


@click.command(context_settings=_HELP)
@click.option("--slots", type=click.IntRange(1, 256), help="Builds at once on this machine.")
@click.option("--no-worker", is_flag=True, help="Only the control plane.")
def up(slots: int | None, *, no_worker: bool) -> None:
    """Run a whole farm on this machine: Redis, web, scheduler and one worker.

    Data, keys and the first admin token are kept in FARM_DATA_DIR; the command line
    finds the farm by itself afterwards. Ctrl-C stops everything.
    """
    from web.up import run

    try:
        loaded = load()
    except SettingsError as exc:
        raise click.UsageError(str(exc)) from exc
    sys.exit(run(loaded, slots=slots, with_worker=not no_worker))


def _settings() -> Settings:
    try:
        settings = load().settings
        check_safe(settings)
    except SettingsError as exc:
        raise click.UsageError(str(exc)) from exc
    return settings
