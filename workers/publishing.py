"""Tags are moved by PUT, one registry name at a time, and only those a build still owns."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from farm.errors import AttemptError, StaleAttempt
from farm.protocol import PublishAnswer
from farm.reasons import Reason
from farm.references import parse_image_reference
from workers.registry import Registries

log = structlog.get_logger()

MOST_ROUNDS = 5
"""How often tags are put again when they do not stay, before that is an error."""


def move_tags(
    registries: Registries, digest: str, publish: Callable[[], PublishAnswer]
) -> list[str]:
    """Put the digest under every tag that `publish` says is ours; the tags come back.

    `publish` is asked again until its answer is unchanged, because a newer build may
    have taken a name in between. A tag that this call moved and does not own is put
    back, also when the attempt turns out to be stale: then StaleAttempt is raised.
    AttemptError as Registries raises them, or `registry_unavailable` for a tag that
    does not stay.
    """
    moved: set[str] = set()
    try:
        answer = publish()
        for _ in range(MOST_ROUNDS):
            for tag in answer.owned:
                moved.add(tag)
                _put(registries, tag, digest)
            again = publish()
            _put_back(registries, moved, ((t.reference, t.digest) for t in again.others))
            stay = all(
                registries.tag_digest(parse_image_reference(tag)) == digest for tag in again.owned
            )
            if stay and again == answer:
                return again.owned
            answer = again
    except StaleAttempt as exc:
        _put_back(registries, moved, exc.tags)
        raise
    raise AttemptError(
        Reason.REGISTRY_UNAVAILABLE, f"a tag does not stay where it is put: {answer.owned}"
    )


def _put(registries: Registries, tag: str, digest: str) -> None:
    image = parse_image_reference(tag)
    registries.put_tag(image, registries.manifest(image, digest))


def _put_back(
    registries: Registries, moved: Iterable[str], wanted: Iterable[tuple[str, str | None]]
) -> None:
    """Undo what this attempt moved; a registry that refuses is left to the newer build."""
    ours = set(moved)
    for tag, digest in wanted:
        if tag not in ours or digest is None:
            continue
        try:
            _put(registries, tag, digest)
            log.warning("tag_put_back", tag=tag)
        except AttemptError as exc:
            log.warning("tag_not_put_back", tag=tag, error=str(exc))
