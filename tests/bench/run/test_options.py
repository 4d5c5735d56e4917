"""The command line of `warmfront bench`: defaults, --quick, contradictions."""

import argparse
from datetime import datetime
from pathlib import Path

import pytest
from warmfront.bench.load.samples import Target
from warmfront.bench.run.options import BenchOptions, OptionError
from warmfront.cli.bench import add_arguments, options_of


def parse(*arguments: str) -> BenchOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_of(parser.parse_args(arguments), command="warmfront bench", now=datetime(2026, 1, 2, 3, 4, 5))


def test_the_defaults_are_the_method() -> None:
    options = parse("--full")
    assert (options.workers, options.requests, options.blocks, options.cold_starts) == (50, 10_000, 30, 30)
    assert options.loop == "closed"
    assert options.output == Path("results/bench-20260102-030405.json")


def test_without_full_the_run_is_shorter_and_the_method_the_same() -> None:
    short, full = parse(), parse("--full")
    assert (short.workers, short.blocks, short.seed, short.loop) == (full.workers, full.blocks, full.seed, full.loop)
    assert short.requests < full.requests
    assert short.box_s < full.box_s
    assert parse("--requests", "10000").requests == 10_000


def test_quick_changes_what_was_not_said() -> None:
    options = parse("--quick", "--workers", "7")
    assert options.workers == 7
    assert options.requests < 10_000
    assert options.quick


def test_a_rate_is_an_open_loop_whose_connections_do_not_hold_it_back() -> None:
    options = parse("--rate", "200", "--for", "30s")
    assert options.loop == "open"
    assert options.for_s == 30
    assert options.connections == 200
    assert parse().connections == 50


def test_a_sweep_has_a_budget_and_nothing_else_has() -> None:
    assert parse("--sweep").budget_s == 240
    assert parse("--sweep", "--budget", "8min").budget_s == 480
    assert parse().budget_s is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("500ms", 0.5), ("2m", 120), ("2min", 120), ("7", 7), ("1.5s", 1.5)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert parse("--box", text).box_s == seconds


@pytest.mark.parametrize(
    "arguments", [("--box", "soon"), ("--box", "0s"), ("--workers", "0"), ("--blocks", "1"), ("--requests", "-5")]
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(*arguments)
    assert repr(arguments[1]) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--rate", "5"), "--for"),
        (("--for", "5s"), "--rate"),
        (("--rate", "-1", "--for", "5s"), "--rate"),
        (("--url", "api.example"), "--url"),
        (("--budget", "3min"), "--sweep"),
    ],
)
def test_contradictions_name_the_option(arguments: tuple[str, ...], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        parse(*arguments)


@pytest.mark.parametrize(
    ("url", "target", "base_path"),
    [
        ("https://api.example/prod/", Target("api.example", 443, True), "/prod"),
        ("http://127.0.0.1:3000", Target("127.0.0.1", 3000), ""),
    ],
)
def test_an_address_is_a_target_and_a_base_path(url: str, target: Target, base_path: str) -> None:
    options = parse("--url", url)
    assert options.remote == target
    assert options.base_path == base_path
