"""Migrations, on both databases: there and back, and the same schema as the models say."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from farm import db, schema
from farm.model import Base


def tables(url: str) -> set[str]:
    engine = create_engine(db.parse_url(url))
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def test_the_schema_goes_up_and_down_and_up_again(database_url: str) -> None:
    schema.upgrade(database_url)
    first = tables(database_url)
    assert set(Base.metadata.tables) <= first
    schema.downgrade(database_url, "base")
    assert tables(database_url) == {"alembic_version"}
    schema.upgrade(database_url)
    assert tables(database_url) == first


def test_the_migrations_make_what_the_models_say(migrated_url: str) -> None:
    engine = create_engine(db.parse_url(migrated_url))
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, Base.metadata) == []
    finally:
        engine.dispose()


def test_the_current_revision_is_none_before_and_the_newest_after(database_url: str) -> None:
    assert schema.current(database_url) is None
    schema.upgrade(database_url)
    assert schema.current(database_url) == schema.NEWEST


def test_an_upgrade_of_the_newest_schema_changes_nothing(migrated_url: str) -> None:
    before = tables(migrated_url)
    schema.upgrade(migrated_url)
    assert tables(migrated_url) == before
    assert schema.current(migrated_url) == schema.NEWEST


def test_the_newest_revision_is_the_head_of_the_migrations(database_url: str) -> None:
    script = ScriptDirectory.from_config(schema.configuration(database_url))
    assert script.get_current_head() == schema.NEWEST


def test_a_schema_that_is_there_is_left_alone_and_one_that_is_not_is_made(
    database_url: str,
) -> None:
    for _ in range(2):
        schema.ensure(database_url)
        assert schema.current(database_url) == schema.NEWEST
