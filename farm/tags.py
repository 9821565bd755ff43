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


def learn_named(session: Session, *, project_id: int, ref: str, sha: str, now: datetime) -> Commit:
    """The row of a commit that somebody named: known already, or learnt now."""
    known = session.scalars(
        select(Commit)
        .where(Commit.project_id == project_id, Commit.ref == ref, Commit.sha == sha)
        .order_by(Commit.learnt_at.desc())
        .limit(1)
    ).first()
    return known or _new_commit(session, project_id, ref, sha, now)


def learn_tip(
    session: Session, *, project_id: int, ref: str, sha: str, seen_from: datetime
) -> Commit:
    """The row of a commit that a worker found at a ref's tip, looking after `seen_from`.

    A tip that was known, and was another meanwhile, is learnt again: a branch that
    was reset to an earlier commit owns its tags again.
    """
    latest = session.scalars(
        select(Commit)
        .where(Commit.project_id == project_id, Commit.ref == ref)
        .order_by(Commit.learnt_at.desc())
        .limit(1)
    ).first()
    if latest is not None and latest.sha == sha:
        return latest
    if latest is not None and latest.learnt_at >= seen_from:
        return learn_named(session, project_id=project_id, ref=ref, sha=sha, now=seen_from)
    return _new_commit(session, project_id, ref, sha, seen_from)


def _new_commit(
    session: Session, project_id: int, ref: str, sha: str, learnt_at: datetime
) -> Commit:
    made = Commit(project_id=project_id, ref=ref, sha=sha, learnt_at=learnt_at)
    session.add(made)
    session.flush()
    return made


def place_of(session: Session, build: Build) -> tuple[datetime, int, int]:
    """A build's place among all that could own a name: the higher wins."""
    learnt_at = build.created_at
    if build.commit_id is not None:
        learnt_at = session.get_one(Commit, build.commit_id).learnt_at
    return learnt_at, build.root_id or build.id, build.id


def claim_tags(
    session: Session, build: Build, references: list[str], digest: str, *, now: datetime
) -> tuple[list[str], list[DesiredTag]]:
    """Point each name to the digest where this build is the newest that asked for it.

    Returns the names that it owns, and the others with the digest they should have.
    Safe to repeat.
    """
    owned: list[str] = []
    others: list[DesiredTag] = []
    place = place_of(session, build)
    for reference in sorted(references):
        row = session.get(Tag, reference, with_for_update=True)
        if row is None:
            row = _new_tag(session, build, reference, digest, now=now)
        if (row.commit_learnt_at, row.build_place, row.build_id) > place:
            others.append(DesiredTag(reference=reference, digest=row.digest))
            continue
        if row.digest != digest:
            row.moved_at = now
        row.commit_learnt_at, row.build_place, row.build_id = place
        row.digest = digest
        owned.append(reference)
    session.flush()
    return owned, others


def _new_tag(session: Session, build: Build, reference: str, digest: str, *, now: datetime) -> Tag:
    """The row of a name that nobody had, or of whoever took it in this very moment."""
    learnt_at, build_place, _ = place_of(session, build)
    db.insert_if_new(
        session,
        Tag,
        reference=reference,
        build_id=build.id,
        commit_learnt_at=learnt_at,
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
