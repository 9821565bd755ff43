#!/bin/sh
# Makes a worker of @SERVER@ of this Docker host:
#
#   curl -fsSL @SERVER@/worker/install.sh | FARM_WORKER_TOKEN=... sh
#   ... | FARM_WORKER_TOKEN=... sh -s -- --service      as a systemd service (as root)
#
#   --dir DIR       where the program goes; default /opt/farm-worker, or ~/.local/share/farm-worker
#   --print-unit    print the systemd unit and do nothing
#
# The token is read from the environment alone: arguments and files of others would show it.
# Every FARM_... variable that is set here is the worker's. Run again, it upgrades.
set -eu
umask 022

server=@SERVER@
insecure_ok=@INSECURE_OK@
wheel=@WHEEL@
wheel_sha256=@WHEEL_SHA256@
requirements_sha256=@REQUIREMENTS_SHA256@
unit=/etc/systemd/system/farm-worker.service
settings=/etc/farm-worker.env
service_state=/var/lib/farm-worker

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 3
}

# --- what this host lacks --------------------------------------------------------------------

missing=
lacks() {
    missing=yes
    say "missing: $1"
    say "   cure: $2"
}

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$(command -v "$candidate")
            return
        fi
    done
    python=
}

has_buildx() {
    for folder in "${HOME:-/root}/.docker/cli-plugins" /usr/local/lib/docker/cli-plugins \
        /usr/local/libexec/docker/cli-plugins /usr/lib/docker/cli-plugins /usr/libexec/docker/cli-plugins; do
        [ ! -x "$folder/docker-buildx" ] || return 0
    done
    command -v docker-buildx >/dev/null 2>&1
}

engine_answers() {
    "$python" - "${DOCKER_HOST:-unix:///var/run/docker.sock}" <<'PYTHON'
import socket, sys
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
try:
    if url.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(10)
            engine.connect(url.path)
            engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            sys.exit(b" 200 " not in engine.recv(64))
    elif url.scheme in ("tcp", "http", "https"):  # certificates are the worker's business
        socket.create_connection((url.hostname, url.port or 2375), timeout=10).close()
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error.strerror or error}")
PYTHON
}

check_host() {
    find_python
    if [ -z "$python" ]; then
        lacks "python3, 3.11 or later" "apt-get install python3 python3-venv (Debian 12, Ubuntu 24.04 and later)"
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        lacks "the venv module of $python" "apt-get install python3-venv"
    fi
    command -v git >/dev/null 2>&1 || lacks "git" "apt-get install git"
    command -v setpriv >/dev/null 2>&1 || lacks "setpriv" "apt-get install util-linux"
    has_buildx || lacks "the docker buildx plugin, 0.13 or later" \
        "apt-get install docker-buildx (Debian 13, Ubuntu), or docker-buildx-plugin from Docker's own packages"
    if [ -n "$python" ] && ! engine_answers; then
        lacks "a Docker Engine, 23 or later, that answers to $(id -un)" \
            "apt-get install docker.io and start it; or set DOCKER_HOST; or be root or of the group docker"
    fi
    [ -z "$missing" ] || die "this host is not ready; nothing was changed"
}

# --- the program -----------------------------------------------------------------------------

# fetch NAME SHA256: from the farm to $work/NAME, or not at all.
fetch() {
    "$python" - "$server/worker/$1" "$work/$(basename "$1")" "$2" <<'PYTHON'
import hashlib, sys, urllib.request

url, path, wanted = sys.argv[1:]
try:
    with urllib.request.urlopen(url, timeout=60) as answer:
        data = answer.read()
except OSError as error:
    sys.exit(f"error: {url}: {error}")
if hashlib.sha256(data).hexdigest() != wanted:
    sys.exit(f"error: {url} is not what this script was made for: fetch the script again")
with open(path, "wb") as file:
    file.write(data)
PYTHON
}

# Each version has a folder of its own, and `current` leads to it: an upgrade that fails changes
# nothing, and a worker that runs keeps its files.
install_program() {
    version=$dir/$(printf %s "$wheel_sha256" | cut -c 1-12)
    if [ -e "$version/complete" ] && "$version/bin/python" -c '' 2>/dev/null; then
        say "farm-worker: $wheel is installed in $version"
    else
        say "farm-worker: installing $wheel in $version"
        mkdir -p "$dir"
        rm -rf "$version"
        work=$(mktemp -d)
        trap 'rm -rf "$work"' EXIT
        fetch requirements.txt "$requirements_sha256"
        fetch "dist/$wheel" "$wheel_sha256"
        "$python" -m venv "$version"
        pip="$version/bin/python -m pip install --quiet --disable-pip-version-check --no-input"
        $pip --require-hashes -r "$work/requirements.txt"
        $pip --no-deps --no-index "$work/$wheel"
        : >"$version/complete"
        "$version/bin/farm" doctor worker >&2 || say "farm-worker: builds may fail until that is cured"
        rm -rf "$work"
        trap - EXIT
    fi
    previous=$(readlink "$dir/current" 2>/dev/null || true)
    ln -sfn "$(basename "$version")" "$dir/current"
    for old in "$dir"/*/complete; do
        old=$(basename "$(dirname "$old")")
        [ "$old" = current ] || [ "$old" = "$previous" ] || [ "$old" = "$(basename "$version")" ] ||
            rm -rf "${dir:?}/$old"
    done
}

# --- the service -----------------------------------------------------------------------------

unit_file() {
    cat <<UNIT
# Written by $server/worker/install.sh, which upgrades it too.
[Unit]
Description=Docker build farm worker
Wants=network-online.target
After=network-online.target docker.service

[Service]
ExecStart=$dir/current/bin/farm worker
EnvironmentFile=$settings
# A user of its own, made as it starts. The docker group is root in all but name.
DynamicUser=yes
SupplementaryGroups=docker
StateDirectory=farm-worker
StateDirectoryMode=0700
WorkingDirectory=$service_state
Environment=HOME=$service_state FARM_WORKER_DIR=$service_state
UMask=0077
# It ends when the farm gives it another queue, too.
Restart=always
RestartSec=2
# SIGTERM for the worker alone, which lets its builds finish for FARM_DRAIN_S, then hands them back.
KillMode=mixed
TimeoutStopSec=120

[Install]
WantedBy=multi-user.target
UNIT
}

# The worker's settings: those of now over those of an earlier run.
settings_file() {
    "$python" - "$settings" <<'PYTHON'
import os, re, sys

wanted = re.compile(r"FARM_(?!(TOKEN|CONTEXT)$)\w+|DOCKER_\w+|(HTTPS?|NO|ALL)_PROXY", re.IGNORECASE)
lines = {}
if os.path.exists(sys.argv[1]):
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = {line.partition("=")[0]: line.rstrip("\n") for line in file if "=" in line}
for name, value in os.environ.items():
    if wanted.fullmatch(name):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        lines[name] = f'{name}="{quoted}"'
print("\n".join(lines[name] for name in sorted(lines)))
PYTHON
}

install_service() {
    # For root alone, from its first byte on; systemd reads it.
    (umask 077 && settings_file >"$settings.new")
    mv "$settings.new" "$settings"
    unit_file >"$unit.new"
    mv "$unit.new" "$unit"
    systemctl daemon-reload
    systemctl enable --quiet farm-worker.service
    systemctl restart farm-worker.service
    say "farm-worker: runs as a service; systemctl status farm-worker, journalctl -u farm-worker"
}

# --- main: in a function, so that a script cut short on its way does nothing -------------------

main() {
    service='' print_unit='' dir=''
    while [ $# -gt 0 ]; do
        case $1 in
        --service) service=yes ;;
        --print-unit) print_unit=yes ;;
        --dir)
            [ $# -ge 2 ] || die "--dir needs a folder"
            dir=$2
            shift
            ;;
        *) die "unknown argument '$1' (known: --service, --dir DIR, --print-unit)" ;;
        esac
        shift
    done
    choose_folders
    if [ -n "$print_unit" ]; then
        unit_file
        return
    fi
    export FARM_SERVER="${FARM_SERVER:-$server}" FARM_INSECURE_OK="${FARM_INSECURE_OK:-$insecure_ok}"
    if [ -n "$service" ]; then
        [ "$(id -u)" -eq 0 ] || die "--service needs root"
        [ -d /run/systemd/system ] || die "--service needs systemd, which does not run here"
        check_token "$settings"
        check_host
        install_program
        install_service
        return
    fi
    export FARM_WORKER_DIR="${FARM_WORKER_DIR:-$state}"
    check_token "$FARM_WORKER_DIR/identity.json"
    check_host
    install_program
    exec "$dir/current/bin/farm" worker </dev/null
}

choose_folders() {
    if [ "$(id -u)" -eq 0 ] && [ -z "$dir" ]; then
        dir=/opt/farm-worker
        state=$service_state
    else
        dir=${dir:-${XDG_DATA_HOME:-$HOME/.local/share}/farm-worker}
        case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
        state=$dir/state
    fi
}

# Once enrolled, a worker has a token of its own.
check_token() {
    [ -n "${FARM_WORKER_TOKEN:-}${FARM_WORKER_TOKEN_FILE:-}" ] || [ -e "$1" ] ||
        die "FARM_WORKER_TOKEN is not set: 'farm worker token NAME' prints the line to run"
}

main "$@"
