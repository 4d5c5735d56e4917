"""The examples of docs/failure-lab.md, run as they are written: an experiment file that loads, and a fault that works."""

import asyncio
from pathlib import Path

import pytest
from warmfront.lab import tcp_faults
from warmfront.lab.engine import PROCEDURES
from warmfront.lab.experiments import load_suite

from tools.blocks import read_block

from .service import bench

PAGE = (Path(__file__).parents[2] / "docs/failure-lab.md").read_text(encoding="utf-8")


def test_the_experiment_loads(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(read_block(PAGE, "lab-experiment"))
    (experiment,) = load_suite(file).experiment
    assert experiment.procedure in PROCEDURES
    assert all(each.kind in tcp_faults.FAULT_KINDS for each in experiment.fault)


def test_the_fault_is_at_most_twenty_lines_and_drops_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tcp_faults.FAULT_KINDS, "nibble", tcp_faults.FAULT_KINDS["latency"])  # undone afterwards
    monkeypatch.setattr(tcp_faults, "nibble", None, raising=False)
    source = read_block(PAGE, "lab-fault")
    assert len(source.splitlines()) <= 20
    exec(compile(source, "failure-lab.md", "exec"), vars(tcp_faults))

    async def test() -> bytes:
        async with bench() as b:
            client = await b.connect()
            b.add("nibble", "downstream", odds=1)
            return await client.ask(b"hello")

    monkeypatch.setattr("tests.lab.service.PATIENCE_S", 0.5)
    with pytest.raises(TimeoutError):
        asyncio.run(test())
