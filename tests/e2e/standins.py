"""Stand-ins for the images that compose.yml and the Dockerfile name, made from Debian packages.

Where no image can be pulled, `make(engine)` puts images of the same names into an engine of the
tests' own: a base made by debootstrap, and on it Debian's Redis, PostgreSQL and registry with the
paths, users and variables of the real images that compose.yml uses. How this machine reaches its
package registries (mirrors, proxies, its certificates) is read from its configuration and goes
into the stand-ins alone.
"""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scripts.sample.engine import Engine
from scripts.sample.processes import ServiceError, program

SUITE = "trixie"
BASE = "debian:trixie-slim"
SERVICES = {"redis:8": "redis", "postgres:17": "postgres", "registry:2": "registry"}
"""The names in compose.yml, and the Dockerfile's target for each."""

_DEBOOTSTRAPPED = "stand-in/debootstrap"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_CERTIFICATES = "/etc/stand-in/ca.pem"
_CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy")
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")
# As Debian's slim images have it.
_SLIM = "".join(f"path-exclude /usr/share/{name}/*\n" for name in ("doc", "man", "locale"))

_DOCKERFILE = r"""
FROM {debootstrapped} AS base
COPY etc /etc
RUN rm -f /etc/apt/sources.list
ENV {environment}
CMD ["bash"]

FROM base AS services
RUN apt-get update && apt-get install --yes --no-install-recommends \
        docker-registry postgresql-17 redis-server wget \
    && rm -rf /var/lib/apt/lists/*

FROM services AS redis
WORKDIR /data
CMD ["redis-server"]

FROM services AS postgres
ENV PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/var/lib/postgresql/data LANG=C.UTF-8
RUN install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data \
    && install -d -o postgres -g postgres -m 3777 /run/postgresql
VOLUME /var/lib/postgresql/data
COPY --chmod=755 <<"EOT" /usr/local/bin/docker-entrypoint.sh
#!/bin/sh
set -eu
[ "$1" = postgres ] || exec "$@"
[ "$(id -u)" -ne 0 ] || exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=${{POSTGRES_USER:-postgres}}
    initdb --username="$user" --pwfile="$POSTGRES_PASSWORD_FILE" \
        --auth=scram-sha-256 --auth-local=trust >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    echo "unix_socket_directories = '/run/postgresql'" >>"$PGDATA/postgresql.conf"
    pg_ctl start --silent --wait --options="-c listen_addresses="
    database=${{POSTGRES_DB:-$user}}
    [ "$database" = postgres ] || createdb --username="$user" "$database"
    pg_ctl stop --silent --wait --mode=fast
fi
exec "$@"
EOT
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]

FROM services AS registry
COPY <<"EOT" /etc/docker/registry/config.yml
version: 0.1
storage: {{filesystem: {{rootdirectory: /var/lib/registry}}}}
http: {{addr: ":5000"}}
EOT
RUN mkdir /var/lib/registry
VOLUME /var/lib/registry
ENTRYPOINT ["docker-registry", "serve"]
CMD ["/etc/docker/registry/config.yml"]
"""


@dataclass(frozen=True)
class Mirror:
    """Where this machine gets Debian from."""

    archive: str
    security: str | None = None

    @property
    def sources(self) -> str:
        """Its stanzas for apt."""
        suites = [(self.archive, SUITE)]
        if self.security:
            suites.append((self.security, f"{SUITE}-security"))
        return "\n".join(
            f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {_KEYRING}\n"
            for uri, suite in suites
        )


def make(engine: Engine) -> None:
    """All of them in the engine; for the base, debootstrap runs once per machine."""
    mirror = system_mirror()
    engine.docker("import", str(debootstrapped(mirror)), _DEBOOTSTRAPPED)
    with tempfile.TemporaryDirectory(prefix="farm-standins-") as folder:
        context = Path(folder)
        _write_context(context, mirror)
        _build(engine, context, target="base", name=BASE)
        for name, target in SERVICES.items():
            _build(engine, context, target=target, name=name)


def _build(engine: Engine, context: Path, *, target: str, name: str) -> None:
    # The machine's network: a mirror or proxy on its loopback interface is reached too.
    options = ["--quiet", "--network=host", f"--target={target}", f"--tag={name}"]
    engine.docker("buildx", "build", "--load", *options, str(context))


# --- the base --------------------------------------------------------------------------------


def debootstrapped(mirror: Mirror) -> Path:
    """A tar archive of a minimal Debian, from the cache if this machine made one before."""
    key = hashlib.sha256(f"{mirror.archive} {SUITE}".encode()).hexdigest()[:16]
    archive = _cache_folder() / f"{SUITE}-{key}.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(prefix="debootstrap-", dir=archive.parent) as folder:
            _debootstrap(mirror, Path(folder), archive)
    return archive


def _debootstrap(mirror: Mirror, folder: Path, archive: Path) -> None:
    root, unfinished = folder / "root", folder / "root.tar"
    _as_root(program("debootstrap"), "--variant=minbase", SUITE, str(root), mirror.archive)
    # Without the devices: the engine makes its own.
    unwanted = ["./dev/*", "./var/cache/apt/*.bin", "./var/cache/apt/archives/*.deb"]
    unwanted += ["./var/lib/apt/lists/*", "./var/log/*"]
    excludes = [f"--exclude={pattern}" for pattern in unwanted]
    command = ["--create", "--numeric-owner", *excludes, "--file", str(unfinished)]
    _as_root(program("tar"), *command, "--directory", str(root), ".")
    _as_root(program("rm"), "-rf", "--one-file-system", str(root))
    # Renamed, so that a run that was interrupted leaves nothing that looks complete.
    unfinished.rename(archive)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "docker-build-farm" / "stand-ins"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _as_root(*command: str) -> None:
    prefix = [] if os.geteuid() == 0 else [program("sudo"), "-n"]
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        message = f"{Path(command[0]).name} failed (it needs root, or sudo -n):\n{tail}"
        raise ServiceError(message)


# --- how this machine reaches its package registries -------------------------------------------


def system_mirror() -> Mirror:
    """From apt's own list of what it is configured to fetch; ServiceError without one."""
    listed = _output(
        program("apt-get"),
        "indextargets",
        "--format",
        "$(RELEASE) $(REPO_URI)",
        "Created-By: Packages",
    )
    found: dict[str, str] = {}
    for line in listed.splitlines():
        release, _, uri = line.partition(" ")
        if uri.startswith(("http://", "https://")):
            found.setdefault(release, uri)
    for suite in (SUITE, "bookworm"):
        if suite in found:
            return Mirror(found[suite], found.get(f"{suite}-security"))
    raise ServiceError("apt knows no mirror of Debian: the stand-ins are made from its packages")


def _write_context(context: Path, mirror: Mirror) -> None:
    files = {
        "apt/sources.list.d/debian.sources": mirror.sources,
        "apt/apt.conf.d/90stand-in": _apt_configuration(),
        "dpkg/dpkg.cfg.d/docker": _SLIM,
        "pip.conf": _pip_configuration(),
        "stand-in/ca.pem": _certificates().read_text(),
    }
    for path, content in files.items():
        target = context / "etc" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    variables = " ".join(f'{name}="{value}"' for name, value in _environment().items())
    dockerfile = _DOCKERFILE.format(debootstrapped=_DEBOOTSTRAPPED, environment=variables)
    (context / "Dockerfile").write_text(dockerfile)


def _environment() -> dict[str, str]:
    found = dict.fromkeys(_CERTIFICATE_VARIABLES, _CERTIFICATES)
    for name in _PROXY_VARIABLES:
        for spelling in (name, name.upper()):
            value = os.environ.get(spelling)
            if value:
                found[spelling] = value
    return found


def _apt_configuration() -> str:
    """Proxies and the like; this machine's files (client certificates) are not to be had inside."""
    lines = [f'Acquire::https::CAInfo "{_CERTIFICATES}";']
    if shutil.which("apt-config"):
        wanted = re.compile(r'Acquire::(https?::(?!CAInfo)|Retries )\S* ?"[^/"]')
        lines += filter(wanted.match, _output("apt-config", "dump").splitlines())
    return "\n".join(lines) + "\n"


def _pip_configuration() -> str:
    settings = {key: value for key, value in _pip_settings().items() if key in _PIP_KEYS}
    for key in ("index-url", "extra-index-url"):
        reachable = [url for url in settings.pop(key, "").split() if url.startswith("http")]
        if reachable:
            settings[key] = " ".join(reachable)
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in settings.items())]) + "\n"


def _pip_settings() -> dict[str, str]:
    """As pip sees them here: files first, then the environment, which wins."""
    settings = {}
    for line in _output(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    return settings


def _certificates() -> Path:
    """The bundle that this machine's clients trust, which may hold more than the public ones."""
    names = [_pip_settings().get("cert"), os.environ.get("SSL_CERT_FILE")]
    for name in [*names, "/etc/ssl/certs/ca-certificates.crt"]:
        if name and Path(name).is_file():
            return Path(name)
    message = (
        "no bundle of certificates here: run scripts/setup --test (it installs ca-certificates)"
    )
    raise ServiceError(message)


def _output(name: str, *arguments: str) -> str:
    command = [program(name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
