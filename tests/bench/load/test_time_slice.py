"""The load generator asks the scheduler for short slices, and is granted them where the kernel knows such a wish."""

import ctypes
import platform
import struct
from pathlib import Path

import pytest
from warmfront.bench.load import time_slice
from warmfront.bench.load.load_process import LoadProcess, Order
from warmfront.bench.load.samples import Plan, Target

from tests.bench.http_server import Answer, serving

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}


def granted_ns(pid: int) -> int:
    """sched_getattr(2): 0 before Linux 6.12."""
    held = ctypes.create_string_buffer(struct.calcsize(time_slice._ATTRIBUTES))
    assert ctypes.CDLL(None).syscall(SCHED_GETATTR[platform.machine()], pid, held, len(held), 0) == 0
    runtime: int = struct.unpack(time_slice._ATTRIBUTES, held.raw)[5]
    return runtime


def test_the_load_generator_has_the_shortest_slices_there_are(tmp_path: Path) -> None:
    if granted_ns(0) == 0:
        pytest.skip("this kernel tells of no slices (Linux 6.12 does)")
    path = tmp_path / "w.toml"
    path.write_text('[[variant]]\nname = "v"\n[[request]]\npath = "/x"\n')
    with LoadProcess.start() as load, serving(lambda _: Answer()) as server:
        target, plan = Target("127.0.0.1", server.port), Plan(workers=1, requests=1)
        load.prepare(Order(file=str(path), workload="w", variant="v", target=target, plan=plan))  # it has begun
        assert granted_ns(load.pid) == time_slice.SHORTEST_NS < granted_ns(0)


def test_where_the_machine_is_unknown_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert time_slice.shorten_current_thread() is False
