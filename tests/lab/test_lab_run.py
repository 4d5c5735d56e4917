"""Experiments from the command line, with their servers, proxies, emulator and the shop."""

import argparse
import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warmfront.cli import lab
from warmfront.lab.emulator_process import EmulatorSettings
from warmfront.lab.experiments import OURS, load_suite
from warmfront.lab.process_faults import process_tree
from warmfront.lab.stage import Stage
from warmfront.results import read_result

ROOT = Path(__file__).parents[2]
CHOSEN = os.environ.get("LAB_EXPERIMENTS", "").split()
"""Experiments to run in the stress tests, by id or name, instead of all or of a few."""
PATIENCE_S = 30.0  # ends a test that hangs


def run_lab(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    lab.add_arguments(parser)
    return lab.run(parser.parse_args(arguments))


@pytest.mark.slow
def test_an_experiment_fails_its_control_passes_the_kit_and_leaves_a_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "lab.json"
    template = str(ROOT / "template.yaml")
    status = run_lab(
        "run", "mistyped-setting", "--variant", "pooled", "--in-turn", "--template", template, "--output", str(output)
    )
    out, err = capfd.readouterr()
    assert status == 0, err
    assert "D3 mistyped-setting" in out
    (found,) = read_result(output).experiments
    assert (found.control.name, found.control.verdict) == ("naive", "fail")
    assert [(each.variant, each.verdict) for each in found.variants] == [("pooled", "pass")]
    assert json.loads(output.read_text())["kind"] == "lab"
    assert "where: shared/shop/settings.py" in err
    assert not list(ROOT.glob(f".*-lab-{os.getpid()}-*.yaml"))


@pytest.mark.slow
def test_what_is_broken_are_the_servers_of_the_stage_whatever_the_shell_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WARMFRONT_BACKING", "wheel")

    async def backing() -> dict[str, dict[str, object]]:
        async with Stage() as stage:
            emulator = await stage.emulator(EmulatorSettings(ROOT / "template.yaml"))
            found: dict[str, dict[str, object]] = (await emulator.state())["backing"]
            return found

    assert {name: server["origin"] for name, server in asyncio.run(backing()).items()} == {
        "postgres": "url",
        "redis": "url",
    }


@pytest.mark.slow
def test_the_doctor_finds_every_mistake_and_the_defaults(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_lab("run", "doctor", "--variant", "pooled", "--in-turn", "--template", str(ROOT / "template.yaml")) == 0
    out, _ = capfd.readouterr()
    assert "library defaults:       findings" in out
    assert "pooled:                 findings 0 (at most 0)" in out


@pytest.mark.stress
def test_every_control_fails_and_the_kit_holds_everywhere(tmp_path: Path) -> None:
    output = tmp_path / "lab.json"
    status = run_lab("run", *(CHOSEN or ["--all"]), "--template", str(ROOT / "template.yaml"), "--output", str(output))
    found = read_result(output).experiments
    assert len(found) == (len(CHOSEN) or len(load_suite().experiment))
    assert [each.name for each in found if each.control.verdict != "fail"] == []
    bad = [
        (each.name, one.variant, one.figure)
        for each in found
        for one in each.variants
        if one.variant != "naive" and one.verdict not in ("pass", "n/a")
    ]
    assert bad == []
    assert status == 0
    assert not list(ROOT.glob(f".*-lab-{os.getpid()}-*.yaml"))


@pytest.mark.stress
@pytest.mark.parametrize("name", CHOSEN or ["slow-database", "disk-full", "cache-garbage"])
def test_one_seed_gives_one_verdict_five_times_of_five(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, template = tmp_path / "lab.json", str(ROOT / "template.yaml")
    status = run_lab("run", name, "--seed", "7", "--repeat", "5", "--template", template, "--output", str(output))
    with capfd.disabled():
        print(capfd.readouterr().out)
    ((_, runs),) = json.loads(output.read_text())["settings"]["verdicts"].items()
    assert len(runs) == 5
    assert len({json.dumps(verdicts, sort_keys=True) for verdicts in runs}) == 1, runs
    assert status == 0


@pytest.mark.stress
def test_ten_thousand_orders_under_kills_are_found_corrupt_under_naive_and_whole_under_the_kit(tmp_path: Path) -> None:
    output = tmp_path / "lab.json"
    status = run_lab("run", "order-under-kill", "--template", str(ROOT / "template.yaml"), "--output", str(output))
    measures = json.loads(output.read_text())["settings"]["experiments"]["C1"]["measures"]
    for kind in ("lost", "duplicated", "negative"):
        assert measures["naive"][kind] > 0, measures["naive"]
        assert [measures[variant][kind] for variant in ("pooled", "distributed")] == [0, 0]
    assert all(measures[variant]["operations"] >= 10_000 for variant in ("pooled", "distributed"))
    assert all(found["kills"] > 0 for found in measures.values())
    assert status == 0


QUICK = """
workloads = "{workloads}"
setup_function = "Migrate"
setup_event = {{ action = "seed", products = 2000, orders = 10 }}

[[variant]]
name = "pooled"
function = "Pooled"
prefix = "/pooled"
database = "pooled"

[[experiment]]
id = "X1"
name = "long-fault"
family = "cascade"
hypothesis = "It is ended before it is over."
variants = ["pooled"]
load = {{ workload = "product", rate = 5, warm_environments = 1 }}
phases = {{ before_s = 0.3, during_s = 60, after_s = 1 }}
fault = [{{ kind = "black_hole", on = "postgres" }}]
control = {{ name = "pooled", variant = "pooled" }}
criterion = [{{ measure = "failed", at_most = 0 }}]
lessons = {{ broke = "a", held = "b", file = "c" }}
"""


def lab_process(suite: Path) -> subprocess.Popen[str]:
    suite.write_text(QUICK.format(workloads=OURS.with_name("workloads.toml")))
    lab = [sys.executable, "-m", "warmfront", "lab", "run", "X1", "--in-turn", "--experiments", str(suite)]
    return subprocess.Popen(
        [*lab, "--template", str(ROOT / "template.yaml")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(suite.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def await_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return
    raise AssertionError(said)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_nothing_is_left_of_a_lab_that_is_ended(number: signal.Signals, tmp_path: Path) -> None:
    """End a lab and look for servers, proxies, load generators, emulators, environments, folders and template copies."""
    process = lab_process(tmp_path / "lab.toml")
    await_line(process, "fault on")
    started = [pidfd for pid in process_tree(process.pid)[1:] if (pidfd := pidfd_of(pid)) >= 0]
    assert len(started) >= 7  # and the watcher
    assert list(tmp_path.glob("warmfront-lab-*"))
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == (143 if number == signal.SIGTERM else -number)
    deadline_s = time.monotonic() + PATIENCE_S
    for pidfd in started:
        assert select.select([pidfd], [], [], max(0.0, deadline_s - time.monotonic()))[0], "one of them lives on"
        os.close(pidfd)
    assert process.stderr is not None
    process.stderr.close()
    assert not list(ROOT.glob(f".*-lab-{process.pid}-*.yaml"))
    assert [path.name for path in tmp_path.iterdir()] == ["lab.toml"]


def pidfd_of(pid: int) -> int:
    """Return a descriptor of the process; -1: it has already ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


@pytest.mark.slow
def test_a_template_that_cannot_be_used_is_an_error_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "template.yaml"
    template.write_text("Resources: {A: {Type: AWS::Serverless::Function, Properties: {Runtime: nothing}}}\n")
    assert run_lab("run", "D3", "--in-turn", "--template", str(template)) == 2
    assert "has none of the functions these experiments are for: Naive, Pooled" in capsys.readouterr().err
    assert run_lab("run", "D3", "--in-turn", "--template", str(tmp_path / "absent.yaml")) == 2
    assert "ended before it was ready" in capsys.readouterr().err


def test_the_list_names_every_experiment_and_what_it_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_lab("list") == 0
    out = capsys.readouterr().out
    assert "B1  slow-database" in out
    assert "latency on postgres" in out
    assert out.count("about") == len(load_suite().experiment)
    assert float(out.splitlines()[-1].split()[-2]) < 15  # minutes


def test_the_faults_are_listed_with_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_lab("list", "--faults") == 0
    out = capsys.readouterr().out
    assert "latency               every chunk arrives delay_s late (delay_s = 0.1)" in out
    assert "connection_limit" in out


@pytest.mark.parametrize("times", ["0", "-1", "often"])
def test_an_experiment_is_repeated_at_least_once(times: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_lab("run", "B1", "--repeat", times)
    assert "argument --repeat" in capsys.readouterr().err


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
    assert run_lab(*arguments) == 2
    assert says in capsys.readouterr().err
