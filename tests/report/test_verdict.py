"""The verdict screen: it is short, has the result's figures, and leaves out what was not measured."""

import io
import re

import pytest
from msgspec.structs import replace
from warmfront.report.verdict import WIDTH, show_verdict, verdict_of
from warmfront.results import Comparison, Result

from tests.report.samples import bench_result, cold_result, lab_result

LINES_MAX = 30


def billed(result: Result) -> Result:
    """The result with rows of billed memory and of cold against warm, as a whole run has them."""
    rows = (
        Comparison("product", "gb_seconds", "GB-s/million", "naive", "pooled", 49_766.0, 1_870.0, 26.6, 25.0, 28.0),
        Comparison("product", "cold_to_warm", "ms", "pooled cold", "pooled warm", 119.0, 0.5, 238.0, 200.0, 300.0),
        Comparison(
            "product", "cold_to_warm", "ms", "pooled cold snap-start", "pooled warm", 18.8, 0.49, 38.4, 30.0, 50.0
        ),
    )
    return replace(result, comparisons=(*result.comparisons, *rows))


def screen(result: Result, *, colour: bool = False) -> str:
    stream = io.StringIO()
    assert show_verdict(result, stream, path="results/bench.json", colour=colour)
    return stream.getvalue()


@pytest.mark.parametrize("valid", [True, False])
def test_it_is_one_screen(valid: bool) -> None:
    text = screen(replace(billed(bench_result(valid=valid)), warnings=("a" * 150, "b" * 150, "c" * 150)))
    lines = text.splitlines()
    assert len(lines) <= LINES_MAX
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in text


def test_its_figures_are_the_result_s_own() -> None:
    result = billed(bench_result())
    verdict = verdict_of(result)
    assert verdict is not None
    pair = ("product", "naive", "pooled")
    rows = {row.metric: row for row in result.comparisons if (row.workload, row.baseline, row.candidate) == pair}
    shown = {row.title: row for row in verdict.rows}
    assert shown["latency, median"].times == rows["p50"].ratio
    assert shown["latency, 99th percentile"].before == rows["p99"].baseline_value
    assert shown["Lambda memory billed"].times == 26.6
    assert [(row.variant, row.way, row.first_ms) for row in verdict.cold] == [
        ("pooled", "on-demand", 119.0),
        ("pooled", "snap-start", 18.8),
    ]
    text = screen(result)
    assert re.search(r"pooled, SnapStart +18.8 +0.49 +ms +38.4x", text)
    assert "warmfront report results/bench.json --details" in text


def test_a_part_that_was_not_measured_is_left_out() -> None:
    text = screen(bench_result())
    assert "cold start against warm pool" not in text
    assert "Lambda memory billed" not in text


def test_an_invalid_run_says_so_and_why() -> None:
    result = bench_result(valid=False)
    text = " ".join(screen(result).split())
    assert "NOT VALID" in text
    assert any(check.advice in text for check in result.validity.checks if not check.passed)


def test_colours_are_only_for_terminals() -> None:
    assert "\x1b[" in screen(billed(bench_result()), colour=True)


@pytest.mark.parametrize("result", [cold_result(), lab_result()])
def test_other_kinds_have_no_verdict(result: Result) -> None:
    assert not show_verdict(result, io.StringIO(), path="x", colour=False)
