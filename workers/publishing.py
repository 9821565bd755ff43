"""Tags are moved by PUT, one registry name at a time, and only those a build still owns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from farm.errors import AttemptError, StaleAttempt
from farm.protocol import Publish, PublishAnswer
from farm.reasons import Reason
from farm.references import parse_image_reference
from workers.control import AttemptControl, insist
from workers.registry import Registries
from workers.stop import Stop

log = structlog.get_logger()

ANSWER_S = 10.0
"""How long an attempt that is told to stop asks for the answer to *publish*."""
MOST_ROUNDS = 5
"""How often tags are put again when they do not stay, before that is an error."""


def ask_to_publish(control: AttemptControl, image: Publish, stop: Stop) -> PublishAnswer:
    """The control plane's own answer, for ANSWER_S also when the attempt is told to stop.

    Without it nobody knows whether the build is published, and a stale attempt does not
    know what to put back.
    """
    heeds_from = time.monotonic() + ANSWER_S

    def wait(seconds: float) -> None:
        time.sleep(seconds)
        if time.monotonic() > heeds_from:
            stop.check()

    answer = insist(lambda: control.publish(image), wait=wait)
    stop.commit()
    return answer


def move_tags(
    registries: Registries,
    digest: str,
    publish: Callable[[], PublishAnswer],
    *,
    maybe_moved: Iterable[str] = (),
) -> list[str]:
    """Put the digest under every tag that `publish` says is ours; the tags come back.

    `publish` is asked until its answer is unchanged: a newer build may take a name in
    between. A tag that this build moved (`maybe_moved`: an earlier attempt may have) and
    does not own is put back, also before StaleAttempt or an AttemptError is raised:
    Registries' own, or `registry_unavailable` for a tag that does not stay.
    """
    tags = _Tags(registries, digest, maybe_moved)
    wanted = tags.ask(publish)
    for _ in range(MOST_ROUNDS):
        try:
            tags.arrange(wanted)
            again = tags.ask(publish)
            settled = again == wanted and tags.stay(again.owned)
        except AttemptError:
            tags.put_back(tags.ask(publish).others)  # a newer build may own them by now
            raise
        wanted = again
        if settled:
            return wanted.result()
    raise AttemptError(
        Reason.REGISTRY_UNAVAILABLE, f"a tag does not stay where it is put: {list(wanted.owned)}"
    )


@dataclass(frozen=True)
class _Wanted:
    """Where tags should point, by the control plane's answer; a stale attempt owns none."""

    owned: tuple[str, ...]
    others: tuple[tuple[str, str | None], ...]
    stale: bool = False

    def result(self) -> list[str]:
        if self.stale:
            raise StaleAttempt("the control plane gave this attempt up", tags=self.others)
        return list(self.owned)


class _Tags:
    """The tags of one build in their registries, and what this worker has put there."""

    def __init__(self, registries: Registries, digest: str, maybe_moved: Iterable[str]) -> None:
        self._registries = registries
        self._digest = digest
        self._put_here = {tag: {digest} for tag in maybe_moved}
        """Tag -> the digests that we may have put there."""

    def ask(self, publish: Callable[[], PublishAnswer]) -> _Wanted:
        """What is wanted now; raises StaleAttempt when there is nothing to put back."""
        try:
            answer = publish()
        except StaleAttempt as exc:
            if not (self._put_here and exc.tags):
                raise
            return _Wanted((), exc.tags, stale=True)
        return _Wanted(tuple(answer.owned), tuple((t.reference, t.digest) for t in answer.others))

    def arrange(self, wanted: _Wanted) -> None:
        """Put what is owned, and put back what is not."""
        for tag in wanted.owned:
            self._put(tag, self._digest)
        self.put_back(wanted.others)

    def put_back(self, others: Iterable[tuple[str, str | None]]) -> None:
        """Undo what was moved; a registry that refuses is left to the newer build.

        A tag that points to what we never put there is somebody else's work.
        """
        for tag, digest in others:
            ours = self._put_here.get(tag, set())
            try:
                if digest is None or not ours or self._points_to(tag) not in ours - {digest}:
                    continue
                self._put(tag, digest)
                log.warning("tag_put_back", tag=tag)
            except AttemptError as exc:
                log.warning("tag_not_put_back", tag=tag, error=str(exc))

    def stay(self, owned: Iterable[str]) -> bool:
        """Whether the registries still have our digest under these tags."""
        return all(self._points_to(tag) == self._digest for tag in owned)

    def _points_to(self, tag: str) -> str | None:
        return self._registries.tag_digest(parse_image_reference(tag))

    def _put(self, tag: str, digest: str) -> None:
        # Noted first: a PUT that got no answer may have been carried out.
        self._put_here.setdefault(tag, set()).add(digest)
        image = parse_image_reference(tag)
        self._registries.put_tag(image, self._registries.manifest(image, digest))
