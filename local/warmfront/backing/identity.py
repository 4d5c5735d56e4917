"""Who a child process runs as. Knows how an account is taken on, not which program needs that."""

import pwd
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

type RunAs = Literal["self", "namespace", "nobody"]

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True)
class Identity:
    """Turns a command into one that runs under this identity."""

    kind: RunAs
    prefix: tuple[str, ...] = ()
    popen: dict[str, Any] = field(default_factory=dict)
    owner: tuple[int, int] | None = None  # who has to own the files it writes; None: whoever starts it

    def command(self, argv: list[str]) -> list[str]:
        return [*self.prefix, *argv]


SELF = Identity("self")


def in_namespace() -> Identity:
    """An ordinary account in a user namespace; files stay the starter's own, nothing is moved or opened up."""
    account = _ordinary_account()
    prefix = (sys.executable, "-I", "-S", str(LAUNCHER), str(account.pw_uid), str(account.pw_gid))
    return Identity("namespace", prefix=prefix)


def as_nobody() -> Identity:
    account = pwd.getpwnam("nobody")
    popen = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return Identity("nobody", popen=popen, owner=(account.pw_uid, account.pw_gid))


def _ordinary_account() -> pwd.struct_passwd:
    # Servers look their own uid up in the password database: an id without an entry is refused.
    return min((each for each in pwd.getpwall() if each.pw_uid), key=lambda each: abs(each.pw_uid - 1000))
