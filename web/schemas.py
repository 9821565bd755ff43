"""The bodies of API requests other than a build's (farm.spec.BuildRequest)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from farm.references import check_registry_host, check_storable, check_text
from farm.spec import RepositoryUrl, SecretName, WorkerLabel
from farm.states import Zone

Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(check_text)]
ProjectName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$",
        max_length=255,
    ),
]
Username = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(check_text)]
SecretValue = Annotated[
    str, Field(min_length=1, max_length=64 * 1024), AfterValidator(check_storable)
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewProject(Body):
    name: ProjectName
    repository: RepositoryUrl
    git_username: Username | None = None
    git_token: SecretValue | None = None


class ChangedProject(Body):
    """A field that is left out stays as it is."""

    git_username: Username | None = None
    git_token: SecretValue | None = None


class NewRegistry(Body):
    host: Annotated[str, Field(max_length=255), AfterValidator(check_registry_host)]
    username: Username
    password: SecretValue
    project: ProjectName | None = None


class NewSecret(Body):
    name: SecretName
    value: SecretValue
    project: ProjectName | None = None


class NewToken(Body):
    name: Name
    scopes: Annotated[list[str], Field(min_length=1, max_length=4)]
    zone: Zone = Zone.TRUSTED
    """Of the workers that enrol with it (scope `worker`)."""
    labels: Annotated[list[WorkerLabel], Field(max_length=64)] = []
    expires_days: Annotated[int, Field(ge=1, le=3650, strict=True)] | None = None


class ChangedWorker(Body):
    draining: bool
