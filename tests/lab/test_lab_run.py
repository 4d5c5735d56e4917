"""One experiment from the command line, with everything that stands around it: servers, proxies, emulator, the shop."""

import argparse
import json
from pathlib import Path

import pytest

from local.lab import command
from local.lab.experiments import load_suite
from local.results import read_result

ROOT = Path(__file__).parents[2]


def lab(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


@pytest.mark.slow
def test_an_experiment_fails_its_control_passes_the_kit_and_leaves_a_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "lab.json"
    template = str(ROOT / "template.yaml")
    status = lab(
        "run", "mistyped-setting", "--variant", "pooled", "--in-turn", "--template", template, "--output", str(output)
    )
    out, err = capfd.readouterr()
    assert status == 0, err
    assert "D3 mistyped-setting" in out
    (found,) = read_result(output).experiments
    assert (found.control.name, found.control.verdict) == ("naive", "fail")
    assert [(each.variant, each.verdict) for each in found.variants] == [("pooled", "pass")]
    assert json.loads(output.read_text())["kind"] == "lab"
    assert "where: shared/settings.py" in err
    assert not list(ROOT.glob(".*-lab-*.yaml"))


@pytest.mark.slow
def test_the_doctor_finds_every_mistake_and_the_defaults(capfd: pytest.CaptureFixture[str]) -> None:
    assert lab("run", "doctor", "--variant", "pooled", "--in-turn", "--template", str(ROOT / "template.yaml")) == 0
    out, _ = capfd.readouterr()
    assert "library defaults:       findings" in out
    assert "pooled:                 findings 0 (at most 0)" in out


@pytest.mark.stress
def test_every_control_fails_and_the_kit_holds_everywhere(tmp_path: Path) -> None:
    output = tmp_path / "lab.json"
    status = lab("run", "--all", "--template", str(ROOT / "template.yaml"), "--output", str(output))
    found = read_result(output).experiments
    assert len(found) >= 30
    assert [each.name for each in found if each.control.verdict != "fail"] == []
    bad = [
        (each.name, one.variant, one.figure)
        for each in found
        for one in each.variants
        if one.variant != "naive" and one.verdict not in ("pass", "n/a")
    ]
    assert bad == []
    assert status == 0
    assert not list(ROOT.glob(".*-lab-*.yaml"))


@pytest.mark.stress
@pytest.mark.parametrize("name", ["slow-database", "cache-black-hole", "disk-full"])
def test_one_seed_gives_one_verdict_five_times_of_five(name: str, tmp_path: Path) -> None:
    seen = set()
    for number in range(5):
        output = tmp_path / f"{number}.json"
        lab("run", name, "--seed", "7", "--template", str(ROOT / "template.yaml"), "--output", str(output))
        (found,) = read_result(output).experiments
        seen.add((found.control.verdict, *((each.variant, each.verdict) for each in found.variants)))
    assert len(seen) == 1, seen


@pytest.mark.slow
def test_a_template_that_cannot_be_used_is_an_error_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "template.yaml"
    template.write_text("Resources: {A: {Type: AWS::Serverless::Function, Properties: {Runtime: nothing}}}\n")
    assert lab("run", "D3", "--in-turn", "--template", str(template)) == 2
    assert "has none of the functions these experiments are for: Naive, Pooled" in capsys.readouterr().err
    assert lab("run", "D3", "--in-turn", "--template", str(tmp_path / "absent.yaml")) == 2
    assert "ended before it was ready" in capsys.readouterr().err


def test_the_list_names_every_experiment_and_what_it_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab("list") == 0
    out = capsys.readouterr().out
    assert "B1  slow-database" in out
    assert "latency on postgres" in out
    assert out.count("about") == len(load_suite().experiment)
    assert float(out.splitlines()[-1].split()[-2]) < 15  # minutes


def test_the_faults_are_listed_with_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab("list", "--faults") == 0
    out = capsys.readouterr().out
    assert "latency               every chunk comes delay_s late (delay_s = 0.1)" in out
    assert "connection_limit" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "or give --all"),
        (["run", "B1", "--all"], "or give --all"),
        (["run", "nothing"], "no experiment 'nothing'"),
        (["run", "B1", "--variant", "x"], "no variant 'x'"),
        (["list", "--experiments", "absent.toml"], "absent.toml cannot be read"),
    ],
)
def test_a_mistake_is_named_before_anything_is_started(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lab(*arguments) == 2
    assert says in capsys.readouterr().err
