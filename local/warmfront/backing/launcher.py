"""Switches to another account, then executes a command: `python -I -S launcher.py HOW UID GID COMMAND...`.

This is a separate program because a preexec function can deadlock in a parent with threads. HOW is one of

- `namespace`: the account inside a new user namespace; its files belong to the user who started the launcher;
- `nobody`: the account itself (root only);
- `nobody-enters-all`: the same, with the capability to enter and read every folder (root only).
"""

import ctypes
import os
import struct
import sys

FAILED = 126

# linux/capability.h and linux/prctl.h
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2


def main(how: str, uid: str, gid: str, command: list[str]) -> None:
    try:
        if how == "namespace":
            _enter_namespace(uid, gid)
        else:
            _become(int(uid), int(gid), enters_all=how == "nobody-enters-all")
    except OSError as error:
        what = {"namespace": "no user namespace", "nobody": "cannot become nobody"}
        sys.exit(f"{what.get(how, 'cannot enter every folder as nobody')}: {error.strerror}")
    os.execv(command[0], command)


def _enter_namespace(uid: str, gid: str) -> None:
    outer_uid, outer_gid = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER)
    # user_namespaces(7): an unprivileged process may map its group only after it gave up setgroups
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {outer_uid} 1")
    _write("/proc/self/gid_map", f"{gid} {outer_gid} 1")


def _become(uid: int, gid: int, *, enters_all: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if enters_all:
        # Keeps capabilities when the user id changes, and in access(2), with which initdb looks for postgres.
        _check(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if enters_all:
        # Containers take away the narrower of the two more often than the wider (capabilities(7), Docker's defaults).
        try:
            _keep_only(libc, CAP_DAC_READ_SEARCH)
        except OSError:
            _keep_only(libc, CAP_DAC_OVERRIDE)


def _keep_only(libc: ctypes.CDLL, capability: int) -> None:
    """Hold one capability of those kept, and pass it on to the program that is executed next (capabilities(7), ambient)."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    bits = 1 << capability
    _check(libc.capset(header, struct.pack("=6I", bits, bits, bits, 0, 0, 0)))
    _check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 - pathlib would double the start-up time
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
