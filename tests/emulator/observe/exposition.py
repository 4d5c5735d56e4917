"""Reads expositions the way strict readers do: no series, label or family twice, and both parsers satisfied."""

from collections import Counter

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import CollectorRegistry

Sample = tuple[str, frozenset[tuple[str, str]]]


def strictly_read(registry: CollectorRegistry) -> dict[Sample, float]:
    """Every sample of a scrape, after both of its forms were checked."""
    text = generate_latest(registry).decode()
    families = [line.split(" ")[2] for line in text.split("\n") if line.startswith("# TYPE ")]
    assert [name for name, count in Counter(families).items() if count > 1] == []
    list(parse_open_metrics(generate_open_metrics(registry).decode()))  # type: ignore[no-untyped-call]
    samples: dict[Sample, float] = {}
    owners: dict[str, str] = {}
    for family in parse_text(text):
        for sample in family.samples:
            assert owners.setdefault(sample.name, family.name) == family.name, f"{sample.name} is in two families"
            # An empty label is the same to Prometheus as none.
            labels = frozenset((name, value) for name, value in sample.labels.items() if value)
            assert (sample.name, labels) not in samples, f"twice: {sample.name} {dict(labels)}"
            samples[sample.name, labels] = sample.value
    for line in text.split("\n"):
        _assert_labels_once(line)
    return samples


def _assert_labels_once(line: str) -> None:
    """The parsers take a label twice and keep the last one."""
    if line.startswith("#") or "{" not in line:
        return
    names, rest = [], line.partition("{")[2]
    while not rest.startswith("}"):
        name, _, rest = rest.partition('="')
        names.append(name.lstrip(","))
        end = 0
        while rest[end] != '"':
            end += 2 if rest[end] == "\\" else 1
        rest = rest[end + 1 :]
    assert len(names) == len(set(names)), line
