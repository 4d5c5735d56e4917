"""Which account a child process runs as, and the command line that starts it under that account."""

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

type RunAs = Literal["self", "namespace", "nobody"]

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True)
class Identity:
    """Turns a command into one that runs under this account."""

    kind: RunAs
    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None
    """Numeric user and group that must own the files it writes; None: those of the user who starts it."""
    enters_all: bool = True
    """It may enter every folder that its starter may enter."""

    def command(self, argv: list[str]) -> list[str]:
        return [*self.prefix, *argv]


SELF = Identity("self")


def in_namespace() -> Identity:
    """An ordinary account in a user namespace: files still belong to the starter, and nothing has to be copied."""
    account = _ordinary_account()
    starter = (os.geteuid(), os.getegid())
    return Identity("namespace", _launched("namespace", account.pw_uid, account.pw_gid), owner=starter)


def as_nobody(*, enters_all: bool) -> Identity:
    """The account `nobody`, for root only.

    `enters_all`: with the capability to enter and read every folder, so that programs and data may stay below root's
    private folders. Where root may not pass that capability on, the launcher exits with a message.
    """
    account = pwd.getpwnam("nobody")
    how = "nobody-enters-all" if enters_all else "nobody"
    prefix = _launched(how, account.pw_uid, account.pw_gid)
    return Identity("nobody", prefix, owner=(account.pw_uid, account.pw_gid), enters_all=enters_all)


def give_to(path: Path, identity: Identity) -> None:
    """Make `path` and all below it the identity's own, where it is not yet: root may have used another identity before."""
    if identity.owner is None or os.geteuid() != 0 or path.stat().st_uid == identity.owner[0]:
        return
    for each in (*path.rglob("*"), path):  # the folder last: it shows that all below it is done
        os.chown(each, *identity.owner, follow_symlinks=False)


def _launched(how: str, uid: int, gid: int) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(LAUNCHER), how, str(uid), str(gid))


def _ordinary_account() -> pwd.struct_passwd:
    # Servers look their uid up in the password database and refuse one without an entry.
    return min((each for each in pwd.getpwall() if each.pw_uid), key=lambda each: abs(each.pw_uid - 1000))
