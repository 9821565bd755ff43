"""What the farm gives a new host: its own wheel, the locked requirements, the install script."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import re
import subprocess
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from farm.settings import Settings
from tests.pages_farm import PagesFarm
from web import dist

ADDRESS = "https://farm.example.org"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    """Somebody without a token."""
    farm = PagesFarm(tmp_path, url=ADDRESS)
    yield farm.app.test_client()
    farm.close()


@pytest.fixture
def archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(dist.release().wheel))


def test_the_wheel_is_of_this_very_version_and_its_record_is_right(
    archive: zipfile.ZipFile,
) -> None:
    stem = f"docker_build_farm-{version('docker-build-farm')}"
    assert dist.release().name == f"{stem}-py3-none-any.whl"
    record = f"{stem}.dist-info/RECORD"
    rows = {row[0]: row[1:] for row in csv.reader(archive.read(record).decode().splitlines())}
    assert rows.pop(record) == ["", ""]
    assert set(rows) | {record} == set(archive.namelist())
    for name, (digest, size) in rows.items():
        data = archive.read(name)
        wanted = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={wanted}", len(data)), name


def test_the_wheel_has_all_that_a_farm_runs_with_and_nothing_else(
    archive: zipfile.ZipFile,
) -> None:
    names = set(archive.namelist())
    wanted = ["farm/model.py", "workers/app.py", "web/static/farm.css", "web/install.sh"]
    assert {*wanted, "web/templates/builds.html", "farm/migrations/script.py.mako"} <= names
    assert archive.read(dist.REQUIREMENTS) == dist.release().requirements
    assert not [name for name in names if "__pycache__" in name or "/." in name]
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    assert b"farm = farm.cli.main:main" in archive.read(entry_points)


def test_the_wheel_is_the_same_bytes_every_time() -> None:
    first = dist.release()
    dist.release.cache_clear()
    assert dist.release() == first


def test_every_requirement_has_a_hash() -> None:
    text = dist.release().requirements.decode().replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(requirements) > 20
    assert all("--hash=sha256:" in line for line in requirements)


def test_script_wheel_and_requirements_are_served_without_a_token_and_fit(
    client: FlaskClient,
) -> None:
    script = client.get("/worker/install.sh")
    assert script.mimetype == "text/plain"
    values = dict(re.findall(r"^(\w+)=(\S+)$", script.text, re.MULTILINE))
    assert values["server"] == ADDRESS
    wheel = client.get(f"/worker/dist/{values['wheel']}")
    requirements = client.get("/worker/requirements.txt")
    assert hashlib.sha256(wheel.data).hexdigest() == values["wheel_sha256"]
    assert hashlib.sha256(requirements.data).hexdigest() == values["requirements_sha256"]
    assert not re.search(r"@[A-Z_0-9]+@", script.text)


def test_another_wheel_is_not_there(client: FlaskClient) -> None:
    answer = client.get("/worker/dist/docker_build_farm-0.0.1-py3-none-any.whl")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "wheel_not_found")


@pytest.mark.parametrize(
    ("url", "asked", "address"),
    [
        (ADDRESS, "http://10.0.0.1:8080", ADDRESS),
        ("https://example.org/farm/", "http://10.0.0.1", "https://example.org/farm"),
        ("http://127.0.0.1:8080", "http://10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("http://localhost:8080", "http://[fd00::1]:80", "http://[fd00::1]:80"),
        ("http://localhost:8080", "http://a;reboot", "http://localhost:8080"),
        ("http://localhost:8080", "http://$(reboot)", "http://localhost:8080"),
        ("http://[::1]:8080", "http://farm:8080", "http://farm:8080"),
    ],
)
def test_a_new_host_is_told_an_address_that_it_can_reach(
    url: str, asked: str, address: str
) -> None:
    assert dist.server_address(Settings(url=url), asked) == address


def test_the_unit_runs_the_current_version_as_a_user_of_its_own_and_holds_no_token(
    client: FlaskClient, tmp_path: Path
) -> None:
    script = tmp_path / "install.sh"
    script.write_text(client.get("/worker/install.sh").text)
    done = subprocess.run(
        ["sh", str(script), "--print-unit", "--dir", "/srv/worker"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "FARM_WORKER_TOKEN": "farm_hush"},
        capture_output=True,
        text=True,
        check=True,
    )
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    unit.read_string(done.stdout)
    service = unit["Service"]
    assert service["ExecStart"] == "/srv/worker/current/bin/farm worker"
    assert service["EnvironmentFile"] == "/etc/farm-worker.env"
    assert service["DynamicUser"] == "yes"
    assert service["StateDirectory"] == "farm-worker"
    assert service["Restart"] == "always"
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > Settings().drain_s
    assert "hush" not in done.stdout + done.stderr
