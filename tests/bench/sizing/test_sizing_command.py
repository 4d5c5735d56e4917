import argparse
import json
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from warmfront.bench.sizing.plan import Inputs, size
from warmfront.bench.sizing.queueing import SizingError, service_of
from warmfront.cli import size as command
from warmfront.results import write_result

from tests.report.samples import bench_result, cold_result, full_result


def example(**changes: float) -> Inputs:
    """200 requests/s, a handler of 80 ms that holds its connection for 12 ms."""
    values = {"customers": 20_000, **changes}
    return Inputs(rate=200, handler=service_of(0.080, 1.0), hold=service_of(0.012, 1.0), **values)  # type: ignore[arg-type]


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([*arguments, "--customers", "5000"]))


def test_the_worked_example_comes_out() -> None:
    found = size(example())
    assert (found.concurrency_p50, found.concurrency_p99, found.reserved_concurrency) == (16, 26, 30)
    assert (found.with_burst, found.connections_needed, found.connections_limit) == (45, 45, 90)
    assert found.fits
    assert found.connection_busy == pytest.approx(0.15, abs=0.001)
    assert found.connections == 6
    assert size(example(wait_p99_ms=0.6)).connections == 7
    assert found.formula == "M/M/c, Erlang C"
    assert abs(found.formula_error) < 0.2
    assert found.warnings == ()


def test_a_default_pool_of_ten_does_not_fit_and_the_advice_has_numbers() -> None:
    found = size(example(pool_max=10))
    assert not found.fits
    assert found.environments_allowed == 9
    assert found.warnings[0].startswith("45 environments x 10 = 450 connections, 90 are available: reserve at most 9")


def test_every_timeout_is_inside_the_next() -> None:
    ladder = size(example()).ladder
    assert [rung.name.split()[0] for rung in ladder] == ["acquire", "statement", "call", "the", "Lambda", "API"]
    by_name = {rung.name: rung.timeout_s for rung in ladder}
    assert by_name["Lambda Timeout"] == int(by_name["Lambda Timeout"])
    for inner, outer in pairwise(rung.timeout_s for rung in ladder[2:]):
        assert inner < outer
    assert ladder[0].timeout_s + ladder[1].timeout_s <= ladder[2].timeout_s


def test_a_handler_too_slow_for_an_api_is_rejected() -> None:
    slow = Inputs(rate=2, handler=service_of(8.0, 1.0), hold=service_of(0.01, 1.0), customers=2000)
    with pytest.raises(SizingError, match="through a queue instead of an API"):
        size(slow)


def test_sensitivity_moves_with_its_input() -> None:
    rows = {row.what: row for row in size(example()).sensitivity}
    assert rows["rate +20%"].reserved_concurrency > rows["rate -20%"].reserved_concurrency
    assert rows["service times +20%"].wait_p99_ms > rows["service times -20%"].wait_p99_ms
    assert rows["variation (cs2) +20%"].wait_p99_ms > rows["variation (cs2) -20%"].wait_p99_ms


def test_variable_service_on_busy_connections_asks_for_the_simulation() -> None:
    inputs = Inputs(
        rate=266, handler=service_of(0.08, 1.0), hold=service_of(0.012, 4.0), wait_p99_ms=400.0, customers=20_000
    )
    assert any("trust the simulation" in text for text in size(inputs).warnings)


def test_from_flags_the_answer_is_printed_with_its_formula_and_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--rate", "200", "--service-ms", "80", "--hold-ms", "12") == 0
    text = capsys.readouterr().out
    for part in (
        "reserved concurrency  30, with a burst of x1.5: 45",
        "M/M/c, Erlang C; offered load 2.4",
        "<- p99 wait within 5 ms",
        "simulation of 5,000 requests at 6",
        "the formula is",
        "29 s  API Gateway",
        "rate +20%",
    ):
        assert part in text
    assert run("--rate", "200", "--service-ms", "80", "--hold-ms", "12", "--pool-max", "10") == 1
    assert "DOES NOT FIT" in capsys.readouterr().out


def test_from_a_result_the_measured_times_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(bench_result(workloads=("product",)), tmp_path / "a.json")
    assert run("--rate", "100", "--from", str(tmp_path / "a.json"), "--hold-ms", "2") == 0
    assert "1,600 requests of product pooled" in capsys.readouterr().out
    assert run("--rate", "100", "--from", str(tmp_path / "a.json"), "--variant", "nobody") == 2
    assert "has no product nobody; it has product naive, product pooled" in capsys.readouterr().err
    write_result(cold_result(), tmp_path / "b.json")
    assert run("--rate", "100", "--from", str(tmp_path / "b.json")) == 2
    assert "it has no blocks at all" in capsys.readouterr().err


def test_what_was_predicted_and_then_run_is_printed_beside_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(full_result(), tmp_path / "a.json")
    run("--rate", "100", "--from", str(tmp_path / "a.json"), "--hold-ms", "2")
    text = capsys.readouterr().out
    assert "574/s: p99 6.1 ms by G/G/c with 2, 6.9 [6.2, 7.8] ms measured over 5,160 requests: -12%" in text


def test_a_sweep_has_the_run_and_no_single_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The times come from a flag then, and the error says which figure of the sweep to take."""
    whole = full_result()
    write_result(msgspec.structs.replace(whole, blocks=()), tmp_path / "sweep.json")
    arguments = ("--rate", "100", "--from", str(tmp_path / "sweep.json"), "--hold-ms", "2")
    assert run(*arguments) == 2
    first = next(own for own in whole.sweeps if own.variant == "pooled").points[0]
    assert f"add --service-ms {first.p50_ms:.3g}, its median" in capsys.readouterr().err
    assert run(*arguments, "--service-ms", "4") == 0
    assert "Predicted and then run" in capsys.readouterr().out


def test_without_service_times_it_says_where_to_get_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--rate", "100") == 2
    assert "give --service-ms, or --from a result" in capsys.readouterr().err


def test_the_figures_can_be_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    run("--rate", "200", "--service-ms", "80", "--hold-ms", "12", "--json")
    assert json.loads(capsys.readouterr().out)["reserved_concurrency"] == 30


@pytest.mark.parametrize(
    "flags", [["--rate", "0"], ["--rate", "nan"], ["--rate", "5", "--pool-max", "0"], ["--rate", "inf"]]
)
def test_impossible_inputs_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*flags, "--service-ms", "10")
    assert "argument" in capsys.readouterr().err
    assert run("--rate", "5", "--service-ms", "10", "--kept-connections", "100") == 2
