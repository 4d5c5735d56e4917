"""Child processes: starting, waiting, stopping, and the message when one fails."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from warmfront.backing.errors import BackingError, PortTakenError
from warmfront.backing.process import Child

from .conftest import gone, identities

WITHIN_S = 10.0


@contextmanager
def child(tmp_path: Path, script: str, *, stdin: bytes = b"") -> Iterator[Child]:
    one = Child.start(
        "thing", ["/bin/sh", "-c", script], output=tmp_path / "out", env={"PATH": os.defpath}, stdin=stdin
    )
    yield one
    one.stop(grace_s=0)


def test_a_child_that_writes_a_lot_before_it_is_ready_is_never_blocked(tmp_path: Path) -> None:
    script = f"{sys.executable} -c 'print(\"x\" * 3_000_000)'; echo ready; exec sleep infinity"
    with child(tmp_path, script) as one:
        one.await_output(b"ready", timeout_s=WITHIN_S)
        assert len(one.output) > 3_000_000


def test_readiness_needs_no_inotify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoInstanceLeft:
        def inotify_init1(self, _flags: int) -> int:
            return -1

    monkeypatch.setattr("warmfront.backing.process.ctypes.CDLL", lambda _name: NoInstanceLeft())
    with child(tmp_path, "read line; echo $line; exec sleep infinity", stdin=b"ready\n") as one:
        one.await_output(b"ready", timeout_s=WITHIN_S)


def test_what_an_earlier_run_wrote_does_not_make_a_child_ready(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("ready\n")
    with child(tmp_path, "exec sleep infinity") as one, pytest.raises(BackingError, match=r"not ready within 0.1 s"):
        one.await_output(b"ready", timeout_s=0.1)


def test_a_child_that_ends_early_shows_the_end_of_its_output(tmp_path: Path) -> None:
    with child(tmp_path, "seq 100; echo 'no such thing'; exit 3") as one:
        with pytest.raises(BackingError) as caught:
            one.await_output(b"ready", timeout_s=WITHIN_S)
        message = str(caught.value)
        assert message.splitlines()[0] == f"thing ended before it was ready; the end of {tmp_path}/out:"
        assert message.splitlines()[-1] == "  no such thing"
        assert "  99" in message
        assert "  50" not in message


def test_a_taken_port_is_an_error_of_its_own(tmp_path: Path) -> None:
    with child(tmp_path, "echo 'bind: Address already in use'") as one, pytest.raises(PortTakenError):
        one.await_output(b"serving", timeout_s=WITHIN_S)


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackingError, match="thing cannot be started: /nonexistent: No such file"):
        Child.start("thing", ["/nonexistent"], output=tmp_path / "out", env={})


def test_a_job_returns_its_output_and_reads_its_input(tmp_path: Path) -> None:
    with child(tmp_path, "cat", stdin=b"secret") as one:
        assert one.result(timeout_s=WITHIN_S) == b"secret"


def test_a_job_that_fails_says_how(tmp_path: Path) -> None:
    with child(tmp_path, "echo broken; exit 4") as one, pytest.raises(BackingError, match=r"exit status 4;[^$]*broken"):
        one.result(timeout_s=WITHIN_S)


def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with child(tmp_path, "exec sleep infinity") as one:
        ids = identities(one.pid)
        with pytest.raises(BackingError, match=r"did not end within 0.1 s"):
            one.result(timeout_s=0.1)
        assert gone(ids, 0)


def test_stop_asks_politely_first(tmp_path: Path) -> None:
    with child(tmp_path, "trap 'echo bye; exit' INT; echo ready; while :; do sleep 0.1; done") as one:
        one.await_output(b"ready", timeout_s=WITHIN_S)
        one.stop(polite=signal.SIGINT, grace_s=WITHIN_S)
        assert b"bye" in one.output


def test_stop_kills_what_does_not_listen_and_what_left_its_group(tmp_path: Path) -> None:
    with child(tmp_path, "trap '' TERM; setsid sleep infinity & echo $! ready; while :; do sleep 1; done") as one:
        one.await_output(b"ready", timeout_s=WITHIN_S)
        ids = identities(one.pid, int(one.output.split()[0]))
        one.stop(grace_s=0.05)
        assert gone(ids, 0)


def test_stop_ends_what_a_polite_leader_leaves_in_its_group(tmp_path: Path) -> None:
    with child(tmp_path, "sleep infinity & echo $! ready; wait") as one:
        one.await_output(b"ready", timeout_s=WITHIN_S)
        ids = identities(int(one.output.split()[0]))
        one.stop(grace_s=WITHIN_S)
        assert gone(ids, 0)


def test_a_stopped_child_can_be_stopped_for_good(tmp_path: Path) -> None:
    with child(tmp_path, "trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.1; done") as one:
        one.await_output(b"ready", timeout_s=WITHIN_S)
        one.send(signal.SIGSTOP)
        one.stop(grace_s=WITHIN_S)
        assert b"bye" in one.output


def test_stopping_twice_does_nothing_more(tmp_path: Path) -> None:
    with child(tmp_path, "exec sleep infinity") as one:
        one.stop()
        one.stop()
        assert not one.running
