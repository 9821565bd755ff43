"""Tag rows: what each name in a registry should point to, and who owns it.

The newest build of a name wins: newest is the commit that the farm learnt of last,
then the build that was asked for last; a retry keeps its original's place.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm import db
from farm.model import Build, Commit, Tag
from farm.protocol import DesiredTag


def place_of(build: Build) -> tuple[int, int]:
    """A build's place among all that could own a name: the higher wins."""
    return build.commit_id or 0, build.root_id or build.id


def learn_commit(
    session: Session,
    *,
    project_id: int,
    ref: str,
    sha: str,
    now: datetime,
    commit_date: datetime | None = None,
) -> Commit:
    """The row of a commit of a ref; its id is its place in the order of learning."""
    this = select(Commit).where(
        Commit.project_id == project_id, Commit.ref == ref, Commit.sha == sha
    )
    known = session.scalars(this).first()
    if known is None:
        db.insert_if_new(session, Commit, project_id=project_id, ref=ref, sha=sha, learnt_at=now)
        known = session.scalars(this).one()
    if commit_date is not None:
        known.commit_date = commit_date
    session.flush()
    return known


def claim_tags(
    session: Session, build: Build, references: list[str], digest: str, *, now: datetime
) -> tuple[list[str], list[DesiredTag]]:
    """Point each name to the digest where this build is the newest that asked for it.

    Returns the names that it owns, and the others with the digest they should have.
    Safe to repeat.
    """
    owned: list[str] = []
    others: list[DesiredTag] = []
    place = place_of(build)
    for reference in sorted(references):
        row = session.get(Tag, reference, with_for_update=True)
        if row is None:
            row = _new_tag(session, build, reference, digest, now=now)
        if (row.commit_place, row.build_place) > place:
            others.append(DesiredTag(reference=reference, digest=row.digest))
            continue
        if row.digest != digest:
            row.moved_at = now
        row.build_id, row.digest = build.id, digest
        row.commit_place, row.build_place = place
        owned.append(reference)
    session.flush()
    return owned, others


def _new_tag(
    session: Session, build: Build, reference: str, digest: str, *, now: datetime
) -> Tag:
    """The row of a name that nobody had, or of whoever took it in this very moment."""
    commit_place, build_place = place_of(build)
    db.insert_if_new(
        session,
        Tag,
        reference=reference,
        build_id=build.id,
        commit_place=commit_place,
        build_place=build_place,
        digest=digest,
        moved_at=now,
    )
    return session.get_one(Tag, reference, with_for_update=True)


def desired(session: Session, references: list[str]) -> list[tuple[str, str | None]]:
    """What each name should point to; None where no build has published it."""
    known = dict(
        session.execute(
            select(Tag.reference, Tag.digest).where(Tag.reference.in_(references))
        ).all()
    )
    return [(reference, known.get(reference)) for reference in references]
