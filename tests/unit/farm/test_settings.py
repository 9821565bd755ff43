"""Settings: read once, named when wrong, refused when unsafe."""

from pathlib import Path

import pytest

from farm import settings
from farm.db import parse_url
from farm.errors import SettingsError

KEY = "k" * 32


def problem(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as found:
        settings.load(environ)
    return str(found.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FARM_DATABSE_URL", "FARM_DATABASE_URL"),
        ("FARM_REDIS", "FARM_REDIS_URL"),
        ("FARM_SECRETKEY", "FARM_SECRET_KEY"),
        ("FARM_WORKERS_SLOTS", "FARM_WORKER_SLOTS"),
    ],
)
def test_a_mistyped_name_is_an_error_that_suggests_the_right_one(name: str, meant: str) -> None:
    assert problem({name: "x"}) == f"{name}: no such setting; did you mean {meant}?"


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    assert problem({"FARM_QQQQ": "x"}) == "FARM_QQQQ: no such setting"


def test_every_wrong_variable_is_named_at_once() -> None:
    text = problem({"FARM_LEASE_S": "soon", "FARM_WORKER_SLOTS": "0", "FARM_NOPE": "x"})
    for name in ("FARM_LEASE_S", "FARM_WORKER_SLOTS", "FARM_NOPE"):
        assert name in text


def test_a_wrong_value_is_not_repeated() -> None:
    assert "hunter2" not in problem({"FARM_WORKER_SLOTS": "hunter2"})


def test_other_peoples_variables_are_none_of_our_business() -> None:
    environ = {"PATH": "/bin", "FARMER": "x", "FARM_TEST_X": "1", "FARM_TOKEN": "t"}
    assert set(settings.load(environ).sources.values()) == {"default"}


def test_a_value_comes_from_the_environment_before_the_default() -> None:
    loaded = settings.load({"FARM_LISTEN": "0.0.0.0:80", "FARM_INSECURE_OK": "1"})
    assert loaded.settings.listen == "0.0.0.0:80"
    assert loaded.settings.insecure_ok is True
    assert loaded.sources["listen"] == "FARM_LISTEN"
    assert loaded.sources["lease_s"] == "default"


@pytest.mark.parametrize("name", sorted(settings.SECRET_SETTINGS))
def test_every_secret_may_be_a_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("redis://value\n")
    variable = settings.variable_of(name)
    loaded = settings.load({f"{variable}_FILE": str(file)})
    assert getattr(loaded.settings, name) == "redis://value"
    assert loaded.sources[name] == f"{variable}_FILE"


def test_a_secret_given_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    environ = {"FARM_SECRET_KEY": KEY, "FARM_SECRET_KEY_FILE": str(tmp_path / "key")}
    assert "FARM_SECRET_KEY is set as well; keep one of them" in problem(environ)


def test_a_secret_file_that_cannot_be_read_is_named_and_its_path_is_not(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    text = problem({"FARM_SECRET_KEY_FILE": str(missing)})
    assert text == "FARM_SECRET_KEY_FILE: cannot read that file (FileNotFoundError)"


def test_only_secrets_may_be_files() -> None:
    assert "no such setting" in problem({"FARM_LISTEN_FILE": "/x"})


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"FARM_LEASE_S": "5", "FARM_HEARTBEAT_S": "5"}, "FARM_LEASE_S"),
        ({"FARM_URL": "farm.example"}, "FARM_URL"),
        ({"FARM_URL": "http://["}, "FARM_URL"),
        ({"FARM_SERVER": "ftp://farm.example"}, "FARM_SERVER"),
        ({"FARM_LISTEN": "8080"}, "FARM_LISTEN"),
        ({"FARM_LOG_LEVEL": "loud"}, "FARM_LOG_LEVEL"),
        ({"FARM_MAX_ATTEMPTS": "0"}, "FARM_MAX_ATTEMPTS"),
        ({"FARM_HEARTBEAT_S": "nan"}, "FARM_HEARTBEAT_S"),
    ],
)
def test_what_does_not_fit_together_is_refused(environ: dict[str, str], name: str) -> None:
    assert name in problem(environ)


def of(**values: str) -> settings.Settings:
    return settings.load({f"FARM_{name}": value for name, value in values.items()}).settings


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"SECRET_KEY": ""}, "FARM_SECRET_KEY: must be at least 32"),
        ({"SECRET_KEY": "k" * 31}, "FARM_SECRET_KEY: must be at least 32"),
        ({"URL": "http://farm.example"}, "FARM_URL: must begin with https://"),
        ({"REDIS_URL": "redis://redis.example/0"}, "FARM_REDIS_URL: a Redis off this host"),
        ({"WORKER_REDIS_URL": "redis://10.0.0.1/0"}, "FARM_WORKER_REDIS_URL: a Redis off"),
    ],
)
def test_an_unsafe_farm_does_not_start(values: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        settings.check_safe(of(**{"SECRET_KEY": KEY, **values}))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"URL": "https://farm.example"},
        {"URL": "http://localhost:8080"},
        {"REDIS_URL": "redis://:password@redis.example/0"},
        {"REDIS_URL": "rediss://redis.example/0"},
        {"REDIS_URL": "redis://127.0.0.2/0"},
    ],
)
def test_a_safe_farm_starts(values: dict[str, str]) -> None:
    settings.check_safe(of(**{"SECRET_KEY": KEY, **values}))


def test_a_trial_farm_may_be_unsafe_but_not_without_a_key() -> None:
    settings.check_safe(of(SECRET_KEY=KEY, URL="http://farm.example", INSECURE_OK="1"))
    with pytest.raises(SettingsError, match="FARM_SECRET_KEY"):
        settings.check_safe(of(URL="http://farm.example", INSECURE_OK="1"))


def test_settings_of_the_database_have_their_defaults_filled_in(tmp_path: Path) -> None:
    given = of(DATA_DIR=str(tmp_path))
    assert given.database == f"sqlite:///{tmp_path / 'farm.db'}"
    assert of(DATABASE_URL="postgresql://db/farm").database == "postgresql://db/farm"


def test_workers_reach_redis_where_the_farm_does_unless_it_says_otherwise() -> None:
    assert of(REDIS_URL="redis://127.0.0.1/1").broker_for_workers == "redis://127.0.0.1/1"
    elsewhere = of(REDIS_URL="redis://127.0.0.1/1", WORKER_REDIS_URL="rediss://redis.example/1")
    assert elsewhere.broker_for_workers == "rediss://redis.example/1"


def test_postgres_is_spoken_to_with_psycopg() -> None:
    assert parse_url("postgresql://db/farm").drivername == "postgresql+psycopg"
    assert parse_url("postgresql+psycopg://db/farm").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "url", ["mysql://db/farm", "sqlite://", "sqlite:///:memory:", "s3cret", ""]
)
def test_any_other_database_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError, match="FARM_DATABASE_URL") as refused:
        parse_url(url)
    assert "s3cret" not in str(refused.value)
