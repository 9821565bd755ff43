"""Runs a command in a mount namespace whose root is this process's root.

    python3 scripts/own_root.py COMMAND...

In a chroot the root of the mount namespace lies outside, and that is where `docker exec`
and health checks would look: joining a namespace means beginning at its root. Here the
chroot's folder becomes that root, in a namespace of its own that nobody else sees.
Needs root. Where `/` is a mount point already, the namespace is only a new one.
"""

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Make the namespace, then become the command."""
    here = os.open("/", os.O_PATH | os.O_DIRECTORY)
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    if not _is_mount_point():
        _make_root(here)
    os.close(here)
    os.execvp(sys.argv[1], sys.argv[1:])


def _make_root(here: int) -> None:
    """Go to the namespace's own root, and put the folder `here` in its place."""
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    _check(_libc.setns(namespace, CLONE_NEWNS), "setns")
    os.close(namespace)
    _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate")
    folder = os.fsencode(Path(f"/proc/self/fd/{here}").readlink())
    _check(_libc.mount(folder, folder, None, MS_BIND | MS_REC, None), "mount --rbind")
    os.chdir(folder)
    _check(_libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount")
    os.chdir("/")


def _is_mount_point() -> bool:
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return any(line.split()[4] == "/" for line in mounts)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        sys.exit(f"own_root.py: {what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
