"""Kills process groups with all their descendants. Run as a script, it is the watcher process, and does so when its stdin closes.

The watcher is started with `python -I -S`, so this module imports very little.
"""

import os
import select
import signal
import time

POLITE_S = 0.7  # between a first signal and SIGKILL; everything must be gone two seconds after the parent
GONE_S = 1.0

# Process id and start time. The kernel reuses an id, but not together with its start time.
type Identity = tuple[int, int]


class Process:
    """One line of /proc: parent, group and session are ids, started is in clock ticks since boot."""

    __slots__ = ("group", "parent", "pid", "session", "started")

    def __init__(self, pid: int, stat: bytes) -> None:
        fields = stat.rpartition(b")")[2].split()  # the command name before it may contain anything
        self.pid = pid
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.started = int(fields[19])


def process(pid: int) -> Process | None:
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return Process(pid, os.read(fd, 4096))
    except OSError:  # ended in the meantime
        return None
    finally:
        os.close(fd)


def processes() -> dict[int, Process]:
    found = (process(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208
    return {each.pid: each for each in found if each is not None}


def family(groups: set[int], kept: set[Identity]) -> set[Identity]:
    """Return the members of the groups, those of the sessions with the same ids, the living ones of `kept`, and their descendants."""
    table = processes()
    children: dict[int, list[Process]] = {}
    for each in table.values():
        children.setdefault(each.parent, []).append(each)
    todo = [
        each
        for each in table.values()
        if each.group in groups or each.session in groups or (each.pid, each.started) in kept
    ]
    found: set[Identity] = set()
    while todo:
        each = todo.pop()
        if (each.pid, each.started) not in found:
            found.add((each.pid, each.started))
            todo += children.get(each.pid, [])
    return found


def end(groups: dict[int, int], *, polite_s: float = POLITE_S, gone_s: float = GONE_S) -> bool:
    """Kill every group and its descendants, and return whether all of them are gone.

    A group with a first signal gets it and then has `polite_s` to end by itself, in which Postgres removes its shared
    memory. Then everything is stopped, so that no process can escape by forking, and killed.

    Args:
        groups: group id -> first signal; 0 for none.
        polite_s: seconds between the first signal and SIGKILL.
        gone_s: seconds to wait for the killed processes to disappear.
    """
    polite = {group: number for group, number in groups.items() if number}
    remembered = family(set(polite), set())  # now, because an orphan cannot be traced to its group
    for group, number in polite.items():
        _send_to_group(group, number)
    killed = _kill(set(groups) - set(polite), set())
    wait_until_gone(remembered, polite_s)
    killed |= _kill(set(polite), remembered)
    return wait_until_gone(killed, gone_s)


def wait_until_gone(identities: set[Identity], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    return all(_wait_for_exit(identity, deadline) for identity in identities)


def _kill(groups: set[int], kept: set[Identity]) -> set[Identity]:
    held: set[Identity] = set()
    while fresh := {each for each in family(groups, kept | held) - held if each[0] != os.getpid()}:
        for pid, _ in fresh:
            _send(pid, signal.SIGSTOP)
        held |= fresh
    for pid, _ in held:
        _send(pid, signal.SIGKILL)
    return held


def _wait_for_exit(identity: Identity, deadline: float) -> bool:
    pid, started = identity
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        now = process(pid)
        if now is None or now.started != started:
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
    finally:
        os.close(fd)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:  # already gone
        return


def _send_to_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except OSError:
        return


class Registrations:
    """The groups to kill and the folders to remove at the end, built from the lines that the parent writes."""

    def __init__(self) -> None:
        # group id -> (start time of its leader, first signal). If the leader's start time is another one at the end, the
        # group had ended without being unregistered, and its id belongs to another process now.
        self.groups: dict[int, tuple[int | None, int]] = {}
        self.directories: set[str] = set()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._obey(line[:1], os.fsdecode(line[1:]))

    def _obey(self, order: bytes, rest: str) -> None:
        if order == b"+":
            group, _, first_signal = rest.partition(" ")
            leader = process(int(group))
            self.groups[int(group)] = (leader.started if leader else None, int(first_signal or 0))
        elif order == b"-":
            self.groups.pop(int(rest), None)
        elif order == b"d":
            self.directories.add(rest)
        elif order == b"k":
            self.directories.discard(rest)

    def living_groups(self) -> dict[int, int]:
        living = {}
        for group, (started, first_signal) in self.groups.items():
            leader = process(group)
            if leader is None or leader.started == started:
                living[group] = first_signal
        return living


def main() -> None:
    # Only the parent's end stops the watcher, not a Ctrl-C that is meant for the parent or the SIGTERM of a shutdown.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    registrations = Registrations()
    while data := os.read(0, 65_536):
        registrations.feed(data)
    end(registrations.living_groups())
    if registrations.directories:
        import shutil  # imported late: a waiting watcher should use little memory

        for directory in registrations.directories:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
