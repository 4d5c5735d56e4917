"""Fixtures of the backing tests: an environment without servers, and ways to wait for processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from warmfront.backing import reaper
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis
from warmfront.backing.watcher import reset_watcher


@pytest.fixture(scope="session")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Environment variables without DATABASE_URL, HOME or servers on PATH, and with an empty cache."""
    return {"PATH": "/nonexistent", "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="session")
def postgres(environ: Mapping[str, str]) -> Iterator[Postgres]:
    with Postgres.start(environ, origin="wheel") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(environ: Mapping[str, str]) -> Iterator[Redis]:
    with Redis.start(environ, origin="wheel") as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    yield
    reset_watcher()
    left = reaper.family(set(), {_identity(os.getpid())}) - {_identity(os.getpid())}
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid, _ in left]
    assert not commands


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process group with a single process that never ends by itself."""
    with sleeping_group() as process:
        yield process
        process.kill()


def sleeping_group() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "infinity"], process_group=0)


def python(script: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


def gone(identities: set[reaper.Identity], within_s: float) -> bool:
    return reaper.wait_until_gone(identities, within_s)


def gone_or_killed(identities: set[reaper.Identity], within_s: float) -> bool:
    """Wait for the processes to end, and kill them if they do not, so that a failed test leaves none behind."""
    if gone(identities, within_s):
        return True
    for pid, started in identities:
        if (found := reaper.process(pid)) and found.started == started:
            os.kill(pid, signal.SIGKILL)
    return False


def identities(*pids: int) -> set[reaper.Identity]:
    return {_identity(pid) for pid in pids}


def _identity(pid: int) -> reaper.Identity:
    found = reaper.process(pid)
    assert found is not None, f"process {pid} is not there"
    return found.pid, found.started


def fake_program(path: Path, says: str, *, status: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path
