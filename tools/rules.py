"""Generates Prometheus' alert rules from the template's alarms, so that thresholds have one source.

`python -m tools.rules` prints the rules, `--write` puts them into local/warmfront/emulator/observe/alerts.yaml. `--period-s`
and `--for-s` shorten them for a test.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
TEMPLATE: Final = ROOT / "template.yaml"
RULES: Final = ROOT / "local/warmfront/emulator/observe/alerts.yaml"
HEAD: Final = "# Made by `python -m tools.rules --write` of the alarms in template.yaml: change them there.\n"
LATENCY, ERRORS, CONNECTIONS = "ApiLatency", "ApiErrors", ("PooledConnections", "DistributedConnections")
_REQUESTS_MIN: Final = re.compile(r"requests >= (\d+)")


class RulesError(Exception):
    """The template's alarms cannot be turned into rules."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """The parts of a CloudWatch alarm that a rule needs."""

    name: str
    description: str
    threshold: float
    period_s: int
    for_s: int
    requests_min: int = 0
    """With fewer requests in a period, the alarm does not fire."""


class _Loader(yaml.SafeLoader):
    """Reads YAML and ignores CloudFormation's tags, which do not matter here."""


def _plain(loader: _Loader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _plain)


def read_resources(path: Path = TEMPLATE) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        resources: dict[str, Any] = yaml.load(file, _Loader)["Resources"]
    return resources


def read_alarm(resources: Mapping[str, Any], name: str) -> Alarm:
    try:
        properties = resources[name]["Properties"]
        stats = [each["MetricStat"] for each in properties.get("Metrics", []) if "MetricStat" in each]
        (period_s,) = {stat["Period"] for stat in stats} or {properties["Period"]}
        datapoints = properties.get("DatapointsToAlarm", properties["EvaluationPeriods"])
        if properties["ComparisonOperator"] != "GreaterThanThreshold":
            raise RulesError(f"alarm {name}: {properties['ComparisonOperator']} cannot be turned into a rule")
        expressions = " ".join(each.get("Expression", "") for each in properties.get("Metrics", []))
        enough = _REQUESTS_MIN.search(expressions)
        return Alarm(
            name,
            properties["AlarmDescription"],
            properties["Threshold"],
            period_s,
            period_s * datapoints,
            int(enough[1]) if enough else 0,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RulesError(f"template.yaml has no alarm {name} that a rule can be made of: {error!r}") from None


def read_alarms(resources: Mapping[str, Any]) -> tuple[Alarm, Alarm, Alarm]:
    """Return the alarms for latency, errors and connections. Raises RulesError if they contradict each other."""
    pools = [read_alarm(resources, name) for name in CONNECTIONS if name in resources]
    if len({(pool.threshold, pool.period_s, pool.for_s) for pool in pools}) != 1:
        raise RulesError(f"{', '.join(CONNECTIONS)} are missing or differ: there is one rule for all of them")
    return read_alarm(resources, LATENCY), read_alarm(resources, ERRORS), pools[0]


def make_rules(
    alarms: tuple[Alarm, Alarm, Alarm], *, period_s: int | None = None, for_s: int | None = None
) -> dict[str, Any]:
    """Return the rules file as a document.

    "3 of 5 periods" becomes three periods in a row, because Prometheus does not count how often a condition failed.
    """
    latency, errors, pools = alarms

    def window(alarm: Alarm) -> str:
        return f"[{period_s or alarm.period_s}s]"

    def rule(alert: str, alarm: Alarm, expression: str, summary: str) -> dict[str, Any]:
        return {
            "alert": alert,
            "expr": expression,
            "for": f"{alarm.for_s if for_s is None else for_s}s",
            "labels": {"severity": "page", "alarm": alarm.name},
            "annotations": {"summary": summary},
        }

    requests = "warmfront_requests_total"
    p99 = (
        "1000 * histogram_quantile(0.99, sum by (api, le)"
        f" (rate(warmfront_request_duration_seconds_bucket{window(latency)}))) > {latency.threshold:g}"
    )
    error_rate = (
        f'100 * sum by (api) (rate({requests}{{status_class="5xx"}}{window(errors)}))'
        f" / sum by (api) (rate({requests}{window(errors)})) > {errors.threshold:g}"
        f" and sum by (api) (increase({requests}{window(errors)})) >= {errors.requests_min}"
    )
    pool_use = f"100 * max by (function) (max_over_time(warmfront_pool_utilisation_ratio{window(pools)})) > {pools.threshold:g}"
    rules = [
        rule("LatencyP99", latency, p99, 'p99 of {{ $labels.api }} is {{ printf "%.4g" $value }} ms'),
        rule("ErrorRate", errors, error_rate, '{{ printf "%.4g" $value }} % of {{ $labels.api }}\'s requests get 5xx'),
        rule(
            "PoolUtilisation",
            pools,
            pool_use,
            '{{ printf "%.4g" $value }} % of {{ $labels.function }}\'s connections are open',
        ),
    ]
    return {"groups": [{"name": "warmfront", "rules": rules}]}


def render(document: Mapping[str, Any]) -> str:
    return HEAD + yaml.safe_dump(document, sort_keys=False, width=10_000)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.rules", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put them into {RULES.relative_to(ROOT)}")
    parser.add_argument("--period-s", type=int, help="seconds that rates are taken over (default: the alarms' own)")
    parser.add_argument(
        "--for-s", type=int, help="seconds that a rule must hold before it fires (default: the alarms')"
    )
    args = parser.parse_args(argv)
    try:
        text = render(make_rules(read_alarms(read_resources()), period_s=args.period_s, for_s=args.for_s))
    except RulesError as error:
        print(f"rules: {error}", file=sys.stderr)
        return 2
    if args.write:
        RULES.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
