"""Base images for Dockerfiles under test, none of them pulled."""

from scripts.sample.base_image import busybox_image
from scripts.sample.engine import Engine
from tests.services.registry import Registry

BASE_IMAGE = "farm-test/base:1"


def base_image(engine: Engine, name: str = BASE_IMAGE) -> str:
    """An image with busybox (sh, so RUN works) in the engine; returns its name for FROM."""
    return busybox_image(engine, name)


def base_image_in_registry(
    engine: Engine, registry: Registry, name: str = "base/busybox", tag: str = "1"
) -> str:
    """The same in a registry; returns `localhost:<port>/<name>:<tag>`, which `pull` finds."""
    reference = f"{registry.host}/{name}:{tag}"
    engine.docker("tag", base_image(engine), reference)
    engine.docker("push", "--quiet", reference)
    return reference
