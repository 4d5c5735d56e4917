"""Validity checks: each passes on a good run and fails, with advice, on the fault that it looks for."""

import random
from collections.abc import Callable, Sequence

import pytest
from warmfront.bench.run.checks import (
    LATENESS_SHARE,
    all_checks,
    is_stalled,
    rerun_warnings,
    slow_share,
    sweep_checks,
)
from warmfront.bench.run.options import BenchOptions
from warmfront.results import Block, Check, Cold, LoadPoint, Sweep

OPTIONS = BenchOptions(workers=50)


def block(
    variant: str,
    index: int,
    *,
    latency_us: int = 1000,
    errors: int = 0,
    spin_ms: float = 1.0,
    environments: int = 50,
    stalled: float | None = 0.0,
) -> Block:
    return Block(
        "product",
        variant,
        index,
        index,
        float(index),
        0.1,
        10,
        errors,
        (latency_us,) * 10,
        spin_ms=spin_ms,
        environments=environments,
        stalled=stalled,
    )


def run(change: Callable[[str, int], Block] = block, *, blocks: int = 30) -> list[Block]:
    return [change(variant, index) for index in range(blocks) for variant in ("naive", "pooled")]


def check(
    name: str,
    blocks: Sequence[Block],
    *,
    cold: int = 30,
    options: BenchOptions = OPTIONS,
    late_ns: Sequence[int] = (),
    rerun: Sequence[Block] = (),
) -> Check:
    samples = tuple({"spawn_to_first_byte": 100.0} for _ in range(cold))
    found = all_checks(
        options,
        blocks,
        rerun=rerun,
        baseline="naive",
        counted=["product"],
        cold=[Cold("Naive", "naive", cold, samples)],
        late_ns=late_ns,
    )
    (one,) = [each for each in found if each.name == name]
    assert one.passed != bool(one.advice)
    return one


ALL = (
    "errors",
    "stationarity",
    "machine speed between variants",
    "stalled blocks",
    "blocks",
    "environments beside workers",
    "cold starts",
)


@pytest.mark.parametrize("name", ALL)
def test_a_good_run_passes(name: str) -> None:
    assert check(name, run()).passed


def test_errors_of_a_candidate_fail_and_those_of_the_baseline_do_not() -> None:
    failed = check("errors", run(lambda v, i: block(v, i, errors=int(v == "pooled" and i == 3))))
    assert not failed.passed
    assert failed.figure == 1
    assert "product pooled" in failed.advice
    assert check("errors", run(lambda v, i: block(v, i, errors=int(v == "naive")))).passed


def test_a_drift_of_latency_fails() -> None:
    assert not check("stationarity", run(lambda v, i: block(v, i, latency_us=1000 + 40 * i))).passed


def test_a_machine_with_two_speeds_is_fair_and_one_that_slows_one_variant_is_not() -> None:
    draw = random.Random(3)
    mixed = run(lambda v, i: block(v, i, spin_ms=1.0 if (i + draw.randrange(2)) % 2 else 1.9))
    assert check("machine speed between variants", mixed).passed
    assert slow_share(mixed) > 0.3
    assert not check(
        "machine speed between variants", run(lambda v, i: block(v, i, spin_ms=1.9 if v == "naive" else 1.0))
    ).passed


def test_a_spin_that_met_a_stall_is_no_speed_of_the_machine() -> None:
    stalled = run(lambda v, i: block(v, i, spin_ms=9.0 if (v, i) == ("naive", 7) else 1.0))
    assert check("machine speed between variants", stalled).passed


def test_too_few_blocks_fail() -> None:
    failed = check("blocks", run(blocks=12))
    assert not failed.passed
    assert (failed.figure, failed.limit) == (12, 30)


def test_an_environment_too_many_in_one_block_fails() -> None:
    failed = check("environments beside workers", run(lambda v, i: block(v, i, environments=51 if i == 7 else 50)))
    assert not failed.passed
    assert failed.figure == 1


def test_too_few_cold_starts_fail() -> None:
    assert not check("cold starts", run(), cold=4).passed


def test_a_generator_that_was_late_fails_an_open_run() -> None:
    options = BenchOptions(rate=100, for_s=3)
    assert check("lateness", run(), options=options, late_ns=[50_000] * 1000).passed
    assert not check("lateness", run(), options=options, late_ns=[50_000] * 900 + [300_000] * 100).passed


def sweep(variant: str, *, knee: float | None, errors: int = 0) -> Sweep:
    """Four rates, at the second of which requests fail."""
    points = tuple(
        LoadPoint(offered_rate=rate, throughput=rate, p50_ms=1.0, p99_ms=2.0, errors=errors if rate == 200.0 else 0)
        for rate in (100.0, 200.0, 300.0, 400.0)
    )
    return Sweep("product", variant, points, knee)


@pytest.mark.parametrize(
    ("sweeps", "late_shares", "failing"),
    [
        ([sweep("naive", knee=300.0), sweep("pooled", knee=300.0)], [0.0, LATENESS_SHARE], set()),
        ([sweep("naive", knee=300.0), sweep("pooled", knee=300.0)], [0.0, 0.11], {"lateness"}),
        ([sweep("naive", knee=None), sweep("pooled", knee=300.0)], [0.0, 0.0], {"knees found"}),
        ([sweep("naive", knee=300.0), sweep("pooled", knee=300.0, errors=1)], [0.0, 0.0], {"errors below the knee"}),
        ([sweep("naive", knee=300.0, errors=1), sweep("pooled", knee=100.0, errors=1)], [0.0, 0.0], set()),
    ],
)
def test_a_sweep_is_judged_by_what_lies_below_its_knees(
    sweeps: list[Sweep], late_shares: list[float], failing: set[str]
) -> None:
    found = sweep_checks(sweeps, late_shares, baseline="naive")
    assert {each.name for each in found if not each.passed} == failing
    assert all(each.advice for each in found if not each.passed)


def test_a_machine_that_stalls_again_and_again_makes_no_valid_run() -> None:
    some = run(lambda v, i: block(v, i, stalled=0.3 if (v, i % 10) == ("pooled", 0) else 0.1))
    assert check("stalled blocks", some).figure == 0.05
    often = run(lambda v, i: block(v, i, stalled=0.3 if v == "pooled" and i % 2 else None))
    assert not check("stalled blocks", often).passed


@pytest.mark.parametrize(("share", "stalled"), [(None, False), (0.0, False), (0.1, False), (0.11, True), (1.0, True)])
def test_a_block_is_stalled_beyond_a_tenth_of_its_time(share: float | None, stalled: bool) -> None:
    assert is_stalled(block("pooled", 0, stalled=share)) is stalled


def test_an_error_in_a_rerun_block_is_not_lost() -> None:
    failed = check("errors", run(), rerun=[block("pooled", 3, errors=1, stalled=0.5)])
    assert (failed.passed, failed.figure) == (False, 1)
    assert check("errors", run(), rerun=[block("pooled", 3, stalled=0.5)]).passed


def test_rerun_blocks_are_counted_in_a_warning() -> None:
    assert rerun_warnings([]) == []
    (warning,) = rerun_warnings([block("pooled", 1), block("naive", 1), block("pooled", 4)])
    assert warning.startswith("3 blocks re-run (product pooled 2, product naive 1)")
