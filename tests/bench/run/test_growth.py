"""The order a figure grows in, and workloads that have their size filled in."""

import math
from pathlib import Path

import pytest
from warmfront.bench.load.workloads import GROWTH_WORKLOADS
from warmfront.bench.run.growth import Point, fitted_order, growth_of, sized_workloads

ROWS = (1e4, 1e5, 1e6)


@pytest.mark.parametrize(
    ("values", "order"),
    [
        ((2.0, 2.2, 2.1), "O(1)"),
        (tuple(1 + 0.5 * math.log(n / 1e3) for n in ROWS), "O(log N)"),
        (tuple(2 + n / 1e4 for n in ROWS), "O(N)"),
        ((9.0, 4.0, 2.0), "O(1)"),
        ((1.0, 9.0), ""),
    ],
)
def test_the_order_is_told_from_the_figures(values: tuple[float, ...], order: str) -> None:
    assert fitted_order(ROWS[: len(values)], values) == order


def test_a_growth_has_an_interval_at_each_size() -> None:
    points = [Point(int(rows), tuple(range(1000, 2000))) for rows in ROWS]
    growth = growth_of("product, p50", "pooled", "rows", points)
    assert growth.fitted == "O(1)"
    assert all(low < value < high for low, value, high in zip(growth.low, growth.values, growth.high, strict=True))


def test_a_size_is_filled_into_the_workload() -> None:
    with sized_workloads(GROWTH_WORKLOADS, 20_000) as file:
        assert file.setup_for(("pooled",))[0].event == {
            "action": "seed", "databases": ["pooled"], "products": 20_000, "orders": 2_000,
        }  # fmt: skip
        assert file.workload("product").requests[0].draws[0].high == 20_000
        assert file.deepest == 2_000
        path = file.path
    assert not Path(path).exists()
