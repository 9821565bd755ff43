"""What buildx is told, and what it may see of the worker."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from farm.spec import BuildSpec
from workers.attemptdir import AttemptDir, Claimed
from workers.buildx import BuildOrder, arguments, environment, labels_of

REPOSITORY = "https://forge.example/team/app"


def order(**fields: object) -> BuildOrder:
    spec = BuildSpec.model_validate({"repository": REPOSITORY, **fields})
    return BuildOrder(
        spec=spec,
        platform="linux/amd64",
        context=Path("/x/source"),
        dockerfile=Path("/x/source/Dockerfile"),
        labels={"a": "b"},
        names=["registry.example/team/app:farm-one-0"],
        secrets={"token": Path("/x/secrets/0")},
    )


def test_the_options_stand_in_a_fixed_order_before_the_context() -> None:
    made = order(
        build_args={"Z": "1", "A": "$HOME --x"}, push=True, target="run", pull=True, no_cache=True
    )
    assert arguments(made, Path("/x/metadata.json")) == [
        *("build", "--builder", "default", "--progress=rawjson"),
        *("--metadata-file", "/x/metadata.json", "--provenance=false"),
        *("--file", "/x/source/Dockerfile", "--target", "run", "--platform", "linux/amd64"),
        *("--pull", "--no-cache", "--build-arg", "A=$HOME --x", "--build-arg", "Z=1"),
        *("--label", "a=b", "--secret", "id=token,src=/x/secrets/0"),
        *("--tag", "registry.example/team/app:farm-one-0", "--push", "/x/source"),
    ]


def test_an_unpushed_image_stays_in_the_engine() -> None:
    made = arguments(order(), Path("/m"))
    assert made[-3:] == ["--output", "type=docker", "/x/source"]
    assert "--push" not in made


def test_the_environment_is_made_from_nothing(tmp_path: Path) -> None:
    own = {
        "PATH": "/usr/bin",
        "FARM_WORKER_TOKEN": "x",
        "DOCKER_HOST": "unix:///e",
        "HOME": "/root",
    }
    with AttemptDir.create(tmp_path, Claimed(1, 1, "x")) as folder:
        env = environment(folder, own)
        assert env["BUILDX_GIT_INFO"] == "false"
        assert env["DOCKER_HOST"] == "unix:///e"
        assert "FARM_WORKER_TOKEN" not in env
        assert list(Path(env["PATH"]).iterdir()) == []
        assert "allow = never" in Path(env["GIT_CONFIG_GLOBAL"]).read_text()
        for name in ("HOME", "DOCKER_CONFIG", "BUILDX_CONFIG"):
            assert Path(env[name]).parent == folder.path


def test_a_projects_own_labels_win() -> None:
    spec = BuildSpec(repository=REPOSITORY, labels={"org.opencontainers.image.source": "mine"})
    date = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert labels_of(spec, {"farm.x": "y"}, sha="a" * 40, commit_date=date) == {
        "org.opencontainers.image.revision": "a" * 40,
        "org.opencontainers.image.source": "mine",
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
        "farm.x": "y",
    }
