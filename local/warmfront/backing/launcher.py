"""Becomes an ordinary user inside a user namespace, then the given command. Knows nothing of the command.

Run as `python -I -S launcher.py UID GID COMMAND...`: a process of its own, because a preexec function in a parent with
threads can deadlock. The files it makes belong to whoever started it.
"""

import os
import sys

FAILED = 126


def main(uid: str, gid: str, command: list[str]) -> None:
    outer_uid, outer_gid = os.getuid(), os.getgid()
    try:
        os.unshare(os.CLONE_NEWUSER)
        # user_namespaces(7): an unprivileged process may map its group only after it gave up setgroups
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {outer_uid} 1")
        _write("/proc/self/gid_map", f"{gid} {outer_gid} 1")
    except OSError as error:
        sys.exit(f"no user namespace: {error.strerror}")
    os.execv(command[0], command)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 - pathlib would double the start-up time
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
