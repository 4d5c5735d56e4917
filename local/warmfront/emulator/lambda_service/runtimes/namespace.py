"""Gives a process the folders of Lambda: its code read-only at /var/task, layers at /opt, a /tmp of its own.

Loaded from its file inside environments, so it imports nothing of the emulator's, and no ctypes: that would be an import of the
handler's cold start. Run as a program it is one of

- `make STATE RUNTIME [NAME=FOLDER ...]`: builds the root that all environments share and waits until standard input closes, so that the
  emulator can open its namespaces; the folders stay writable as /.warmfront/NAME;
- `enter COMMAND...`: enters, then executes a command; for runtimes that are not our Python.

The machine's own root is under HOST, read-only. An ordinary user needs a user namespace for the mounts (user_namespaces(7)).
"""

import os
import sys

HOST = "/.warmfront/host"
OWN = "/.warmfront"
TASK, LAYERS, RUNTIME, TMP = "/var/task", "/opt", "/var/runtime", "/tmp"
VARIABLE = "WARMFRONT_NAMESPACE"

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
"""mount_setattr(2), since Linux 5.12; its number is the same on every architecture."""
CAPABILITY_VERSION_3 = 0x20080522
ALL_CAPABILITIES = b"\xff" * 4


def call(function: str, *arguments: object) -> None:
    """A function of libc that answers 0. Raises OSError; why it failed is not known here, so its name has to do."""
    import _ctypes

    address = _ctypes.dlsym(_ctypes.dlopen(None, os.RTLD_NOW), function)  # type: ignore[arg-type]
    if _ctypes.call_function(address, arguments) != 0:
        said = " ".join(each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in arguments)
        raise OSError(f"{function} {said} failed")


def mount(source: str, target: str, flags: int, kind: str = "none", data: str = "") -> None:
    call("mount", source.encode(), target.encode(), kind.encode(), flags, data.encode() or None)


def read_only(path: str, *, recursive: bool = False) -> None:
    """Only this flag is set: others may be locked by the machine's own mounts."""
    attributes = MOUNT_ATTR_RDONLY.to_bytes(8, sys.byteorder) + bytes(24)
    flags = AT_RECURSIVE if recursive else 0
    call("syscall", MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, attributes, len(attributes))


# -- inside an environment ---------------------------------------------------------------------------------------------


def enter(text: str) -> None:
    """Enter the environment's namespaces and mount its folders.

    `text`: seven lines: descriptors of user and mount namespace (-1: none), whether the mounts are there already, megabytes of /tmp,
    whether capabilities are kept for forks, the code's folder, the layers' folder (may be empty).
    """
    user_fd, mount_fd, made, tmp_mb, keep, task, layers = text.split("\n")
    if int(user_fd) >= 0:
        call("setns", int(user_fd), CLONE_NEWUSER)
        os.close(int(user_fd))
    call("setns", int(mount_fd), CLONE_NEWNS)
    os.close(int(mount_fd))
    if made != "1":
        call("unshare", CLONE_NEWNS)
        mount(HOST + task, TASK, MS_BIND | MS_REC)
        if layers:
            mount(HOST + layers, LAYERS, MS_BIND | MS_REC)
        mount_tmp(tmp_mb)
    if int(user_fd) >= 0:
        lower_capabilities(keep=keep == "1")
    os.chdir(TASK)


def mount_tmp(megabytes: str) -> None:
    mount("tmpfs", TMP, MS_NOSUID | MS_NODEV, "tmpfs", f"size={megabytes}m,mode=0700")


def lower_capabilities(*, keep: bool) -> None:
    """Handlers have no capabilities in the user namespace; `keep`: they can be raised again, for the mounts of a fork."""
    permitted = ALL_CAPABILITIES if keep else bytes(4)
    _set_capabilities(bytes(4), permitted)


def raise_capabilities() -> None:
    _set_capabilities(ALL_CAPABILITIES, ALL_CAPABILITIES)


def _set_capabilities(effective: bytes, permitted: bytes) -> None:
    """capset(2); bits of capabilities that the kernel does not know are dropped by it."""
    header = CAPABILITY_VERSION_3.to_bytes(4, sys.byteorder) + bytes(4)
    call("capset", header, (effective + permitted + bytes(4)) * 2)


def enter_fork(text: str, mount_fd: int) -> None:
    """In a fork of a snapshot: a /tmp of its own with what init left in the first one, or the mounts of an earlier fork.

    `text`: three lines: whether there are mounts to join, megabytes of /tmp, whether there is a user namespace; `mount_fd`: those mounts.
    """
    made, tmp_mb, user = text.split("\n")
    if user == "1":
        raise_capabilities()
    if made == "1":
        call("setns", mount_fd, CLONE_NEWNS)
        os.close(mount_fd)
    else:
        call("unshare", CLONE_NEWNS)
        before = os.open(TMP, os.O_RDONLY | os.O_DIRECTORY)
        left = os.listdir(before)
        mount_tmp(tmp_mb)
        if left:
            import shutil

            shutil.copytree(f"/proc/self/fd/{before}", TMP, symlinks=True, dirs_exist_ok=True)
        os.close(before)
    if user == "1":
        lower_capabilities(keep=False)
    os.chdir(TASK)


# -- as a program ------------------------------------------------------------------------------------------------------


def make(state: str, runtime: str, writable: list[str]) -> None:
    """Build the root that environments share, and wait until standard input closes."""
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid != 0:
            raise OSError("an ordinary user")
        call("unshare", CLONE_NEWNS)
    except OSError:
        call("unshare", CLONE_NEWNS | CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    mount("none", "/", MS_REC | MS_PRIVATE)
    root = f"{state}/root"
    os.makedirs(root, exist_ok=True)
    mount("tmpfs", root, MS_NOSUID | MS_NODEV, "tmpfs", "size=1m,mode=0755")
    host = root + HOST
    os.makedirs(host)
    mount("/", host, MS_BIND | MS_REC)
    read_only(host, recursive=True)
    _bind_entries("/", root, but={TMP[1:], LAYERS[1:], "var", OWN[1:]})
    for folder in (TASK, RUNTIME, LAYERS, TMP):
        os.makedirs(root + folder)
    _bind_entries("/var/", f"{root}/var", but={"task", "runtime"})
    mount(host + runtime, root + RUNTIME, MS_BIND | MS_REC)
    for each in writable:
        name, _, folder = each.partition("=")
        os.mkdir(f"{root}{OWN}/{name}")
        mount(folder, f"{root}{OWN}/{name}", MS_BIND | MS_REC)
    os.chdir(root)
    call("pivot_root", b".", b".")
    call("umount2", b".", MNT_DETACH)
    read_only("/")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


def _bind_entries(source: str, target: str, *, but: set[str]) -> None:
    """Everything that the folder `source` holds, seen below `target` as well, as writable as it is."""
    for name in os.listdir(source):
        path = f"{source}{name}"
        if name in but:
            continue
        if os.path.islink(path):
            os.symlink(os.readlink(path), f"{target}/{name}")
        elif os.path.isdir(path):
            os.mkdir(f"{target}/{name}")
            try:
                mount(path, f"{target}/{name}", MS_BIND | MS_REC)
            except OSError:  # not ours to see
                os.rmdir(f"{target}/{name}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    try:
        if sys.argv[1] == "make":
            make(sys.argv[2], sys.argv[3], sys.argv[4:])
        else:
            enter(os.environ.pop(VARIABLE).partition("\n")[2])
            os.execv(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(str(error))
