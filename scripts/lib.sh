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

# The first of this system's apt sources that offers $1 (a suite): "URI<TAB>Signed-By", or nothing.
# No mirror's address is written down in this project: a machine knows the one it may use.
apt_source_of_suite() {
    found=$(deb822_source_of_suite "$1")
    [ -n "$found" ] || found=$(list_source_of_suite "$1")
    printf '%s' "$found"
}
deb822_source_of_suite() {
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        case $file in */docker-build-farm.sources) continue ;; esac
        awk -v suite="$1" '
            function flush() {
                if (hit && !off && uri) { print uri "\t" key; done = 1; exit }
                uri = key = ""; hit = off = 0
            }
            /^[[:space:]]*$/ { flush(); next }
            /^#/ { next }
            tolower($1) == "uris:" { uri = $2 }
            tolower($1) == "signed-by:" { key = $2 }
            tolower($1) == "enabled:" && tolower($2) == "no" { off = 1 }
            tolower($1) == "types:" && !/deb( |$)/ { off = 1 }
            tolower($1) == "suites:" { for (i = 2; i <= NF; i++) if ($i == suite) hit = 1 }
            END { if (!done) flush() }
        ' "$file"
    done | head -n 1
}
list_source_of_suite() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | awk -v suite="$1" '
        $1 != "deb" { next }
        {
            key = ""
            line = $0
            if (match(line, /\[[^]]*\]/)) {
                options = substr(line, RSTART + 1, RLENGTH - 2)
                n = split(options, parts, " ")
                for (i = 1; i <= n; i++) if (parts[i] ~ /^signed-by=/) key = substr(parts[i], 11)
                sub(/\[[^]]*\]/, "", line)
            }
            split(line, word, " ")
            if (word[3] == suite) { print word[2] "\t" key; exit }
        }'
}
