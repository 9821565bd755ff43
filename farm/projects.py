"""Projects, and what is stored for them: git credentials, secrets, registry logins."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from farm.errors import Conflict, Invalid, NotFound
from farm.model import Attempt, Build, Commit, Part, Project, Registry, Secret, Tag
from farm.references import normal_repository, project_name_of
from farm.sealing import Sealer
from farm.states import TERMINAL
from farm.views import ProjectView, RegistryView, SecretView


def add(
    session: Session,
    *,
    name: str,
    repository: str,
    now: datetime,
    git_username: str | None = None,
    git_token: str | None = None,
    sealer: Sealer | None = None,
    trusted_host: bool = False,
) -> Project:
    """Register a repository; Conflict when its name or its URL is taken."""
    key = normal_repository(repository)
    taken = session.scalars(
        select(Project).where((Project.name == name) | (Project.repository_key == key))
    ).first()
    if taken:
        what = "name" if taken.name == name else "repository"
        raise Conflict(f"A project with that {what} exists already.", code="project_exists")
    project = Project(
        name=name,
        owner=name.rpartition("/")[0] or name,
        repository=repository,
        repository_key=key,
        trusted_host=trusted_host,
        git_username=git_username,
        git_token=sealer.seal(git_token) if git_token and sealer else None,
        created_at=now,
    )
    session.add(project)
    session.flush()
    return project


def change(
    session: Session,
    name: str,
    *,
    git_username: str | None,
    git_token: str | None,
    sealer: Sealer,
) -> Project:
    """Replace a project's git credentials where new ones are given.

    An admin has looked at it now, so its host may be a private address.
    """
    project = find(session, name)
    project.trusted_host = True
    if git_username is not None:
        project.git_username = git_username
    if git_token is not None:
        project.git_token = sealer.seal(git_token)
    session.flush()
    return project


def find(session: Session, name: str) -> Project:
    """The project of that name, or NotFound."""
    project = session.scalars(select(Project).where(Project.name == name)).first()
    if project is None:
        raise NotFound("There is no such project.", code="project_not_found")
    return project


def of_repository(session: Session, repository: str) -> Project | None:
    """The project of that clone URL, however it is spelt."""
    key = normal_repository(repository)
    return session.scalars(select(Project).where(Project.repository_key == key)).first()


def ensure(session: Session, repository: str, *, now: datetime) -> Project:
    """The project of that clone URL, made if it is new, named after the URL's path."""
    project = of_repository(session, repository)
    if project:
        return project
    name = free_name(session, project_name_of(repository))
    try:
        with session.begin_nested():
            return add(session, name=name, repository=repository, now=now)
    except (Conflict, IntegrityError):
        made = of_repository(session, repository)  # somebody asked for it in the same moment
        if made is None:
            raise
        return made


def free_name(session: Session, wanted: str) -> str:
    """The wanted name, or with a number behind it when another repository has it."""
    taken = set(
        session.scalars(
            select(Project.name).where(
                (Project.name == wanted) | Project.name.startswith(f"{wanted}-", autoescape=True)
            )
        )
    )
    if wanted not in taken:
        return wanted
    return next(f"{wanted}-{n}" for n in range(2, len(taken) + 3) if f"{wanted}-{n}" not in taken)


def list_projects(session: Session) -> list[ProjectView]:
    """Every project, by name."""
    return [view(row) for row in session.scalars(select(Project).order_by(Project.name))]


def view(project: Project) -> ProjectView:
    """What people see of a project: whether it has a token, never the token."""
    return ProjectView(
        id=str(project.id),
        name=project.name,
        repository=project.repository,
        git_username=project.git_username,
        has_git_token=project.git_token is not None,
        created_at=project.created_at,
    )


def remove(session: Session, name: str) -> list[tuple[int, int]]:
    """Forget a project with its history; Conflict while one of its builds is not over.

    Returns the parts and attempts whose logs the door removes once this is committed.
    """
    project = find(session, name)
    busy = session.scalars(
        select(Build.id)
        .where(Build.project_id == project.id, Build.status.not_in(TERMINAL))
        .limit(1)
    ).first()
    if busy:
        raise Conflict("A build of the project is not over: cancel it first.", code="project_busy")
    builds = select(Build.id).where(Build.project_id == project.id)
    logs = session.execute(
        select(Attempt.part_id, Attempt.number)
        .join(Part, Part.id == Attempt.part_id)
        .where(Part.build_id.in_(builds))
    ).all()
    session.execute(delete(Tag).where(Tag.build_id.in_(builds)))
    session.execute(
        update(Build).where(Build.project_id == project.id).values(retry_of=None, commit_id=None)
    )
    session.execute(delete(Build).where(Build.project_id == project.id))
    session.execute(delete(Commit).where(Commit.project_id == project.id))
    session.execute(delete(Project).where(Project.id == project.id))
    return [(part_id, number) for part_id, number in logs]


def set_secret(
    session: Session,
    *,
    name: str,
    value: str,
    project: str | None,
    sealer: Sealer,
    now: datetime,
) -> SecretView:
    """Store a secret, replacing the one of that name and project."""
    if len(value) < 4:
        raise Invalid.field("value", "must have at least 4 characters: a shorter one hides nothing")
    scope_id = find(session, project).id if project else 0
    row = session.scalars(
        select(Secret).where(Secret.scope_id == scope_id, Secret.name == name)
    ).first()
    if row is None:
        row = Secret(scope_id=scope_id, project_id=scope_id or None, name=name)
        session.add(row)
    row.sealed, row.updated_at = sealer.seal(value), now
    session.flush()
    return SecretView(name=name, project=project, updated_at=now)


def list_secrets(session: Session) -> list[SecretView]:
    """Every secret's name, never its value."""
    rows = session.execute(
        select(Secret, Project.name)
        .outerjoin(Project, Project.id == Secret.project_id)
        .order_by(Secret.name)
    )
    return [SecretView(name=s.name, project=p, updated_at=s.updated_at) for s, p in rows]


def remove_secret(session: Session, name: str, project: str | None) -> None:
    """Forget a secret."""
    scope_id = find(session, project).id if project else 0
    gone = session.execute(
        delete(Secret).where(Secret.scope_id == scope_id, Secret.name == name).returning(Secret.id)
    ).first()
    if gone is None:
        raise NotFound("There is no such secret.", code="secret_not_found")


def set_registry(
    session: Session,
    *,
    host: str,
    username: str,
    password: str,
    project: str | None,
    sealer: Sealer,
    now: datetime,
) -> RegistryView:
    """Store a login to a registry, replacing the one of that host and project."""
    scope_id = find(session, project).id if project else 0
    row = session.scalars(
        select(Registry).where(Registry.scope_id == scope_id, Registry.host == host)
    ).first()
    if row is None:
        row = Registry(scope_id=scope_id, project_id=scope_id or None, host=host)
        session.add(row)
    row.username, row.sealed, row.updated_at = username, sealer.seal(password), now
    session.flush()
    return RegistryView(host=host, username=username, project=project, updated_at=now)


def list_registries(session: Session) -> list[RegistryView]:
    """Every registry login, never its password."""
    rows = session.execute(
        select(Registry, Project.name)
        .outerjoin(Project, Project.id == Registry.project_id)
        .order_by(Registry.host)
    )
    return [
        RegistryView(host=r.host, username=r.username, project=p, updated_at=r.updated_at)
        for r, p in rows
    ]


def remove_registry(session: Session, host: str, project: str | None) -> None:
    """Forget a login to a registry."""
    scope_id = find(session, project).id if project else 0
    gone = session.execute(
        delete(Registry)
        .where(Registry.scope_id == scope_id, Registry.host == host)
        .returning(Registry.id)
    ).first()
    if gone is None:
        raise NotFound("There is no login to that registry.", code="registry_not_found")
