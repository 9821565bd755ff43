# shellcheck shell=sh
# Shared by the scripts of this folder: sourced, never run.

# One place decides how we speak: everything for people goes to stderr, so that stdout stays data.
say() { printf '%s\n' "$*" >&2; }
die() {
    status=$1
    shift
    printf 'error: %s\n' "$*" >&2
    exit "$status"
}

# Root, or sudo that needs no password: a script that is part of `make` cannot ask for one.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo -n "$@" || die 3 "'$1' needs root, and 'sudo -n' did not do it. Run this as root, or let sudo work without a password."
    else
        die 3 "'$1' needs root and there is no sudo. Run this as root."
    fi
}

# Debian keeps daemons in sbin, which an ordinary user's PATH lacks.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
