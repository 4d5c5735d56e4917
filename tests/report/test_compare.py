import argparse
import functools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from warmfront.bench.statistics.compare import Outcome, compare, render
from warmfront.cli import compare as comparing
from warmfront.cli import report as reporting
from warmfront.results import Block, Result, ResultError, write_result

from tests.report.samples import bench_result, cold_result, lab_result


@functools.cache
def one_run() -> Result:
    return bench_result(workloads=("product",), rounds=20, requests=200)


def measured(*, slowdown: float = 1.0, spin_ms: float = 7.8, errors: int = 0, **changes: Any) -> Result:
    result = one_run()
    blocks = [changed(block, slowdown, spin_ms, errors) for block in result.blocks]
    return msgspec.structs.replace(result, blocks=tuple(blocks), **changes)


def changed(block: Block, slowdown: float, spin_ms: float, errors: int) -> Block:
    if block.variant == "naive":
        return msgspec.structs.replace(block, spin_ms=spin_ms)
    return msgspec.structs.replace(
        block,
        latency_us=tuple(round(us * slowdown) for us in block.latency_us),
        duration_s=block.duration_s * slowdown,
        spin_ms=spin_ms,
        errors=errors,
    )


def changes(outcome: Outcome, variant: str) -> dict[str, str]:
    return {row.metric: row.change for row in outcome.rows if row.variant == variant and row.workload == "product"}


@pytest.fixture(scope="module")
def before() -> Result:
    return measured()


def again(**how: Any) -> Result:
    """Return a second run of the same benchmark, with slightly different samples."""
    result = measured(**how)
    shifted = tuple(
        msgspec.structs.replace(
            block, latency_us=tuple(us + 7 * (place % 5) for place, us in enumerate(block.latency_us))
        )
        for block in result.blocks
    )
    return msgspec.structs.replace(result, blocks=shifted)


def test_the_same_run_again_has_nothing_faster_and_nothing_slower(before: Result) -> None:
    outcome = compare(before, again())
    assert (outcome.slower, outcome.faster) == (0, 0)
    assert len(outcome.rows) >= 16
    assert outcome.notes == ()


def test_a_slowdown_is_found_in_its_variant_alone(before: Result) -> None:
    outcome = compare(before, again(slowdown=1.15))
    assert changes(outcome, "pooled")["p50"] == "slower"
    assert changes(outcome, "pooled")["throughput"] == "slower"
    assert changes(outcome, "pooled")["memory_peak"] == "not significant"
    assert set(changes(outcome, "naive").values()) == {"reference"}


def test_a_speed_up_is_faster(before: Result) -> None:
    outcome = compare(before, again(slowdown=0.5))
    assert changes(outcome, "pooled")["p50"] == "faster"
    assert outcome.slower == 0


def test_a_slower_machine_excuses_what_it_explains(before: Result) -> None:
    outcome = compare(before, again(slowdown=1.15, spin_ms=10.0))
    assert outcome.slower == 0
    assert "the machine was 28% slower in the second run: smaller changes count as not significant" in outcome.notes
    assert compare(before, again(slowdown=2.0, spin_ms=10.0)).slower > 0


def whole_run_slower(result: Result, times: float) -> Result:
    """The same run on a machine that was slower by a factor, which the calibration spin does not show."""
    blocks = tuple(
        msgspec.structs.replace(
            block,
            latency_us=tuple(round(us * times) for us in block.latency_us),
            duration_s=block.duration_s * times,
            cpu_s={part: used * times for part, used in block.cpu_s.items()},
        )
        for block in result.blocks
    )
    return msgspec.structs.replace(result, blocks=blocks)


def test_a_machine_that_slowed_everything_is_not_the_candidate_s_fault(before: Result) -> None:
    """Two runs of one commit, the second on a machine that had become a quarter slower."""
    outcome = compare(before, whole_run_slower(again(), 1.25))
    assert outcome.slower == 0
    assert any(
        "product naive, which no candidate's code touches, changed by 25% at p50" in note for note in outcome.notes
    )
    both = compare(before, whole_run_slower(again(slowdown=1.6), 1.25))
    assert changes(both, "pooled")["p50"] == "slower"


def test_runs_on_machines_too_different_are_said_to_be_incomparable(before: Result) -> None:
    outcome = compare(before, whole_run_slower(again(), 1.8))
    assert outcome.slower == 0
    assert any("cannot be compared: measure both versions in one interleaved run" in note for note in outcome.notes)


def test_a_run_of_one_variant_is_judged_by_itself(before: Result) -> None:
    def alone(result: Result) -> Result:
        return msgspec.structs.replace(result, blocks=tuple(b for b in result.blocks if b.variant == "pooled"))

    assert changes(compare(alone(before), alone(again(slowdown=1.3))), "pooled")["p50"] == "slower"


def test_the_smallest_claim_can_be_raised(before: Result) -> None:
    assert compare(before, again(slowdown=1.15), smallest=0.3).slower == 0


def test_new_errors_are_slower_even_if_everything_is_fast(before: Result) -> None:
    outcome = compare(before, again(slowdown=0.5, errors=20))
    assert changes(outcome, "pooled")["errors"] == "slower"
    assert outcome.slower == 1


def test_a_percentile_of_too_few_samples_is_not_judged() -> None:
    outcome = compare(cold_result(), cold_result())
    by_metric = {row.metric: row.change for row in outcome.rows if row.variant == "pooled"}
    assert by_metric == {"cold_p50": "not significant", "cold_p95": "too few samples"}


def test_different_settings_machines_and_variants_are_noted(before: Result) -> None:
    other = measured(settings={"workers": 20, "requests": 10_000, "seed": 1}, machine={"cpu": "Another"})
    few = msgspec.structs.replace(other, blocks=tuple(block for block in other.blocks if block.variant == "naive"))
    notes = compare(before, few).notes
    assert "setting workers differs: 50 and 20" in notes
    assert "measured on different machines: Simulated CPU and Another" in notes
    assert "in only one of the two results: product pooled" in notes


@pytest.mark.parametrize("other", [cold_result(), lab_result()])
def test_results_of_two_kinds_are_refused(before: Result, other: Result) -> None:
    with pytest.raises(ResultError, match="cannot be compared"):
        compare(before, other)


def test_results_with_nothing_in_common_are_refused() -> None:
    with pytest.raises(ResultError, match="nothing to compare"):
        compare(lab_result(), lab_result())


def test_the_table_names_every_row_and_counts(before: Result) -> None:
    text = render(compare(before, again(slowdown=1.15)))
    assert "product pooled  p50" in text
    assert text.rstrip().splitlines()[-1].endswith("not significant")


def command(tmp_path: Path, before: Result, after: Result, *flags: str) -> int:
    write_result(before, tmp_path / "a.json")
    write_result(after, tmp_path / "b.json")
    parser = argparse.ArgumentParser()
    comparing.add_arguments(parser)
    return comparing.run(parser.parse_args([str(tmp_path / "a.json"), str(tmp_path / "b.json"), *flags]))


def test_the_exit_status_is_a_gate(tmp_path: Path, before: Result, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, before, before) == 0
    assert command(tmp_path, before, again(slowdown=1.3)) == 1
    assert command(tmp_path, before, again(slowdown=1.3), "--smallest", "60%") == 0
    assert command(tmp_path, before, cold_result()) == 2
    assert "warmfront compare: a bench result cannot be compared with a cold result" in capsys.readouterr().err


def test_a_run_that_is_not_valid_is_no_input_unless_told(
    tmp_path: Path, before: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    invalid = bench_result(workloads=("product",), valid=False)
    assert command(tmp_path, before, invalid) == 2
    assert "b.json failed its own validity checks" in capsys.readouterr().err
    assert command(tmp_path, invalid, invalid, "--allow-invalid") == 0
    assert "note: the first run was not valid: stationarity" in capsys.readouterr().out


def test_the_rows_can_be_had_as_json(tmp_path: Path, before: Result, capsys: pytest.CaptureFixture[str]) -> None:
    command(tmp_path, before, before, "--json")
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["change"] for row in rows} <= {"not significant", "too few samples", "reference"}


def report(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    reporting.add_arguments(parser)
    return reporting.run(parser.parse_args(arguments))


def test_report_shows_the_newest_result_or_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert report() == 2
    assert "create one with `warmfront bench`" in capsys.readouterr().err
    write_result(cold_result(), tmp_path / "results" / "a.json")
    assert report() == 0
    assert "Warmfront cold" in capsys.readouterr().out


def test_report_writes_a_page_beside_the_result_and_pictures_where_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(msgspec.structs.replace(cold_result(), kind="bench"), tmp_path / "a.json")
    assert report(str(tmp_path / "a.json"), "--html", "--png", str(tmp_path / "pictures")) == 0
    assert (tmp_path / "a.html").exists()
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2
    assert capsys.readouterr().out.count("written to") == 3


def test_report_refuses_what_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert report(str(tmp_path / "a.json")) == 2
    assert "is not a result of Warmfront" in capsys.readouterr().err
