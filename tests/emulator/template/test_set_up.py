"""The set-up invocations that the shop's template names (`Metadata: Warmfront: SetUp:`) name functions that run locally."""

from pathlib import Path
from typing import Any

from warmfront.emulator.template import load_template, read_samconfig
from warmfront.emulator.template.source import read

ROOT = Path(__file__).parents[3]


def set_up() -> list[dict[str, Any]]:
    root, _ = read(ROOT / "template.yaml")
    found: list[dict[str, Any]] = root["Metadata"]["Warmfront"]["SetUp"]
    return found


def test_each_set_up_invocation_names_a_function_that_runs_locally() -> None:
    template = load_template(ROOT / "template.yaml", parameters=read_samconfig(ROOT).parameter_overrides("global"))
    assert set_up()
    for entry in set_up():
        assert entry.keys() == {"Function", "Event"}
        assert template.functions[entry["Function"]].not_runnable is None
