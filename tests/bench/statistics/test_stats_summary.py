from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from warmfront.bench.statistics.summary import MIB, figures_of, summarise, summarise_cold, with_reruns
from warmfront.results import Block, Cold, Comparison, Summary

BOTH = ("naive", "pooled")


def block(variant: str, index: int, latency_us: Sequence[int], *, workload: str = "product", errors: int = 0) -> Block:
    n = len(latency_us)
    return Block(
        workload=workload,
        variant=variant,
        index=index,
        order=2 * index + (variant != "naive"),
        started_s=float(index),
        duration_s=sum(latency_us) / 1e6,
        requests=n,
        errors=errors,
        latency_us=tuple(latency_us),
        cpu_s={"emulator": n * 0.0002, "environments": sum(latency_us) / 4e6},
        memory_pss_bytes={"environments": (index + 1) * MIB, "postgres": 3 * MIB},
    )


def run(naive: int = 10_000, pooled: int = 1_000, rounds: int = 6) -> list[Block]:
    """Blocks whose samples are 1 to 9 parts of a known whole, so that every figure can be worked out by hand."""
    return [
        block(variant, index, [part * whole for part in range(1, 10)])
        for index in range(rounds)
        for variant, whole in (("naive", naive), ("pooled", pooled))
    ]


def one(rows: Sequence[Summary], variant: str, metric: str) -> Summary:
    (found,) = [row for row in rows if (row.variant, row.metric) == (variant, metric)]
    return found


def against(rows: Sequence[Comparison], baseline: str, candidate: str, metric: str) -> Comparison:
    (found,) = [row for row in rows if (row.baseline, row.candidate, row.metric) == (baseline, candidate, metric)]
    return found


def test_every_figure_has_its_unit_and_its_n() -> None:
    summaries, _ = summarise(run(), BOTH)
    p50 = one(summaries, "naive", "p50")
    assert (p50.value, p50.unit, p50.n) == (50.0, "ms", 54)
    assert p50.low is not None
    assert p50.high is not None
    assert p50.low <= p50.value <= p50.high
    assert one(summaries, "naive", "max").value == 90.0
    assert one(summaries, "pooled", "throughput").value == pytest.approx(9 / 0.045)
    assert one(summaries, "pooled", "cpu_per_request").value == pytest.approx(0.2 + 1.25)
    assert one(summaries, "pooled", "cpu_per_request/emulator").value == pytest.approx(0.2)
    assert one(summaries, "naive", "memory_peak").value == pytest.approx(3.5 + 3)
    assert one(summaries, "naive", "memory_peak/environments").unit == "MB"


def test_a_ratio_is_times_better_whatever_the_metric() -> None:
    _, comparisons = summarise(run(), BOTH)
    for metric, expected in {"p50": 10.0, "throughput": 10.0, "p99": 10.0}.items():
        row = against(comparisons, "naive", "pooled", metric)
        assert row.ratio == pytest.approx(expected)
        assert row.verdict == "better"
    _, backwards = summarise(run(naive=1_000, pooled=10_000), BOTH)
    assert against(backwards, "naive", "pooled", "throughput").ratio == pytest.approx(0.1)
    assert against(backwards, "naive", "pooled", "throughput").verdict == "worse"


def test_the_ratio_is_that_of_the_values_beside_it() -> None:
    _, comparisons = summarise(run(pooled=1_234), BOTH)
    row = against(comparisons, "naive", "pooled", "cpu_per_request")
    assert row.ratio == pytest.approx(row.baseline_value / row.candidate_value)


def test_net_figures_take_the_floor_off_both_sides() -> None:
    summaries, comparisons = summarise(run(), BOTH, floor={"p50": 1.0, "cpu_per_request": 0.2})
    assert one(summaries, "pooled", "p50_net").value == pytest.approx(4.0)
    assert against(comparisons, "naive", "pooled", "p50_net").ratio == pytest.approx(49 / 4)
    assert against(comparisons, "naive", "pooled", "cpu_per_request_net").ratio == pytest.approx(10.0)


def test_a_net_figure_below_the_floor_has_no_ratio() -> None:
    _, comparisons = summarise(run(), BOTH, floor={"p50": 5.0})
    assert not [row for row in comparisons if row.metric == "p50_net" and row.baseline != row.candidate]


def test_round_by_round_a_slow_moment_is_one_round_s_and_no_tail() -> None:
    """Every pooled block is ten times as quick as its neighbour; two rounds ran at half the machine's speed."""
    blocks = [
        block(
            variant,
            index,
            [part * whole * (2 if index in (1, 4) and variant == "pooled" else 1) for part in range(1, 10)],
        )
        for index in range(12)
        for variant, whole in (("naive", 10_000), ("pooled", 1_000))
    ]
    _, comparisons = summarise(blocks, BOTH)
    assert against(comparisons, "naive", "pooled", "p99").ratio == pytest.approx(5.0)
    row = against(comparisons, "naive", "pooled", "p99_rounds")
    assert row.ratio == pytest.approx(10.0)
    assert (row.baseline_value, row.candidate_value, row.unit) == (90.0, 9.0, "ms")
    assert row.low <= row.ratio <= row.high
    assert against(comparisons, "naive", "pooled", "throughput_rounds").ratio == pytest.approx(10.0)
    assert not [row for row in comparisons if row.same_variant and row.metric.endswith("_rounds")]


def test_rounds_that_are_no_pairs_have_no_row_of_their_own() -> None:
    blocks = [each for each in run() if (each.variant, each.index) != ("naive", 2)]
    assert not [row for row in summarise(blocks, BOTH)[1] if row.metric.endswith("_rounds")]
    assert not [row for row in summarise(run(rounds=1), BOTH)[1] if row.metric.endswith("_rounds")]


def test_a_rerun_block_has_comparisons_of_its_own() -> None:
    slow = block("pooled", 2, [90_000] * 5)
    rows = with_reruns(run(), [slow], BOTH)
    _, counted = summarise(run(), BOTH)
    assert {row.metric for row in rows} >= {"p50_all", "p99_all", "throughput_all"}
    assert {(row.baseline, row.candidate) for row in rows} == {("naive", "pooled")}
    assert against(counted, "naive", "pooled", "p99").ratio == pytest.approx(10.0)
    assert against(rows, "naive", "pooled", "p99_all").ratio == pytest.approx(1.0)
    assert against(rows, "naive", "pooled", "p50_all").ratio == pytest.approx(10.0)


def test_where_nothing_was_rerun_nothing_is_repeated() -> None:
    assert with_reruns(run(), [], BOTH) == ()
    assert with_reruns(run(), [block("hello-world", 0, [1000])], BOTH) == (), "the floor is compared with nothing"


def test_every_variant_is_compared_with_itself() -> None:
    _, comparisons = summarise(run(), BOTH)
    for variant in ("naive", "pooled"):
        row = against(comparisons, variant, variant, "p50")
        assert row.same_variant
        assert row.verdict == "not significant"
        assert row.low <= 1.0 <= row.high


def test_errors_are_counted_over_all_blocks() -> None:
    blocks = [block("naive", 0, [1, 2], errors=1), block("naive", 1, [1, 2], errors=2)]
    assert one(summarise(blocks, BOTH)[0], "naive", "errors").value == 3


def test_the_baseline_is_the_first_variant_named_whichever_ran_first() -> None:
    rows = summarise(run(), ("pooled", "naive"))[1]
    assert {(row.baseline, row.candidate) for row in rows if not row.same_variant} == {("pooled", "naive")}


def test_one_block_has_figures_without_a_spread() -> None:
    summaries, comparisons = summarise([block("naive", 0, [10, 20]), block("pooled", 0, [1, 2])], BOTH)
    p50 = one(summaries, "naive", "p50")
    assert p50.low == p50.value == p50.high
    assert against(comparisons, "naive", "pooled", "p50").ratio == pytest.approx(10.0)


def test_variants_with_different_rounds_are_compared_unpaired() -> None:
    blocks = [*run(rounds=6), block("pooled", 6, [1_000, 5_000, 9_000])]
    assert against(summarise(blocks, BOTH)[1], "naive", "pooled", "p50").verdict == "better"


def test_cpu_is_shared_among_all_that_a_block_answered_and_counts_only_what_counted() -> None:
    blocks = [replace(own, around=9) for own in run()]  # as many again, before and after
    summaries, _ = summarise(blocks, BOTH)
    assert one(summaries, "pooled", "cpu_per_request").value == pytest.approx((0.2 + 1.25) / 2)
    assert one(summaries, "pooled", "throughput").value == pytest.approx(9 / 0.045)


def test_a_run_without_cpu_and_memory_has_no_such_figures() -> None:
    bare = [
        Block("product", "remote", index, index, float(index), 1.0, 2, 0, (1000, 2000), memory_pss_bytes=None)
        for index in range(3)
    ]
    metrics = {row.metric for row in summarise(bare, ["remote"])[0]}
    assert metrics == {"p50", "p95", "p99", "p99.9", "throughput", "max", "errors"}


def test_the_same_blocks_give_the_same_figures() -> None:
    assert summarise(run(), BOTH) == summarise(run(), BOTH)
    assert figures_of(run()[::2])["p50"].estimate.value == 50.0


def cold(variant: str, factor: float) -> Cold:
    samples = tuple(
        {
            "spawn_to_first_byte": factor * (100 + i),
            "process_start": factor * 10.0,
            "imports": factor * (60.0 + i),
            "runtime": factor * 5.0,
            "connect": factor * 25.0,
        }
        for i in range(30)
    )
    return Cold("Naive", variant, 30, samples)


def test_cold_starts_are_summarised_by_themselves_with_their_init_part() -> None:
    summaries, comparisons = summarise_cold([cold("naive", 2.0), cold("pooled", 1.0)])
    assert {row.workload for row in summaries} == {"cold"}
    assert one(summaries, "pooled", "cold_p50").value == 114
    assert one(summaries, "pooled", "cold_p50/init").value == 89
    assert one(summaries, "pooled", "cold_p95").n == 30
    assert against(comparisons, "naive", "pooled", "cold_p50").ratio == pytest.approx(2.0)


def test_another_way_of_starting_is_another_workload() -> None:
    first = cold("pooled", 1.0)
    snap = Cold(first.function, first.variant, first.n, first.samples, way="snap-start")
    assert {row.workload for row in summarise_cold([first, snap])[0]} == {"cold", "cold snap-start"}
