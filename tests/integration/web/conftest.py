"""The web door on both databases, with a real Redis."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from tests.factories import farm_settings
from tests.integration.web.site import HandWorker, Site, make_tokens
from tests.services.redis import RedisServer
from web.app import create_app
from web.context import EXTENSION, Services


@pytest.fixture(scope="session")
def closing() -> Iterator[ThreadPoolExecutor]:
    """Ends listeners beside the next tests: one needs up to a second to notice."""
    with ThreadPoolExecutor(16) as pool:
        yield pool


def close(app: Flask, closing: ThreadPoolExecutor) -> None:
    services: Services = app.extensions[EXTENSION]
    services.wakeups.close()
    services.database.dispose()
    closing.submit(services.live.close)


@pytest.fixture
def site(
    migrated_url: str, redis_server: RedisServer, tmp_path: Path, closing: ThreadPoolExecutor
) -> Iterator[Site]:
    """A farm for a trial: http and loopback are allowed."""
    settings = farm_settings(
        tmp_path, migrated_url, redis_url=redis_server.url, metrics_token="metrics-token"
    )
    app = create_app(settings)
    yield Site(app, app.test_client(), make_tokens(app.extensions[EXTENSION]))
    close(app, closing)


@pytest.fixture
def strict_site(
    migrated_url: str, redis_server: RedisServer, tmp_path: Path, closing: ThreadPoolExecutor
) -> Iterator[Site]:
    """A farm that is not for a trial; and one live reader at most."""
    settings = farm_settings(
        tmp_path,
        migrated_url,
        redis_url=redis_server.url,
        insecure_ok=False,
        web_threads=17,
        url="https://farm.example",
    )
    app = create_app(settings)
    yield Site(app, app.test_client(), make_tokens(app.extensions[EXTENSION]))
    close(app, closing)


@pytest.fixture
def worker(site: Site) -> HandWorker:
    """Enrolled and checked in."""
    by_hand = HandWorker(site).enrol()
    assert by_hand.check_in().status_code == 200
    return by_hand
