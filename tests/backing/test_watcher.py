"""No registered process survives the parent, however the parent ends."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from warmfront.backing import reaper
from warmfront.backing.watcher import Watcher

from .conftest import gone, gone_or_killed, identities, python, sleeping_group

GONE_WITHIN_S = 2.0

# Prints every process that it must not leave behind, then waits to be killed. One backend is busy and one is idle. One
# registered group is stopped, and one of its processes has moved to a session of its own.
PARENT = """
import asyncio, json, os, signal, subprocess, sys, threading
import asyncpg
from warmfront.backing import reaper
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis
from warmfront.backing.watcher import get_watcher

environ = {"PATH": os.defpath, "XDG_CACHE_HOME": sys.argv[1]}
postgres, redis = Postgres.start(environ, origin="wheel"), Redis.start(environ, origin="wheel")
group = subprocess.Popen(["sh", "-c", "setsid sleep infinity & echo $!; exec sleep infinity"], start_new_session=True,
                         stdout=subprocess.PIPE)
runaway = int(group.stdout.readline())
get_watcher().register(group.pid)
os.kill(group.pid, signal.SIGSTOP)
directory = sys.argv[2]
get_watcher().remove_on_exit(directory)

async def main():
    idle, busy, look = [await asyncpg.connect(postgres.admin_url()) for _ in range(3)]
    spin = asyncio.create_task(busy.execute("DO $$ BEGIN LOOP END LOOP; END $$"))
    busy_pid = busy.get_server_pid()
    active = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'"
    while not await look.fetchval(active, busy_pid):
        pass
    root = reaper.process(os.getpid())
    family = reaper.family({postgres.pid, redis.pid, group.pid}, {(root.pid, root.started)})
    named = [postgres.pid, redis.pid, group.pid, runaway, busy_pid, idle.get_server_pid(), get_watcher().pid]
    print(json.dumps({"family": sorted(family), "named": named}), flush=True)
    await spin

asyncio.run(main())
"""


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    one = Watcher.start()
    yield one
    one.close()


def test_after_a_sigkill_of_the_parent_nothing_of_it_is_left(tmp_path: Path) -> None:
    directory = tmp_path / "registered"
    (directory / "inside").mkdir(parents=True)
    with python(PARENT, str(tmp_path / "cache"), str(directory)) as parent:
        try:
            assert parent.stdout is not None
            said = json.loads(parent.stdout.readline())
            family = {(pid, started) for pid, started in said["family"]}
            assert set(said["named"]) <= {pid for pid, _ in family}
            segments = {pid: _shared_memory(pid) for pid in said["named"]}
            assert any(segments.values())
        finally:
            parent.kill()
        assert gone_or_killed(family, GONE_WITHIN_S)
    assert not directory.exists()
    assert not [path for paths in segments.values() for path in paths if path.exists()]


def _shared_memory(pid: int) -> set[Path]:
    mapped = Path(f"/proc/{pid}/maps").read_text()
    return {Path(line.split()[-1]) for line in mapped.splitlines() if "/dev/shm/" in line}


def test_an_unregistered_group_is_left_alone(watcher: Watcher, sleeper: subprocess.Popen[bytes]) -> None:
    watcher.register(sleeper.pid)
    watcher.unregister(sleeper.pid)
    watcher.close()
    assert sleeper.poll() is None


def test_closing_ends_what_is_still_registered(watcher: Watcher, sleeper: subprocess.Popen[bytes]) -> None:
    watcher.register(sleeper.pid)
    watcher.close()
    assert sleeper.wait(GONE_WITHIN_S) == -signal.SIGKILL


def test_a_stopped_group_is_killed_all_the_same(watcher: Watcher, sleeper: subprocess.Popen[bytes]) -> None:
    os.kill(sleeper.pid, signal.SIGSTOP)
    watcher.register(sleeper.pid)
    watcher.close()
    assert sleeper.wait(GONE_WITHIN_S) == -signal.SIGKILL


def test_the_first_signal_lets_a_group_tidy_up(watcher: Watcher, tmp_path: Path) -> None:
    script = f"trap 'echo tidy > {tmp_path}/note; exit 7' QUIT; echo ready; while :; do sleep 1; done"
    with subprocess.Popen(["sh", "-c", script], process_group=0, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        watcher.register(child.pid, first_signal=signal.SIGQUIT)
        watcher.close()
        assert child.wait(GONE_WITHIN_S) == 7
    assert (tmp_path / "note").read_text() == "tidy\n"


def test_a_group_that_ignores_its_first_signal_is_killed_with_its_descendants(watcher: Watcher) -> None:
    script = "trap '' QUIT; setsid sleep infinity & echo $!; while :; do sleep 1; done"
    with subprocess.Popen(["sh", "-c", script], process_group=0, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        family = identities(child.pid, int(child.stdout.readline()))
        watcher.register(child.pid, first_signal=signal.SIGQUIT)
        watcher.close()
        assert gone_or_killed(family, GONE_WITHIN_S)


def test_what_a_polite_leader_leaves_behind_is_killed(watcher: Watcher) -> None:
    script = "trap 'exit 0' QUIT; setsid sleep infinity & echo $!; while :; do sleep 1; done"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        family = identities(child.pid, int(child.stdout.readline()))
        watcher.register(child.pid, first_signal=signal.SIGQUIT)
        watcher.close()
        assert gone_or_killed(family, GONE_WITHIN_S)


def test_an_orphan_that_made_itself_a_group_is_found_by_its_session(watcher: Watcher) -> None:
    script = """
import os, signal
if os.fork() == 0:
    if os.fork() == 0:
        os.setpgid(0, 0)
        print(os.getpid(), flush=True)
        signal.pause()
    os._exit(0)
os.wait()
signal.pause()
"""
    with python(script, start_new_session=True) as leader:
        assert leader.stdout is not None
        family = identities(leader.pid, int(leader.stdout.readline()))
        watcher.register(leader.pid)
        watcher.close()
        assert gone_or_killed(family, GONE_WITHIN_S)


def test_the_watcher_has_its_own_session_and_outlives_polite_signals(
    watcher: Watcher, sleeper: subprocess.Popen[bytes]
) -> None:
    assert watcher.pid is not None
    assert os.getsid(watcher.pid) == watcher.pid
    watcher.register(sleeper.pid)
    _until_it_ignores(watcher.pid, signal.SIGHUP)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(watcher.pid, number)
    watcher.close()
    assert sleeper.wait(GONE_WITHIN_S) == -signal.SIGKILL


def _until_it_ignores(pid: int, number: int) -> None:
    """SIGHUP is the last one it sets; reading /proc in a loop is bounded by the watcher's start."""
    for _ in range(100_000):
        line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn"))
        if int(line.split()[1], 16) & 1 << (number - 1):
            return
    pytest.fail("the watcher did not start")


def test_a_killed_watcher_is_replaced_and_its_charges_with_it(
    watcher: Watcher, sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    watcher.register(sleeper.pid)
    first = watcher.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert gone(identities(first), GONE_WITHIN_S)
    watcher.remove_on_exit(tmp_path / "any")
    assert watcher.pid != first
    watcher.close()
    assert sleeper.wait(GONE_WITHIN_S) == -signal.SIGKILL


def test_a_closed_watcher_refuses_to_register(watcher: Watcher) -> None:
    watcher.close()
    with pytest.raises(RuntimeError, match="the watcher is closed"):
        watcher.register(os.getpid())


def test_directories_are_removed_unless_kept(watcher: Watcher, tmp_path: Path) -> None:
    for name in ("removed", "kept"):
        (tmp_path / name / "deep").mkdir(parents=True)
        watcher.remove_on_exit(tmp_path / name)
    watcher.keep_on_exit(tmp_path / "kept")
    watcher.close()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("path", ["relative", "/two\nlines"])
def test_a_path_that_could_be_misread_is_refused(watcher: Watcher, path: str) -> None:
    with pytest.raises(ValueError, match="not an absolute path on one line"):
        watcher.remove_on_exit(path)


def test_a_recycled_group_id_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    registrations = reaper.Registrations()
    registrations.feed(f"+{sleeper.pid}\n".encode())
    assert registrations.living_groups() == {sleeper.pid: 0}
    started, first_signal = registrations.groups[sleeper.pid]
    assert started is not None
    registrations.groups[sleeper.pid] = (started - 1, first_signal)
    assert registrations.living_groups() == {}


def test_orders_may_arrive_in_pieces() -> None:
    registrations = reaper.Registrations()
    for piece in (b"+4194", b"303 3\nd/one\nd/tw", b"o\nk/one\n-"):
        registrations.feed(piece)
    assert registrations.groups == {4194303: (None, 3)}
    assert registrations.directories == {"/two"}


def test_a_fork_of_the_parent_does_not_keep_the_watcher_waiting() -> None:
    script = """
import os, subprocess
from warmfront.backing.watcher import get_watcher
child = subprocess.Popen(["sleep", "infinity"], process_group=0, stdout=subprocess.DEVNULL)
get_watcher().register(child.pid)
fork = os.fork()
if fork == 0:
    held_open = os.pipe()
    os.read(held_open[0], 1)  # waits for ever, and nothing it inherited is closed by an exec
print(child.pid, fork, flush=True)
os.kill(os.getpid(), 9)
"""
    with python(script) as parent:
        assert parent.stdout is not None
        child, fork = map(int, parent.stdout.readline().split())
        try:
            assert gone_or_killed({(child, _started(child))}, GONE_WITHIN_S)
        finally:
            os.kill(fork, signal.SIGKILL)


def _started(pid: int) -> int:
    found = reaper.process(pid)
    return found.started if found else 0


def test_the_process_has_one_watcher_until_it_is_reset(sleeper: subprocess.Popen[bytes]) -> None:
    script = """
import sys
from warmfront.backing.watcher import get_watcher, reset_watcher
one = get_watcher()
one.register(int(sys.argv[1]))
assert get_watcher() is one
reset_watcher()
assert get_watcher() is not one
one.unregister(int(sys.argv[1]))
print("done", flush=True)
"""
    with python(script, str(sleeper.pid)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
    assert sleeper.wait(GONE_WITHIN_S) == -signal.SIGKILL


def test_the_watcher_is_small(watcher: Watcher) -> None:
    watcher.register(4194303)
    rollup = Path(f"/proc/{watcher.pid}/smaps_rollup").read_text()
    pss_kb = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    assert pss_kb < 12_000


def test_a_hundred_groups_end_in_one_go(watcher: Watcher) -> None:
    groups = [sleeping_group() for _ in range(100)]
    for group in groups:
        watcher.register(group.pid)
    watcher.close()
    for group in groups:
        assert group.wait(GONE_WITHIN_S) == -signal.SIGKILL
