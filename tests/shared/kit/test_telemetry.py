"""What the metrics of an invocation look like in its log."""

import json
from collections.abc import Iterator

import pytest

from shared.kit import telemetry


@pytest.fixture(autouse=True)
def nothing_measured() -> Iterator[None]:
    telemetry.emf.metric_set.clear()
    yield
    telemetry.emf.metric_set.clear()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, list[float]]]:
    """The values of each line, by metric."""
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [
        {
            metric["Name"]: line[metric["Name"]]
            for each in line["_aws"]["CloudWatchMetrics"]
            for metric in each["Metrics"]
        }
        for line in written
    ]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_no_line_has_more_values_of_a_metric_than_cloudwatch_takes(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(count):
        telemetry.measure(telemetry.ACQUIRE_WAIT, float(number))
        telemetry.measure(telemetry.CONNECTIONS_OPEN, 1.0)
    telemetry.metrics.flush_metrics()
    written = lines(capsys)
    assert len(written) == -(-count // 100)
    for name in (telemetry.ACQUIRE_WAIT, telemetry.CONNECTIONS_OPEN):
        assert all(len(line[name]) <= 100 for line in written)
    assert [value for line in written for value in line[telemetry.ACQUIRE_WAIT]] == [float(n) for n in range(count)]
    assert sum(len(line[telemetry.CONNECTIONS_OPEN]) for line in written) == count


def test_a_metric_that_fills_a_line_does_not_lose_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.measure(telemetry.CACHE_HIT, 1.0)
    for _ in range(101):
        telemetry.measure(telemetry.ACQUIRE_WAIT, 0.0)
    telemetry.metrics.flush_metrics()
    assert [len(line.get(telemetry.CACHE_HIT, [])) for line in lines(capsys)] == [1, 0]
