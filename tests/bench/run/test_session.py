"""A whole benchmark against a real emulator and a template of two functions: what the result holds and that nothing stays."""

import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from warmfront.bench.run.emulator_process import EmulatorError, EmulatorProcess, State
from warmfront.bench.run.options import BenchOptions, OptionError
from warmfront.bench.run.session import FLOOR, run_bench
from warmfront.results import Result, json_schema, read_result, write_result

from tests.bench.http_server import Answer, serving

ROOT = Path(__file__).parents[3]
WORKERS = 3

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.13, Timeout: 20, CodeUri: code/}
Resources:
  Slow:
    Type: AWS::Serverless::Function
    Properties:
      Handler: app.slow
      Events:
        Read: {Type: HttpApi, Properties: {Method: GET, Path: "/slow/{id}"}}
        Write: {Type: HttpApi, Properties: {Method: POST, Path: /slow/orders}}
  Fast:
    Type: AWS::Serverless::Function
    Properties:
      Handler: app.fast
      Events:
        Read: {Type: HttpApi, Properties: {Method: GET, Path: "/fast/{id}"}}
        Write: {Type: HttpApi, Properties: {Method: POST, Path: /fast/orders}}
  Prepare:
    Type: AWS::Serverless::Function
    Properties: {Handler: app.prepare}
"""

CODE = """
import json, os, time

def answer(event):
    return {"statusCode": 200, "body": json.dumps({"id": event.get("pathParameters", {}).get("id")})}

def slow(event, context):
    start = time.thread_time()
    while time.thread_time() - start < 0.02:
        pass
    return answer(event)

def fast(event, context):
    return answer(event)

def prepare(event, context):
    with open(event["note"], "a") as note:
        note.write(json.dumps(event["names"]) + "\\n")
"""

WORKLOAD = """
[[setup]]
function = "Prepare"
event = { names = "{variants}", note = "%s" }
[[variant]]
name = "slow"
prefix = "/slow"
function = "Slow"
[[variant]]
name = "fast"
prefix = "/fast"
function = "Fast"
[[workload]]
name = "read"
counted = true
[[workload.request]]
path = "/{id:1..1000}"
json = { id = "{id}" }
[[workload]]
name = "write"
fresh = true
[[workload.request]]
method = "POST"
path = "/orders"
body = '{"n": {n:1..9}}'
"""


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """Not below /tmp, where each environment has a folder of its own: the functions' notes are read here."""
    with tempfile.TemporaryDirectory(prefix="warmfront-test-", dir="/var/tmp") as name:
        yield written(Path(name))


def written(folder: Path) -> Path:
    (folder / "template.yaml").write_text(TEMPLATE)
    (folder / "code").mkdir()
    (folder / "code" / "app.py").write_text(CODE)
    (folder / "workload.toml").write_text(WORKLOAD % (folder / "note"))
    return folder


@pytest.fixture(scope="module")
def result(project: Path) -> Result:
    options = BenchOptions(
        workload=project / "workload.toml",
        template=project / "template.yaml",
        workers=WORKERS,
        requests=91,
        blocks=6,
        box_s=0.4,
        box_blocks=2,
        cold_starts=3,
        memory_s=0.1,
        memory_rounds=2,
        warm_s=0.1,
        equal_rounds=2,
        window_s=0.3,
    )
    return run_bench(options, stream=io.StringIO())


def test_each_variant_gets_exactly_its_requests(result: Result) -> None:
    for variant in ("slow", "fast"):
        own = [block for block in result.blocks if (block.workload, block.variant) == ("read", variant)]
        assert [block.requests for block in own] == [16, 15, 15, 15, 15, 15]
        assert {block.around for block in own} == {
            WORKERS + WORKERS - 1
        }  # one of each before, and what was then under way
        assert [block.index for block in own] == list(range(6))
        assert sum(len(block.latency_us) for block in own) == 91
    assert not any(block.errors for block in result.blocks)


def test_blocks_of_all_variants_and_the_floor_are_interleaved_in_a_drawn_order(result: Result) -> None:
    order = [
        block.variant for block in sorted(result.blocks, key=lambda block: block.order) if block.workload != "write"
    ]
    rounds = [order[i : i + 3] for i in range(0, 18, 3)]
    assert all(sorted(names) == ["fast", "hello-world", "slow"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1


def test_the_slower_variant_is_found_and_its_cpu_is_where_it_is_burnt(result: Result) -> None:
    rows = {
        (row.workload, row.metric): row
        for row in result.comparisons
        if row.baseline == "slow" and row.candidate == "fast"
    }
    assert rows["read", "p50"].low > 1.5
    assert rows["read", "cpu_per_request"].low > 2
    cost = {row.metric: row for row in result.summaries if (row.workload, row.variant) == ("read", "slow")}
    assert cost["cpu_per_request/environments"].value > 20
    assert cost["cpu_per_request/emulator"].value < 10


def test_net_figures_are_less_the_floor_of_the_same_run(result: Result) -> None:
    rows = {row.metric: row.value for row in result.summaries if (row.workload, row.variant) == ("read", "slow")}
    floor = result.settings["floor"]
    assert floor["cpu_per_request"] > 0
    assert rows["cpu_per_request_net"] == pytest.approx(rows["cpu_per_request"] - floor["cpu_per_request"])
    assert rows["p99_net"] == pytest.approx(rows["p99"] - floor["p50"])


def test_there_is_an_environment_for_each_worker_and_none_more(result: Result) -> None:
    assert {block.environments for block in result.blocks} == {WORKERS}
    (check,) = [check for check in result.validity.checks if check.name == "environments beside workers"]
    assert check.passed


def test_cold_starts_are_fresh_processes_taken_apart(result: Result) -> None:
    assert [(cold.variant, cold.n) for cold in result.cold] == [("slow", 3), ("fast", 3)]
    for cold in result.cold:
        for sample in cold.samples:
            stages = {name: value for name, value in sample.items() if name != "spawn_to_first_byte"}
            assert {"process_start", "imports", "runtime", "handler", "answer"} <= set(stages)
            assert min(stages.values()) >= 0
            assert sum(stages.values()) == pytest.approx(sample["spawn_to_first_byte"])


def test_memory_is_by_part_and_its_stretch_is_no_block(result: Result) -> None:
    measured = [block.memory_pss_bytes for block in result.blocks if block.memory_pss_bytes]
    assert len(measured) == 2 * 2 * 2
    assert all(parts["environments"] > WORKERS * 2_000_000 for parts in measured)


def test_memory_at_equal_load_is_of_environments_alone_with_its_costs(result: Result) -> None:
    (sweep,) = result.sweeps  # the baseline's alone: its knee is the scale
    assert sweep.variant == "slow"
    assert sweep.knee_rate
    (row,) = [row for row in result.comparisons if row.metric == "memory_at_equal_load" and not row.same_variant]
    assert row.low <= row.ratio <= row.high
    highest = max(cost.offered_rate for cost in result.costs)
    slow, fast = [cost for cost in result.costs if cost.offered_rate == highest]
    assert highest == pytest.approx(0.7 * sweep.knee_rate)
    assert slow.environments >= fast.environments >= 1
    assert slow.gb_seconds_per_million > fast.gb_seconds_per_million > 0
    assert slow.usd_per_million["x86_64"] > fast.usd_per_million["x86_64"] > 0.2
    assert {own.rate for own in result.worth} == {1.0, 10.0, 100.0, 1000.0}


def own_copy(project: Path, name: str) -> Path:
    """The workload under another name, with a note of its own: the module's result is held to the project's."""
    path = project / f"{name}.toml"
    path.write_text(WORKLOAD % (project / f"note-{name}"))
    return path


def test_a_sweep_finds_knees_and_holds_a_prediction_against_a_run(project: Path) -> None:
    options = BenchOptions(
        workload=own_copy(project, "sweep"),
        template=project / "template.yaml",
        workers=WORKERS,
        only=("read",),
        variants=("fast",),
        sweep=True,
        equal_load=False,
        window_s=0.6,
        warm_s=0.1,
    )
    found = run_bench(options, stream=io.StringIO())
    (sweep,), (sized,) = found.sweeps, found.sized
    assert sweep.knee_rate
    assert len(sweep.points) >= 5
    assert {own.formula for own in sweep.predictions} == {"M/M/c", "G/G/c", "USL"}
    assert sized.rate < sweep.knee_rate
    assert sized.low is not None
    assert sized.low <= sized.measured_p99_ms
    assert sized.predicted_p99_ms > 0
    assert {check.name for check in found.validity.checks} == {"errors below the knee", "knees found", "lateness"}


def test_growth_is_measured_at_each_size_asked_for(project: Path) -> None:
    workload = own_copy(project, "growing")
    workload.write_text(workload.read_text().replace("1..1000", "1..$rows"))
    options = BenchOptions(
        workload=workload,
        template=project / "template.yaml",
        only=("read",),
        variants=("fast",),
        growth=True,
        rows=(100, 1000, 10_000),
        environments=(1, 2, 3),
    )
    found = run_bench(options, stream=io.StringIO())
    assert [(own.name, own.size_name) for own in found.growth] == [
        ("read, p50", "rows"),
        ("one request at a time, p50", "environments"),
        ("start of all environments", "environments"),
    ]
    assert found.growth[0].sizes == (100, 1000, 10_000)
    assert found.growth[2].values[0] < found.growth[2].values[2]


def test_setup_runs_first_and_again_before_each_workload_that_writes(result: Result, project: Path) -> None:
    assert result.kind == "bench"
    lines = (project / "note").read_text().splitlines()
    assert lines == [json.dumps(["slow", "fast"])] * 2


def test_the_result_is_what_the_schema_says_and_can_be_read_back(result: Result, tmp_path: Path) -> None:
    write_result(result, tmp_path / "r.json")
    jsonschema.validate(json.loads((tmp_path / "r.json").read_bytes()), json_schema())
    assert read_result(tmp_path / "r.json").blocks == result.blocks


def test_an_address_is_measured_without_starting_anything(project: Path) -> None:
    log = project / "cloudwatch.log"
    log.write_text(
        "REPORT RequestId: 1\tDuration: 4.00 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 71 MB\t\n"
        "REPORT RequestId: 2\tDuration: 5.50 ms\tBilled Duration: 6 ms\tMemory Size: 128 MB\tMax Memory Used: 73 MB\t\n"
    )
    with serving(lambda got: Answer(json.dumps({"id": got.path.rpartition("/")[2]}).encode())) as server:
        options = BenchOptions(
            workload=project / "workload.toml",
            url=server.url + "/prod",
            only=("read",),
            variants=("fast",),
            rate=200,
            for_s=0.6,
            blocks=3,
            warm_s=0.05,
            workers=4,
            reports=(("fast", log), ("slow", log)),
        )
        result = run_bench(options, stream=io.StringIO())
    assert {got.path.rpartition("/")[0] for got in server.got} == {"/prod/fast"}
    assert all(block.errors == 0 and block.cpu_s == {} and block.service_us is not None for block in result.blocks)
    assert result.cold == ()
    assert any("no cold starts and no CPU" in warning for warning in result.warnings)
    assert any("--reports slow=" in warning for warning in result.warnings)
    values = {row.metric: row.value for row in result.summaries if row.variant == "fast"}
    assert (values["memory_peak"], values["billed_duration"]) == (73, 5)
    assert "cpu_per_request" not in values
    assert "lateness" in {check.name for check in result.validity.checks}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"only": ("nope",)}, "--only nope: .* has read, write"),
        ({"variants": ("nope",)}, "--variants nope: .* has slow, fast"),
        ({"template": Path("nowhere.yaml")}, "nowhere.yaml does not exist"),
        ({"template": FLOOR / "template.yaml"}, "variant 'slow' has function 'Slow'; .* has Hello"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(project: Path, change: dict[str, object], said: str) -> None:
    chosen: dict[str, object] = {"workload": project / "workload.toml", "template": project / "template.yaml", **change}
    with pytest.raises(OptionError, match=said):
        run_bench(BenchOptions(**chosen), stream=io.StringIO())  # type: ignore[arg-type]


def test_a_template_that_cannot_be_served_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources: [")
    with pytest.raises(EmulatorError, match=r"ended before it was ready; it printed:\n  .*template"):
        EmulatorProcess.start(tmp_path / "template.yaml")


def test_a_function_that_fails_in_the_setup_is_an_error_with_its_reason() -> None:
    with EmulatorProcess.start(FLOOR / "template.yaml") as emulator, pytest.raises(EmulatorError, match="Nope"):
        emulator.control.invoke("Nope", {})


def test_nothing_is_left_when_the_bench_is_killed() -> None:
    source = """
import sys
from warmfront.bench.run.emulator_process import EmulatorProcess
from warmfront.bench.run.session import FLOOR
emulator = EmulatorProcess.start(FLOOR / "template.yaml")
emulator.control.invoke("Hello", {})
state = emulator.control.state()
print(state.parts.emulator, *state.functions["Hello"].pids, flush=True)
sys.stdin.read()
"""
    bench = subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert bench.stdin is not None
    assert bench.stdout is not None
    pids = [int(pid) for pid in bench.stdout.readline().split()]
    assert len(pids) == 2
    processes = [os.pidfd_open(pid) for pid in pids]
    try:
        bench.send_signal(signal.SIGKILL)
        bench.wait(10)
        for process in processes:
            ended, _, _ = select.select([process], [], [], 10)
            assert ended
    finally:
        for process in processes:
            os.close(process)
        bench.stdin.close()
        bench.stdout.close()


def test_a_state_without_backing_services_is_read_all_the_same() -> None:
    state = State.read({"emulator": {"pid": 7}, "backing": {}, "functions": {}})
    assert state.parts.emulator == 7
    assert state.parts.postgres is None
    assert state.environments.pids == ()
