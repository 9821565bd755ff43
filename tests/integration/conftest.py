"""Databases with the newest schema, on both kinds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.db import Database
from tests.factories import Templates, World, farm_settings


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Migrated once a session."""
    return Templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture(params=["sqlite", "postgres"])
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path, templates: Templates) -> str:
    """A database of each kind with the newest schema and nothing in it."""
    if request.param == "sqlite":
        return templates.sqlite(tmp_path)
    return templates.postgres(request.getfixturevalue("postgres"))


@pytest.fixture
def world(migrated_url: str, tmp_path: Path) -> Iterator[World]:
    """A farm's database, and a clock in the test's hand."""
    database = Database(migrated_url)
    yield World(database, farm_settings(tmp_path, migrated_url))
    database.dispose()
