"""What the README shows of the lab is run as it stands there: an experiment that can be read, a fault that can be put on."""

import asyncio
import re
from pathlib import Path

import pytest
from warmfront.lab import tcp_faults
from warmfront.lab.engine import PROCEDURES
from warmfront.lab.experiments import load_suite

from .service import bench

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no block {name}"
    return found[1]


def test_the_experiment_is_one(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(block("lab-experiment"))
    (experiment,) = load_suite(file).experiment
    assert experiment.procedure in PROCEDURES
    assert all(each.kind in tcp_faults.FAULT_KINDS for each in experiment.fault)


def test_the_fault_is_twenty_lines_and_does_what_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tcp_faults.FAULT_KINDS, "nibble", tcp_faults.FAULT_KINDS["latency"])  # is gone afterwards
    monkeypatch.setattr(tcp_faults, "nibble", None, raising=False)
    source = block("lab-fault")
    assert len(source.splitlines()) <= 20
    exec(compile(source, "README.md", "exec"), vars(tcp_faults))

    async def test() -> bytes:
        async with bench() as b:
            client = await b.connect()
            b.add("nibble", "downstream", odds=1)
            return await client.ask(b"hello")

    monkeypatch.setattr("tests.lab.service.PATIENCE_S", 0.5)
    with pytest.raises(TimeoutError):
        asyncio.run(test())
