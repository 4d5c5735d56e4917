"""What equal load needs and costs, computed from made-up observations."""

from array import array
from pathlib import Path

import pytest
from warmfront.bench.load.samples import Recording
from warmfront.bench.run.blocks import Footprint
from warmfront.bench.run.equal_load import KNEE_SHARE, METRIC, EqualLoad, Observation, plan_of
from warmfront.bench.run.offered import Offered
from warmfront.bench.run.report_lines import Report, read_reports, reports
from warmfront.bench.run.session import sustained
from warmfront.bench.sizing.prices import MONTH_S, PriceError, Usage, read_prices
from warmfront.bench.statistics.summary import MIB
from warmfront.results import Block

PRICES = read_prices()


def observation(
    variant: str, environments: int, service_ms: float, *, share: float = KNEE_SHARE, rate: float = 70.0
) -> Observation:
    starts = [int(1e9 * number / rate) for number in range(100)]
    ends = [at + int(1e6 * service_ms) for at in starts]
    columns = [array("q", column) for column in (starts, starts, ends, [0] * 100, [0] * 100, [0] * 100, [0] * 100)]
    offered = Offered(
        Recording.from_columns(columns, 0, array("q")), 100 / rate, {"postgres": 0.1, "environments": 0.4}
    )
    footprint = Footprint(environments, environments, {"environments": 20 * MIB * environments, "backends": 5 * MIB})
    bills = (Report(200.0, 350.0, 1024, 60, 150.0), *[Report(service_ms, service_ms, 1024, 60)] * 9)
    return Observation(variant, share, rate, offered, footprint, bills)


@pytest.fixture
def equal() -> EqualLoad:
    observations = [observation("naive", 8 + number % 3, 40.0) for number in range(6)] + [
        observation("pooled", 2, 2.0)
    ] * 6
    observations += [observation(name, 1, ms, share=0.2, rate=20.0) for name, ms in (("naive", 40.0), ("pooled", 2.0))]
    return EqualLoad("product", ["naive", "pooled"], PRICES, observations=observations)


def test_the_ratio_of_memory_has_its_interval_and_an_a_a_row(equal: EqualLoad) -> None:
    rows = [row for row in equal.comparisons() if row.metric == METRIC]
    pair = next(row for row in rows if not row.same_variant)
    assert pair.ratio == pytest.approx((20 * 9 + 5) / (20 * 2 + 5))
    assert pair.low < pair.ratio < pair.high
    assert pair.verdict == "better"
    assert [row.candidate for row in rows if row.same_variant] == ["naive", "pooled"]
    parts = {row.metric for row in equal.summaries()}
    assert {METRIC, f"{METRIC}/environments", f"{METRIC}/backends", "environments_at_equal_load"} <= parts


def test_a_million_requests_cost_their_seconds_and_now_and_then_an_init(equal: EqualLoad) -> None:
    naive = max((own for own in equal.costs() if own.variant == "naive"), key=lambda own: own.offered_rate)
    inits = 9 / (70 * 7200) * 150
    assert naive.gb_seconds_per_million == pytest.approx(1000 * (40 + inits))
    assert naive.usd_per_million["x86_64"] == pytest.approx(0.2 + naive.gb_seconds_per_million * 0.0000166667)
    assert naive.usd_per_million["arm64"] < naive.usd_per_million["x86_64"]
    assert {own.offered_rate for own in equal.costs()} == {20.0, 70.0}


def test_what_is_asked_once_in_a_lifetime_pays_an_init_each_time() -> None:
    rare = Usage(rate=1e-6, environments=1, billed_ms=10, init_ms=200, memory_mb=1024)
    assert rare.gb_seconds_per_million(PRICES) == pytest.approx(210_000)
    assert rare.usd_per_month(PRICES)["x86_64"] == pytest.approx(
        rare.usd_per_million(PRICES)["x86_64"] * 1e-6 * MONTH_S / 1e6
    )


def test_worth_grows_with_the_rate_and_names_connections_and_database_cores(equal: EqualLoad) -> None:
    by_key = {(own.rate, own.variant): own for own in equal.worth()}
    assert by_key[1.0, "naive"].environments == 1  # 0.04 at once on average
    assert by_key[1000.0, "naive"].connections > 7 * by_key[1000.0, "pooled"].connections
    assert by_key[1000.0, "naive"].database_cores == pytest.approx(1.0)
    saved = [
        by_key[rate, "naive"].usd_per_month["x86_64"] - by_key[rate, "pooled"].usd_per_month["x86_64"]
        for rate in (1.0, 1000.0)
    ]
    assert saved[1] > 100 * saved[0] > 0


def test_the_curve_ends_at_70_percent_of_the_knee() -> None:
    share, rate, rounds = plan_of(100.0, 6)[-1]
    assert (share, rounds) == (0.7, 6)
    assert rate == pytest.approx(70.0)


def test_report_lines_are_read_as_text_and_as_json_and_nothing_else_is(tmp_path: Path) -> None:
    text = (
        "2026-01-01T00:00:00 REPORT RequestId: 8f5\tDuration: 2.51 ms\tBilled Duration: 123 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 40 MB\tInit Duration: 120.11 ms\t\n"
    )
    json = (
        '{"time":"2026","type":"platform.report","record":{"requestId":"8f5","metrics":{"durationMs":2.5,'
        '"billedDurationMs":3,"memorySizeMB":1024,"maxMemoryUsedMB":60},"status":"success"}}\n'
    )
    assert list(reports([text])) == [Report(2.51, 123.0, 128.0, 40.0, 120.11)]
    assert list(reports([json, "START RequestId: 8f5\n", '{"say": "platform.report"}\n'])) == [Report(2.5, 3, 1024, 60)]
    (tmp_path / "log").write_text(text + json)
    assert len(read_reports(tmp_path / "log", len(text))) == 1


def test_a_price_file_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("on = 2026-01-01\n")
    with pytest.raises(PriceError, match=r"mine\.toml: .*source"):
        read_prices(tmp_path / "mine.toml")
    with pytest.raises(PriceError, match="No such file"):
        read_prices(tmp_path / "nowhere.toml")


def test_the_offered_rate_follows_no_knee_above_what_the_closed_loop_got() -> None:
    """A knee of 291/s was found for a variant that 50 callers drive at 238/s: 70 % of it is an overload."""
    blocks = [
        Block("product", "naive", 0, 0, 0.0, 2.0, 476, 0, (1,)),
        Block("product", "pooled", 0, 1, 0.0, 1.0, 3000, 0, (1,)),
    ]
    assert sustained(291.0, blocks, "product", "naive") == 238.0
    assert sustained(150.0, blocks, "product", "naive") == 150.0
    assert sustained(291.0, [], "product", "naive") == 291.0
