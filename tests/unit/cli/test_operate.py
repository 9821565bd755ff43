"""What operators run beside the farm: the database, the settings, the doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm import access, db, schema
from farm.doctor import control_plane
from farm.findings import Finding
from farm.settings import Settings
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_farm import Answer, FakeFarm

AWAY = "127.0.0.1:1"


@pytest.fixture
def url(home: Path) -> str:
    return f"sqlite:///{home / 'farm.db'}"


def test_the_database_is_made_and_brought_up_to_date(run: Run, url: str, home: Path) -> None:
    before = run("db", "current", FARM_DATABASE_URL=url)
    assert before.stdout == "none\n"
    assert "farm db upgrade" in before.stderr
    assert not (home / "farm.db").exists()

    assert run("db", "upgrade", FARM_DATABASE_URL=url).exit_code == 0

    after = run("db", "current", "--json", FARM_DATABASE_URL=url)
    assert json.loads(after.stdout) == {"current": schema.NEWEST, "newest": schema.NEWEST}


def test_a_database_that_does_not_answer_is_exit_code_5(run: Run) -> None:
    away = f"postgresql://farm:s3cret@{AWAY}/farm"

    done = run("db", "current", FARM_DATABASE_URL=away)

    assert done.exit_code == 5
    assert "s3cret" not in done.output
    assert run("db", "current", FARM_DATABASE_URL="mysql://x/y").exit_code == 2


def test_the_first_token_is_made_beside_the_database(run: Run, url: str) -> None:
    refused = run("token", "create", "me", "--local", FARM_DATABASE_URL=url)
    assert refused.exit_code == 5
    assert "farm db upgrade" in refused.stderr
    schema.upgrade(url)

    done = run("token", "create", "me", "--local", "--expires-days", "1", FARM_DATABASE_URL=url)

    assert done.exit_code == 0, done.stderr
    database = db.Database(url)
    with database.read() as session:
        principal = access.authenticate(session, done.stdout.strip(), now=db.now(session))
    database.dispose()
    assert principal.may("admin")


def test_a_local_token_has_the_scopes_that_are_named(run: Run, url: str) -> None:
    schema.upgrade(url)

    made = run("token", "create", "ci", "--local", "-s", "read", "--json", FARM_DATABASE_URL=url)
    refused = run(
        *["token", "create", "x", "--local", "-s", "worker", "-s", "admin"], FARM_DATABASE_URL=url
    )

    assert json.loads(made.stdout)["token"].startswith("farm_")
    assert refused.exit_code == 2


def test_config_check_shows_every_setting_and_no_secret(run: Run, home: Path) -> None:
    secret = home / "key"
    secret.write_text("k" * 40)

    done = run(
        *["config", "check", "--json"],
        FARM_SECRET_KEY_FILE=str(secret),
        FARM_REDIS_URL="redis://:pass@redis.example.org:6379/0?password=pass",
        FARM_WORKER_SLOTS="3",
    )

    shown = json.loads(done.stdout)
    assert done.exit_code == 0
    assert len(shown) == len(Settings.model_fields)
    assert shown["FARM_SECRET_KEY"] == {"value": "(set)", "source": "FARM_SECRET_KEY_FILE"}
    assert shown["FARM_REDIS_URL"]["value"] == "redis://(hidden)@redis.example.org:6379/0"
    assert shown["FARM_WORKER_SLOTS"] == {"value": "3", "source": "FARM_WORKER_SLOTS"}
    assert shown["FARM_LISTEN"]["source"] == "default"
    assert shown["FARM_DATABASE_URL"]["value"] == f"sqlite:///{home}/data/farm/farm.db"
    assert "pass" not in done.output
    assert "kkk" not in done.output


def test_config_check_names_every_wrong_variable(run: Run) -> None:
    done = run("config", "check", FARM_WORKER_SLOTS="many", FARM_LISTENN="x", FARM_LEASE_S="-1")

    assert done.exit_code == 2
    assert done.stdout == ""
    for name in ("FARM_WORKER_SLOTS", "FARM_LISTENN", "FARM_LEASE_S"):
        assert name in done.stderr
    assert "did you mean FARM_LISTEN?" in done.stderr


def test_config_check_warns_of_what_production_must_not_have(run: Run) -> None:
    assert "FARM_SECRET_KEY: must be at least" in run("config", "check").stderr
    assert run("config", "check", FARM_INSECURE_OK="1").stderr == ""


def test_the_doctor_has_a_cure_for_everything_that_is_wrong(run: Run) -> None:
    done = run(
        *["doctor", "control", "--json"],
        FARM_SERVER=f"http://{AWAY}",
        FARM_REDIS_URL=f"redis://:s3cret@{AWAY}/0",
        FARM_DATABASE_URL=f"postgresql://farm:s3cret@{AWAY}/farm",
    )

    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert set(found) == {"settings", "database", "redis", "server", "data directory"}
    assert [name for name, finding in found.items() if finding["ok"]] == ["settings"]
    assert all(finding["ok"] or finding["cure"] for finding in found.values())
    assert "s3cret" not in done.output


def test_the_doctor_says_which_settings_are_wrong(run: Run) -> None:
    done = run("doctor", "control", FARM_WORKER_SLOTS="many")

    assert done.exit_code == 1
    assert done.stdout.startswith("settings\twrong\tFARM_WORKER_SLOTS: ")


def test_the_doctor_knows_its_parts(run: Run) -> None:
    done = run("doctor", "moon")

    assert done.exit_code == 2
    assert "control, worker" in done.stderr


def test_the_doctor_finds_a_healthy_control_plane(
    farm: FakeFarm, home: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.on("GET /readyz", {"status": "ok"})
    schema.upgrade(url)
    monkeypatch.setenv("FARM_SERVER", farm.url)
    monkeypatch.setenv("FARM_DATABASE_URL", url)
    monkeypatch.setenv("FARM_DATA_DIR", str(home))

    found = {finding.check: finding for finding in control_plane()}

    assert found["database"] == Finding("database", ok=True, detail=f"answers, at {schema.NEWEST}")
    assert found["server"].ok
    assert found["data directory"].ok
    assert found["disk"].ok


def test_the_doctor_names_what_the_server_lacks(
    farm: FakeFarm, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = {"checks": {"database": "ok", "redis": "no answer"}}
    farm.on("GET /readyz", Answer(checks, 503), Answer(b"oops", 500))
    monkeypatch.setenv("FARM_SERVER", farm.url)

    first = {finding.check: finding for finding in control_plane()}["server"]
    second = {finding.check: finding for finding in control_plane()}["server"]

    assert first.detail == f"{farm.url} is not ready: redis (no answer)"
    assert second.detail == f"{farm.url} is not ready: it answered 500"
